"""The plain transformer over patches: Point-BERT began it, and Point-MAE, ACT and MaskPoint share it but for a few lines each.

Patches of points become tokens (the mini-PointNet), a class token may stand before them, and positions are added before every block. Module
names and shapes are those of the released codes, so that their files load by name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import LEVELS, Anatomy, Backbone, BackboneSpec, Entered, Groups, Level, Site, Stage
from wisetune.nets.official_fits import Reading
from wisetune.nets.readout import READS, Tokens, by_role, lead, readout
from wisetune.nets.tokenizer import MiniPointNet
from wisetune.nets.transformer import Block, Context, PatchTokens, Transformer, initialise, up_to
from wisetune.points.neighbours import NeighbourRule, cut
from wisetune.spec import option

POSITION_HIDDEN = 128
WIDTH_MADE = "numbers that the tokenizer makes, with a linear map to the width; none: the width itself, and no map"
"""What the option of this name means, in every family."""
PROJECTED = "projected"
"""The readout of some pre-training codes' linear SVM: the class token through the projection of their contrast."""
_PROJECTION = 512


@dataclasses.dataclass(frozen=True)
class PlainSpec(BackboneSpec):
    """Sizes and reading of such a backbone. ``tokenizer`` are the hidden widths of the mini-PointNet.

    ``token_width`` is the width of what it makes, with a linear map to ``width`` after it; none means ``width`` and no map. ``initial`` is the
    rule of fresh weights: ``published`` draws every map with deviation 0.02, under which the signal of a narrow tokenizer all but
    vanishes; ``fan-in`` is torch's default.
    """

    projects: ClassVar[bool] = False
    """Whether the released pre-training model has a projection of the class token, on which its linear SVM was measured."""
    # Far above any published size. Specs are read from files that nobody vouches for, so none may ask for the whole memory.
    points: int = option(1024, least=1, most=1 << 20, means="points of a cloud")
    groups: int = option(64, least=1, most=1 << 16, means="patches of a cloud")
    group_size: int = option(32, least=1, most=1 << 16, means="points of a patch")
    width: int = option(384, least=1, most=1 << 13, means="numbers of a token")
    depth: int = option(12, least=1, most=1 << 8, means="transformer blocks")
    heads: int = option(6, least=1, most=1 << 8, means="attention heads of a block; they divide the width")
    tokenizer: tuple[int, ...] = option(
        (128, 256, 512), least=1, most=1 << 13, means="widths inside the small PointNet that makes a patch a token"
    )
    readout: str = option("lead+max", means=READS)
    drop_path: float = option(0.1, least=0, below=1, means="drop path of the last block in training")
    initial: Literal["published", "fan-in"] = option(
        "published", means="fresh weights as published, or as torch draws them, which suits narrow ones"
    )
    reading: Reading = option("as_intended", means="as the paper means it, or as the published code does it")
    token_width: int | None = option(None, least=1, most=1 << 13, absent=None, means=WIDTH_MADE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.tokenizer, tuple) or len(self.tokenizer) != 3:
            raise UsageError(f"'{self.name}' has tokenizer={self.tokenizer}; it takes three widths, for example 128+256+512.")
        if self.width % self.heads:
            raise UsageError(f"'{self.name}' has width={self.width} and heads={self.heads}; the width must be a multiple of the heads.")
        if max(self.groups, self.group_size) > self.points:
            wanted = f"groups={self.groups} of group-size={self.group_size}"
            raise UsageError(f"'{self.name}' has {wanted}, but clouds of points={self.points}; give clouds more points.")
        if not (self.projects and self.readout == PROJECTED):
            readout(self.readout, self.leads)

    @property
    def leads(self) -> int:
        """How many tokens stand before those of patches."""
        return 1

    @staticmethod
    def sizes_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Width, depth and tokenizer, by this module's names; neither the heads nor the groups can be seen in shapes."""
        first, second = shapes.get("encoder.first_conv.3.weight", ()), shapes.get("encoder.second_conv.3.weight", ())
        depth = len({key.split(".")[2] for key in shapes if key.startswith("blocks.blocks.")})
        bridge = shapes.get("reduce_dim.weight")
        width = shapes.get("norm.weight", ())
        if len(first) != 3 or len(second) != 3 or not depth or width != (bridge or second)[:1]:
            return None
        found: dict[str, object] = {"width": width[0], "depth": depth, "tokenizer": (first[1], first[0], second[1])}
        return found | ({"token_width": second[0]} if bridge else {})


