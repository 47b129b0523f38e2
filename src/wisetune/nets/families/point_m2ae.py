"""Point-M2AE (Zhang et al., NeurIPS 2022): a pyramid of three levels, each a transformer over patches of the level below.

The tokens of a level come from patches of the tokens below it; attention is local, within a radius. There is no class token. Module names and
shapes are those of the released code, so that its files load by name.

There are three ways out of the pyramid, which a user must be able to tell apart. ``norm=final`` is the classifier's, with a last norm that
pre-training does not know. ``norm=levels`` is the pre-training model's, with that model's norm of the last level, on which its linear SVM was
measured. As published the second depends on the other clouds of a batch: patches that are nobody's neighbour are dropped, the rest
padded to the longest cloud with tokens at the origin that others attend to, and attention is not local. As intended it is the same pyramid as
the first. ``norm=each`` is part segmentation's: every level with its norm of pre-training.

Pre-training (``masked_pyramid``) climbs the pyramid over visible patches alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import LEVELS, Anatomy, Backbone, BackboneSpec, Entered, Groups, Level, Masking, Preset, Site, Stage
from wisetune.nets.categories import SHAPENETPART
from wisetune.nets.official_fits import Reading, official_fit
from wisetune.nets.parts import PyramidParts
from wisetune.nets.readout import READS, Tokens, by_role, readout
from wisetune.nets.tokenizer import MiniPointNet
from wisetune.nets.transformer import Context, PatchTokens, Transformer, initialise, up_to
from wisetune.points.neighbours import gather, patches
from wisetune.spec import option

if TYPE_CHECKING:
    from wisetune.nets.masked_pyramid import MaskedPyramid

_NEVER = -100000.0
"""What the released code adds to the score of a pair that shall not be attended to."""


@dataclasses.dataclass(frozen=True)
class PointM2AESpec(BackboneSpec):
    """Sizes and reading of a Point-M2AE, level by level from the points up. ``radii`` bound the local attention."""

    name: ClassVar[str] = "point-m2ae"
    masking: ClassVar[Masking] = Masking(mask=0.8, decoder_depth=1)

    # Far above any published size. Specs are read from files that nobody vouches for, so none may ask for the whole memory.
    points: int = option(1024, least=1, most=1 << 20, means="points of a cloud")
    groups: tuple[int, ...] = option((512, 256, 64), least=1, most=1 << 14, means="patches of each level, from the points up")
    group_sizes: tuple[int, ...] = option((16, 8, 8), least=1, most=1 << 14, means="points, or patches below, of a patch of each level")
    widths: tuple[int, ...] = option((96, 192, 384), least=1, most=1 << 13, means="numbers of a token of each level")
    depths: tuple[int, ...] = option((5, 5, 5), least=1, most=1 << 8, means="transformer blocks of each level")
    heads: int = option(6, least=1, most=1 << 8, means="attention heads of a block; they divide the width")
    radii: tuple[float, ...] = option((0.32, 0.64, 1.28), above=0, means="how far attention reaches at each level")
    tokenizer: tuple[int, ...] = option(
        (128, 256, 512), least=1, most=1 << 13, means="widths inside the small PointNet that makes a patch a token"
    )
    norm: Literal["final", "levels", "each"] = option(
        "final",
        means="the classifier's way out; or that of pre-training, on which its linear SVM was measured; or part segmentation's, each level's",
    )
    readout: str = option("total", means=READS)
    drop_path: float = option(0.1, least=0, below=1, means="drop path of the last block in training")
    initial: Literal["published", "fan-in"] = option(
        "published", means="fresh weights as published, or as torch draws them, which suits narrow ones"
    )
    reading: Reading = option("as_intended", means="as the paper means it, or as the published code does it")

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("groups", "group_sizes", "widths", "depths", "radii", "tokenizer"):
            value = getattr(self, field)
            if len(value) != LEVELS:
                raise UsageError(f"'{self.name}' has {field}={value}; it takes one number for each of {LEVELS} levels, such as 512+256+64.")
        if any(width % self.heads for width in self.widths):
            raise UsageError(f"'{self.name}' has widths={self.widths} and heads={self.heads}; widths must be multiples of the heads.")
        below = (self.points, *self.groups[:-1])
        for level, (there, count, size) in enumerate(zip(below, self.groups, self.group_sizes, strict=True)):
            if max(count, size) > there:
                raise UsageError(
                    f"'{self.name}' wants {count} patches of {size} at level {level}, which has {there} points or patches below it; give fewer."
                )
        readout(self.readout, 0)

    def build(self) -> PointM2AE:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return PointM2AE(self)

    def masked(self, decoder_depth: int) -> MaskedPyramid:
        """The released pre-training model; the last norm of the classifier is not in it."""
        from wisetune.nets.masked_pyramid import MaskedPyramid  # it imports this module

        return MaskedPyramid(dataclasses.replace(self, norm="levels"), decoder_depth)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The official configurations, the feature of its linear SVM, part segmentation, and ``mini``."""
        return PRESETS

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Widths, depths and tokenizer; neither heads nor groups can be seen in shapes."""
        at = "h_encoder."
        first = shapes.get(f"{at}token_embed.0.first_conv.3.weight", ())
        ends = [shapes.get(f"{at}token_embed.{level}.second_conv.3.weight", ()) for level in range(LEVELS)]
        depths = tuple(
            len({key.split(".")[4] for key in shapes if key.startswith(f"{at}encoder_blocks.{level}.")}) for level in range(LEVELS)
        )
        if len(first) != 3 or not all(depths) or any(len(end) != 3 for end in ends):
            return None
        return {"widths": tuple(end[0] for end in ends), "depths": depths, "tokenizer": (first[1], first[0], ends[0][1])}


class Pyramid(nn.Module):
    """What the released code calls the hierarchical encoder."""

    def __init__(self, spec: PointM2AESpec) -> None:
        super().__init__()
        self.token_embed, self.encoder_pos_embeds, self.encoder_blocks = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        total, before, below = sum(spec.depths), 0, 3
        for level, (width, depth) in enumerate(zip(spec.widths, spec.depths, strict=True)):
            hidden = (spec.tokenizer[0], spec.tokenizer[1], spec.tokenizer[2]) if level == 0 else (below, below, width)
            self.token_embed.append(MiniPointNet(width, hidden, below))
            self.encoder_pos_embeds.append(nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width)))
            rates = [spec.drop_path * block / max(total - 1, 1) for block in range(before, before + depth)]
            self.encoder_blocks.append(Transformer(width, depth, spec.heads, rates))
            before, below = before + depth, width
        if spec.norm != "final":
            # The vector that a probe sees has passed the last alone; those of the levels below are part segmentation's, and the decoder's.
            kept = range(LEVELS - 1 if spec.norm == "levels" else 0, LEVELS)
            self.encoder_norms = nn.ModuleDict({str(level): nn.LayerNorm(spec.widths[level]) for level in kept})


class Visible(NamedTuple):
    """The visible patches of one level."""

    visible: Bool[torch.Tensor, "b g"]
    """Which they are."""
    filled: Bool[torch.Tensor, "b v"]
    """Which of the tokens are theirs; clouds differ in how many are visible, and the rest of the room is padding."""
    tokens: Float[torch.Tensor, "b v d"]
    extra: Float[torch.Tensor, "b e d"]
    """A tuning's."""