@dataclasses.dataclass(frozen=True)
class BareSpec(PlainSpec):
    """The same of families that also come without a class token: pre-trained without it, or for part segmentation."""

    class_token: bool = option(True, means="whether a class token stands before the patches")

    @property
    def leads(self) -> int:
        """The class token, if there is one."""
        return int(self.class_token)


P = TypeVar("P", bound=PlainSpec)


def small(kind: type[P], **options: Any) -> P:
    """A size for tests and for two cores, with weights that a narrow tokenizer can begin with."""
    sizes: dict[str, Any] = {"groups": 32, "width": 128, "depth": 6, "heads": 4, "tokenizer": (32, 64, 128)}
    return kind(**sizes | {"drop_path": 0.0, "initial": "fan-in"} | options)


class Plain(Backbone):
    """The encoder without masking, with or without class token."""

    head_name = "cls_head_finetune"
    leading: ClassVar[tuple[str, ...]] = ("cls",)
    """Of each lead token what its parameters' names begin with: ``cls_token`` and ``cls_pos``."""
    block: ClassVar[type[Block]] = Block
    fresh: ClassVar[tuple[str, ...]] = ()
    """Parameters that the released pre-training file lacks."""
    aside: ClassVar[tuple[str, ...]] = ()
    """Of what no other plain encoder has, what stands in its parameters' names."""
    lent: ClassVar[str] = ""
    """What must be said of this family's weights where they stand in another's encoder."""
    published_neighbours: ClassVar[NeighbourRule] = "exact"

    def __init__(self, spec: PlainSpec) -> None:
        super().__init__()
        self._spec = spec
        self.width, self.points, self.readout, self.leads = spec.width, spec.points, spec.readout, spec.leads
        for name in self.leading[: self.leads]:
            self.register_parameter(f"{name}_token", nn.Parameter(torch.zeros(1, 1, spec.width)))
            self.register_parameter(f"{name}_pos", nn.Parameter(torch.randn(1, 1, spec.width)))
        self.encoder = MiniPointNet(spec.token_width or spec.width, (spec.tokenizer[0], spec.tokenizer[1], spec.tokenizer[2]))
        if spec.token_width is not None:
            self.reduce_dim = nn.Linear(spec.token_width, spec.width)
        self.pos_embed = nn.Sequential(nn.Linear(3, POSITION_HIDDEN), nn.GELU(), nn.Linear(POSITION_HIDDEN, spec.width))
        self.blocks = Transformer(spec.width, spec.depth, spec.heads, spec.drop_path, self.block)
        self.norm = nn.LayerNorm(spec.width)
        if spec.readout == PROJECTED:
            self.cls_head = nn.Sequential(nn.Linear(spec.width, _PROJECTION), nn.GELU(), nn.Linear(_PROJECTION, _PROJECTION))
        if spec.initial == "published":
            self.apply(initialise)
        for part in ("token", "pos"):
            for value in self._lead(part):
                nn.init.trunc_normal_(value, std=0.02)

    @property
    def spec(self) -> PlainSpec:
        """What it was built from."""
        return self._spec

    @property
    def neighbours(self) -> NeighbourRule:
        """The rule by which a patch's points are."""
        return self.published_neighbours if self.spec.reading == "as_published" else "exact"

    @property
    def fewest_points(self) -> int:
        """A patch centre is chosen once, and a patch's points are different ones."""
        return max(self.spec.groups, self.spec.group_size, *(max(cut.groups, cut.group_size) for cut in self.further))

    @property
    def feature_width(self) -> int:
        """Length of the vector that a head sees."""
        return _PROJECTION if self.readout == PROJECTED else super().feature_width

    @property
    def anatomy(self) -> Anatomy:
        """One stage, one site a block."""
        stage = Stage(
            "encoder",
            tokens="encoder" if self.spec.token_width is None else "reduce_dim",
            position="pos_embed",
            blocks="blocks",
            sites=tuple(Site.of(f"blocks.blocks.{block}", self.width) for block in range(self.spec.depth)),
            read=tuple(math.ceil(self.spec.depth * (level + 1) / LEVELS) - 1 for level in range(LEVELS)),
            groups=self.spec.groups,
            group_size=self.spec.group_size,
        )
        return Anatomy(
            (stage,), norms=("norm",), class_token=("cls_token", "cls_pos") if self.leads else (), fresh=self.fresh if self.leads else ()
        )

    def group(self, points: Float[torch.Tensor, "b n 3"]) -> Groups:
        """Patch centres ``[b, g, 3]`` and the patches' points relative to them ``[b, g, k, 3]``; then those of further patches."""
        wanted = ((self.spec.groups, self.spec.group_size), *((cut.groups, cut.group_size) for cut in self.further))
        return tuple(part for count, size in wanted for part in cut(points, count, size, self.sampling, self.neighbours))

    def entering(self, groups: Groups, site: int) -> Entered | None:
        """Not where there are further patches, whose tokens come from before the blocks too."""
        if self.further:
            return None
        return Entered(0, site, up_to(self.blocks, site, *self._embed(groups)))

    def encode(self, groups: Groups, entered: Entered | None = None) -> Tokens:
        """Tokens after the last norm."""
        if entered is None:
            (tokens,) = self.blocks(*self._embed(groups))
        else:
            position = self._behind("pos", self.pos_embed(groups[0]))
            (tokens,) = self.blocks(entered.tokens, Context(position, centres=groups[0], leads=self.leads), first=entered.block)
        return by_role(self.norm(tokens), self.leads, groups[0].shape[1])

    def level_centres(self, groups: Groups) -> tuple[Float[torch.Tensor, "b _ 3"], ...]:
        """The same patches at every depth."""
        return (groups[0],) * LEVELS

    def levels(self, groups: Groups) -> tuple[Level, ...]:
        """Tokens after each third of the blocks, each normed by the last norm; lead tokens as they come out of the blocks."""
        (stage,) = self.anatomy.stages
        count = groups[0].shape[1]
        found = (
            (by_role(x, self.leads, count), by_role(self.norm(x), self.leads, count)) for x in self.blocks(*self._embed(groups), stage.read)
        )
        return tuple(Level(groups[0], dataclasses.replace(normed, lead=raw.lead)) for raw, normed in found)

    def _embed(self, groups: Groups) -> tuple[Float[torch.Tensor, "b t d"], Context]:
        """What enters the blocks: lead tokens before those of patches, and what is around them."""
        own, *further = (self._patch_tokens(centres, offsets) for centres, offsets in zip(groups[0::2], groups[1::2], strict=True))
        tokens, position = self._behind("token", own.tokens), self._behind("pos", own.position)
        return tokens, Context(position, centres=own.centres, leads=self.leads, further=tuple(further))

    def _patch_tokens(self, centres: Float[torch.Tensor, "b g 3"], offsets: Float[torch.Tensor, "b g k 3"]) -> PatchTokens:
        tokens = self.encoder(offsets)
        return PatchTokens(tokens if self.spec.token_width is None else self.reduce_dim(tokens), self.pos_embed(centres), centres)

    def _behind(self, part: str, own: Float[torch.Tensor, "b g d"]) -> Float[torch.Tensor, "b t d"]:
        """Lead tokens, or their positions, and behind them those of patches."""
        return torch.cat([*(value.expand(len(own), -1, -1) for value in self._lead(part)), own], dim=1)

    def _lead(self, part: str) -> list[nn.Parameter]:
        return [self.get_parameter(f"{name}_{part}") for name in self.leading[: self.leads]]

    def pool(self, tokens: Tokens) -> Float[torch.Tensor, "b f"]:
        """The vector that a head sees."""
        return self.cls_head(lead(tokens)) if self.readout == PROJECTED else super().pool(tokens)