class PointM2AE(Backbone):
    """The encoder of Point-M2AE without masking."""

    head_name = "cls_head_finetune"
    spare = ("h_encoder.encoder_norms.",)
    own_grouped = 2 * LEVELS
    pyramid = True

    def __init__(self, spec: PointM2AESpec) -> None:
        super().__init__()
        self._spec = spec
        self.width, self.points, self.readout, self.leads = spec.widths[-1], spec.points, spec.readout, 0
        self.h_encoder = Pyramid(spec)
        if spec.norm == "final":
            self.norm = nn.LayerNorm(self.width)
        if spec.initial == "published":
            self.apply(initialise)

    @property
    def spec(self) -> PointM2AESpec:
        """What it was built from."""
        return self._spec

    @property
    def fewest_points(self) -> int:
        """Of the first level; the others' are bounded by the spec."""
        further = (max(cut.groups, cut.group_size) for cut in self.further if cut.stage == 0)
        return max(self.spec.groups[0], self.spec.group_sizes[0], *further)

    @property
    def anatomy(self) -> Anatomy:
        """One stage a level, from the points up, each with its level's width."""
        at = "h_encoder."
        stages = tuple(
            Stage(
                f"{at}token_embed.{level}",
                tokens=f"{at}token_embed.{level}",
                position=f"{at}encoder_pos_embeds.{level}",
                blocks=f"{at}encoder_blocks.{level}",
                sites=tuple(Site.of(f"{at}encoder_blocks.{level}.blocks.{block}", width) for block in range(depth)),
                read=(depth - 1,),
                groups=self.spec.groups[level],
                group_size=self.spec.group_sizes[level],
            )
            for level, (width, depth) in enumerate(zip(self.spec.widths, self.spec.depths, strict=True))
        )
        if self.spec.norm == "final":
            return Anatomy(stages, norms=("norm",), class_token=(), fresh=("norm.weight", "norm.bias"))
        return Anatomy(
            stages, norms=tuple(f"{at}encoder_norms.{level}" for level in self.h_encoder.encoder_norms), class_token=(), fresh=()
        )

    def group(self, points: Float[torch.Tensor, "b n 3"]) -> Groups:
        """Of each level the patch centres ``[b, g, 3]``; the first level's points relative to them ``[b, g, k, 3]``, above it the patches' indices.

        Then the same of further patches.
        """
        found: list[torch.Tensor] = []
        for level, (count, size) in enumerate(zip(self.spec.groups, self.spec.group_sizes, strict=True)):
            found += self._patches(level, points if level == 0 else found[-2], count, size)
        for cut in self.further:
            found += self._patches(cut.stage, points if cut.stage == 0 else found[2 * cut.stage - 2], cut.groups, cut.group_size)
        return tuple(found)

    def _patches(self, level: int, below: Float[torch.Tensor, "b n 3"], count: int, size: int) -> list[torch.Tensor]:
        cut = patches(below, count, size, self.sampling)
        centres = gather(below, cut.centres)
        return [centres, gather(below, cut.members) - centres[:, :, None] if level == 0 else cut.members]

    def entering(self, groups: Groups, site: int) -> Entered | None:
        """Not where there are further patches, or where how many patches there are depends on the batch."""
        if self.further or self.ragged:
            return None
        level, block = self.anatomy.place(site)
        own = self._entered(level, self._states(groups, below=level)[-1:], groups)
        return Entered(level, block, up_to(self.h_encoder.encoder_blocks[level], block, *own))

    def encode(self, groups: Groups, entered: Entered | None = None) -> Tokens:
        """Tokens of the last level after its norm."""
        top = groups[2 * LEVELS - 2]
        if self.ragged:
            everything = torch.ones_like(top[..., 0], dtype=torch.bool)
            last = self.climb(groups, self.visible(groups, everything))[-1]
            tokens = torch.cat([last.tokens, last.extra], dim=1)
        else:
            tokens = self._states(groups, entered)[-1]
        norm = self.norm if self.spec.norm == "final" else self.h_encoder.encoder_norms[str(LEVELS - 1)]
        return by_role(norm(tokens), 0, top.shape[1])

    @property
    def ragged(self) -> bool:
        """In the way out of pre-training, as published."""
        return self.spec.norm == "levels" and self.spec.reading == "as_published"

    def level_centres(self, groups: Groups) -> tuple[Float[torch.Tensor, "b _ 3"], ...]:
        """Each level's patches."""
        return groups[0 : 2 * LEVELS : 2]

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Each level's width.

        Raises:
            UsageError: this backbone was built without these levels' norms.
        """
        self._refuse_one_norm()
        return self.spec.widths

    def levels(self, groups: Groups) -> tuple[Level, ...]:
        """Each level's tokens after its own norm; errors as ``level_widths``."""
        self._refuse_one_norm()
        states = enumerate(zip(self.level_centres(groups), self._states(groups), strict=True))
        norms = self.h_encoder.encoder_norms
        return tuple(Level(places, by_role(norms[str(level)](tokens), 0, places.shape[1])) for level, (places, tokens) in states)

    def _refuse_one_norm(self) -> None:
        if self.spec.norm != "each":
            raise UsageError(f"'{self.spec}' has no norm for each level; part segmentation needs norm=each, as in preset='shapenetpart'.")

    def _states(self, groups: Groups, entered: Entered | None = None, below: int = LEVELS) -> list[Float[torch.Tensor, "b _ _"]]:
        """Tokens of each level ``below`` some, from the points up, extra ones behind those of patches; these are no member of a patch above.

        Given what enters a block, from its level on.
        """
        states: list[torch.Tensor] = []
        for level in range(0 if entered is None else entered.stage, below):
            if entered is not None and level == entered.stage:
                x, context, first = entered.tokens, self._context(level, groups[2 * level]), entered.block
            else:
                (x, context), first = self._entered(level, states[-1:], groups), 0
            (tokens,) = self.h_encoder.encoder_blocks[level](x, context, first=first)
            states.append(tokens)
        return states

    def _entered(self, level: int, states: list[torch.Tensor], groups: Groups) -> tuple[Float[torch.Tensor, "b g c"], Context]:
        """What enters the blocks of a level, of the state of the one below, if there is one: the patches' tokens, and what is around them."""
        pairs = list(zip(groups[0::2], groups[1::2], strict=True))
        below = states[-1][:, : groups[2 * level - 2].shape[1]] if states else None
        own = self._patch_tokens(level, below, *pairs[level])
        further = zip(self.further, pairs[LEVELS:], strict=True)
        more = tuple(self._patch_tokens(level, below, *pair) for wanted, pair in further if wanted.stage == level)
        return own.tokens, self._context(level, own.centres, own.position)._replace(further=more)

    def _context(self, level: int, places: Float[torch.Tensor, "b g 3"], position: Float[torch.Tensor, "b g c"] | None = None) -> Context:
        """What is around a level's patches."""
        position = self.h_encoder.encoder_pos_embeds[level](places) if position is None else position
        reach = self.spec.radii[level]
        return Context(position, torch.cdist(places, places) < reach, places, reach=reach)

    def _patch_tokens(
        self, level: int, below: Float[torch.Tensor, "b n c"] | None, places: Float[torch.Tensor, "b g 3"], members: torch.Tensor
    ) -> PatchTokens:
        inside = members if below is None else gather(below, members)
        return PatchTokens(self.h_encoder.token_embed[level](inside), self.h_encoder.encoder_pos_embeds[level](places), places)

    def visible(self, groups: Groups, top: Bool[torch.Tensor, "b g"]) -> tuple[Bool[torch.Tensor, "b _"], ...]:
        """Of each level which patches are visible: those of the last are given, below it they are the members of visible patches.

        As published every patch that is not visible counts as one whose members are the very first patch of the batch's first cloud.
        """
        members, found = groups[1::2], [top]
        for level in range(LEVELS - 1, 0, -1):
            above = found[0]
            counts = torch.zeros(members[level - 1].shape[:2], device=above.device)
            counts.scatter_add_(1, members[level].flatten(1), above[:, :, None].expand(members[level].shape).flatten(1).to(counts.dtype))
            below = counts > 0
            if self.spec.reading == "as_published":
                below[:1, :1] |= ~above.all()
            found.insert(0, below)
        return tuple(found)

    def climb(self, groups: Groups, visible: tuple[Bool[torch.Tensor, "b _"], ...]) -> tuple[Visible, ...]:
        """The visible patches of each level, before any norm; each attends to all others of its cloud.

        As published also to padding within the radius, and hidden patches are tokenised too, which BatchNorm's statistics notice.
        """
        centres, members, found = groups[0::2], groups[1::2], list[Visible]()
        published, tokens = self.spec.reading == "as_published", members[0]
        for level, (places, here) in enumerate(zip(centres, visible, strict=True)):
            rows, columns = here.nonzero(as_tuple=True)
            embed = self.h_encoder.token_embed[level]
            if published:
                made = embed(tokens if level == 0 else gather(tokens, members[level]))
                some = made[rows, columns]
            else:
                inside = members[level][rows, columns]
                some = embed(inside if level == 0 else tokens[rows[:, None], inside])
                made = some.new_zeros(*here.shape, some.shape[-1])
            filled = _filled(here)
            some, at = _padded(some, filled), _padded(places[rows, columns], filled)
            if published:
                far = torch.cdist(at, at) >= self.spec.radii[level]
                near = (far & ~(filled[:, :, None] & filled[:, None])).to(some.dtype) * _NEVER
            else:
                near = filled[:, None].expand(-1, filled.shape[1], -1)
            some, extra = self._attend(level, some, at, near).tensor_split([filled.shape[1]], dim=1)
            tokens = made.index_put((rows, columns), some[filled])
            found.append(Visible(here, filled, some, extra))
        return tuple(found)

    def _attend(self, level: int, tokens: torch.Tensor, places: torch.Tensor, near: torch.Tensor) -> Float[torch.Tensor, "b g d"]:
        pyramid = self.h_encoder
        (tokens,) = pyramid.encoder_blocks[level](tokens, Context(pyramid.encoder_pos_embeds[level](places), near, places))
        return tokens

    def pool(self, tokens: Tokens) -> Float[torch.Tensor, "b f"]:
        """The vector that a head sees; as published the maximum of ``mean+max`` leaves the first patch out."""
        if self.readout == "mean+max" and self.spec.reading == "as_published":
            return torch.cat([tokens.patch.mean(dim=1), tokens.patch[:, 1:].amax(dim=1)], dim=-1)
        return super().pool(tokens)

    @staticmethod
    def rename(key: str) -> str | None:
        """Pre-training files have the classifier's names, beside a decoder."""
        return None if key.startswith(_ELSEWHERE) else key


def _filled(visible: Bool[torch.Tensor, "b g"]) -> Bool[torch.Tensor, "b v"]:
    """Room for the visible patches of the cloud that has most of them, and how much of it each cloud takes."""
    counts = visible.sum(dim=1)
    return torch.arange(int(counts.max()), device=visible.device) < counts[:, None]


def _padded(rows: Float[torch.Tensor, "n d"], filled: Bool[torch.Tensor, "b v"]) -> Float[torch.Tensor, "b v d"]:
    """Rows, cloud after cloud, in the places for them; zeros in the others."""
    return rows.new_zeros(*filled.shape, rows.shape[-1]).index_put(filled.nonzero(as_tuple=True), rows)


_ELSEWHERE = (
    *("mask_token", "h_decoder.", "decoder_pos_embeds.", "token_prop.", "decoder_norm.", "rec_head."),
    *PyramidParts.prefixes(),
)
"""Parts of the pre-training model, and of the part segmentation model."""

_SCAN = (32, 16, 16)
PRESETS: dict[str, Preset] = {
    "modelnet-1k": Preset(
        PointM2AESpec(),
        40,
        "mlp3",
        "Point-M2AE cfgs/fine-tuning/modelnet40.yaml",
        official_fit(1024, of=8192, times=49, smoothing=0.3, smoothing_over="others"),
    ),
    "scanobjectnn": Preset(
        PointM2AESpec(points=2048, group_sizes=_SCAN, readout="mean+max"),
        15,
        "mlp3",
        "Point-M2AE cfgs/fine-tuning/scan_pb.yaml",
        official_fit(2048, of=2048, votes=None),
    ),
    "shapenetpart": Preset(
        PointM2AESpec(points=2048, norm="each"), SHAPENETPART, "parts-pyramid", "Point-M2AE segmentation/Point_M2AE_SEG.py"
    ),
    "svm": Preset(PointM2AESpec(norm="levels"), None, "linear", "the feature of Point-M2AE's linear SVM, cfgs/linear-svm/modelnet40.yaml"),
    "pretrain": Preset(
        PointM2AESpec(points=2048, norm="levels"), None, "linear", "the encoder of Point-M2AE cfgs/pre-training/point-m2ae.yaml"
    ),
    "mini": Preset(
        PointM2AESpec(
            groups=(128, 64, 16), widths=(48, 96, 192), depths=(2, 2, 2), heads=3, tokenizer=(32, 64, 128), drop_path=0.0, initial="fan-in"
        ),
        None,
        "linear",
        "wisetune: the same code at a size for two cores",
    ),
}
"""Settings by name; the sizes of the official ones are those of the configuration files named."""
