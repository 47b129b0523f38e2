"""What a backbone is: a module that turns clouds into tokens and says where its parts are. It knows nothing of tuning."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import nn

from wisetune.nets.categories import Categories
from wisetune.nets.clouds import clouds_of
from wisetune.nets.official_fits import OfficialFit
from wisetune.nets.readout import Tokens, grafted_readout
from wisetune.points.sampling import SamplingRule
from wisetune.spec import Spec

if TYPE_CHECKING:
    from wisetune.nets.masked import Masked

LEVELS = 3
"""At how many depths of a backbone a part segmentation looks."""
Groups = tuple[torch.Tensor, ...]
"""What a backbone derives from clouds without weights: tensors with the batch first, computed once for all weights."""


_PARTS = (
    "norm1",
    "attn",
    "attn.qkv",
    "attn.attend",
    "attn.proj",
    "residual_attn",
    "norm2",
    "mlp",
    "mlp.fc1",
    "mlp.act",
    "mlp.fc2",
    "residual_mlp",
)


@dataclasses.dataclass(frozen=True)
class Site:
    """One transformer block's parts by dotted name from the backbone, where a tuning may graft."""

    block: str
    norm1: str
    attn: str
    qkv: str
    attend: str
    proj: str
    residual_attn: str
    norm2: str
    mlp: str
    fc1: str
    act: str
    fc2: str
    residual_mlp: str
    width: int

    @classmethod
    def of(cls, block: str, width: int) -> Site:
        """That of a block with the field's names."""
        return cls(block, *(f"{block}.{part}" for part in _PARTS), width=width)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stack of blocks and what comes before it, by dotted name: a plain backbone has one, a pyramid one a level."""

    tokenizer: str
    """The small PointNet of a patch."""
    tokens: str
    """What gives the patches' tokens in the blocks' width: the tokenizer, or a map after it."""
    position: str
    blocks: str
    """The ``Transformer``."""
    sites: tuple[Site, ...]
    read: tuple[int, ...]
    """After which of its blocks part segmentation reads tokens, counted from 0."""
    groups: int
    """Patches."""
    group_size: int
    """Points, or patches of the stage below, of each."""

    @property
    def width(self) -> int:
        """Of its tokens."""
        return self.sites[0].width


class FurtherPatches(NamedTuple):
    """Patches of a cloud beside a backbone's own, for a tuning: of which stage, how many, of how many points or patches below."""

    stage: int
    groups: int
    group_size: int


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """Where a backbone's parts are, from the points up."""

    stages: tuple[Stage, ...]
    norms: tuple[str, ...]
    """What norms the tokens that leave the backbone; the last is that of the tokens that a classifier sees."""
    class_token: tuple[str, ...]
    """The parameters of a class token and its position, where there is one."""
    fresh: tuple[str, ...]
    """Parameters without a pre-trained counterpart: they have no value at alpha = 0."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Of every block."""
        return tuple(site for stage in self.stages for site in stage.sites)

    def place(self, site: int) -> tuple[int, int]:
        """The stage of a block that is counted over all of them, and its number there."""
        return [(number, block) for number, stage in enumerate(self.stages) for block in range(len(stage.sites))][site]


class Entered(NamedTuple):
    """Tokens as they enter a block: with the patches all that a backbone needs to go on from there."""

    stage: int
    block: int
    """Of that stage, counted from 0."""
    tokens: Float[torch.Tensor, "b t d"]


@dataclasses.dataclass(frozen=True)
class Masking:
    """How a family is pre-trained where nothing else is asked for: the share of patches to hide, and blocks of (each stage of) the decoder."""

    mask: float
    decoder_depth: int


@dataclasses.dataclass(frozen=True)
class BackboneSpec(Spec):
    """Base of backbone specs: the sizes of one family. A subclass has ``points`` and ``reading`` among its options, and bounds them all."""

    masking: ClassVar[Masking | None] = None
    """Of a family that can be pre-trained here by rebuilding what is hidden; it defines ``masked`` too."""
    no_presets: ClassVar[Mapping[str, str]] = {}
    """Of presets that other families have and this one lacks, why."""

    def build(self) -> Backbone:
        """A backbone with fresh weights, drawn from torch's default generator."""
        raise NotImplementedError(f"{type(self).__name__} must define build")

    def masked(self, decoder_depth: int) -> Masked[Any]:
        """The model that pre-trains it, with fresh weights, drawn from torch's default generator."""
        raise NotImplementedError(f"{type(self).__name__} must define masked")

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """Published and own settings by name."""
        return {}

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """The options that the shapes in a released state dict tell; None if it cannot be one of this family. Some share names and shapes."""
        del shapes
        return None


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named setting: the backbone, the classes of the data that it is for, its head, where it comes from.

    ``classes`` is how many there are, for part segmentation the categories and their parts, and None for no data in particular. ``fit`` is how the
    official code tunes it; None where there is no such code.
    """

    backbone: BackboneSpec
    classes: int | Categories | None
    head: str
    source: str
    fit: OfficialFit | None = None


@dataclasses.dataclass(frozen=True)
class Level:
    """Normed tokens at one depth of a backbone, and where its patches are: what a part segmentation head spreads over the points."""

    centres: Float[torch.Tensor, "b g 3"]
    tokens: Tokens


@dataclasses.dataclass(frozen=True)
class ForParts:
    """What a part segmentation head goes by: a family says it of its own, and a tuning that has it read something else."""

    whole: Literal["max+mean", "extra"] = "max+mean"
    """What it sees of a level as a whole: maximum and mean over patches, or a tuning's two extra tokens, the later one first."""
    suffix: str = ""
    """What the names of its layers end in, in the official state dict."""


@dataclasses.dataclass(frozen=True)
class Grafted:
    """A backbone's note of a tuning that grafted into it: its spelling with every option, and the names of all that it added."""

    tuning: str
    names: tuple[str, ...]
    folds: bool = False
    """Whether all of it is a change of weights, so that it can be put into them (``wisetune.fold``)."""


class Backbone(nn.Module):
    """Base of every backbone.

    A subclass sets ``readout`` (the name of the pooling that its classifier uses), ``leads`` (how many tokens stand before those of patches),
    ``width``, and ``points`` (how many points a cloud has).
    """

    readout: str
    leads: int
    width: int
    points: int
    head_name: ClassVar[str] = "head"
    """The head's prefix in the official state dict of this family's classifiers."""
    own_grouped: ClassVar[int] = 2
    """How many tensors ``group`` gives of its own patches; behind them are two for each further cut."""
    for_parts: ForParts = ForParts()
    """What a part segmentation head goes by that is built upon it."""
    pyramid: ClassVar[bool] = False
    """Whether each of its levels has patches of its own, where else all have the same."""
    published_sampling: ClassVar[SamplingRule] = "pointnet2"
    """The rule by which the released code chooses patch centres."""
    spare: ClassVar[tuple[str, ...]] = ()
    """What names of released parts begin with, as renamed, that only some settings of this backbone have a place for."""
    grafts: tuple[Grafted, ...] = ()
    """What tunings put into it after it was built, in order."""
    further: tuple[FurtherPatches, ...] = ()
    """What tunings want a cloud cut into, beside its own patches: it is part of ``group``, and blocks see what became of it (``Context.further``)."""

    @property
    def spec(self) -> BackboneSpec:
        """What it was built from."""
        raise NotImplementedError(f"{type(self).__name__} must define spec")

    @property
    def anatomy(self) -> Anatomy:
        """Where the parts are."""
        raise NotImplementedError(f"{type(self).__name__} must define anatomy")

    @property
    def sampling(self) -> SamplingRule:
        """The rule by which patch centres are chosen, and others by a head that does as its backbone."""
        return self.published_sampling if getattr(self.spec, "reading", "") == "as_published" else "intended"

    @property
    def fewest_points(self) -> int:
        """The fewest points of a cloud that can be encoded."""
        return 1

    @property
    def ragged(self) -> bool:
        """Whether how many patches enter its blocks depends on the batch, so that no tuning can tell its own tokens by their number."""
        return False

    @property
    def grouped(self) -> int:
        """How many tensors ``group`` gives."""
        return self.own_grouped + 2 * len(self.further)

    def group(self, points: Float[torch.Tensor, "b n 3"]) -> Groups:
        """What depends on the cloud alone; pass it to ``encode`` of any weights."""
        raise NotImplementedError(f"{type(self).__name__} must define group")

    def entering(self, groups: Groups, site: int) -> Entered | None:
        """What enters the block of this number, counted over all stages; None where this backbone cannot go on from there."""
        del groups, site

    def encode(self, groups: Groups, entered: Entered | None = None) -> Tokens:
        """Tokens of grouped clouds; where what enters some block is given, all before it is passed over."""
        raise NotImplementedError(f"{type(self).__name__} must define encode")

    def levels(self, groups: Groups) -> tuple[Level, ...]:
        """Tokens of grouped clouds at three depths, from the points up, for heads that answer for every point."""
        raise NotImplementedError(f"{type(self).__name__} must define levels")

    def level_centres(self, groups: Groups) -> tuple[Float[torch.Tensor, "b _ 3"], ...]:
        """Where the patches of these levels are."""
        raise NotImplementedError(f"{type(self).__name__} must define level_centres")

    @property
    def level_widths(self) -> tuple[int, ...]:
        """The width of the tokens at each of these depths."""
        return (self.width,) * LEVELS

    def pool(self, tokens: Tokens) -> Float[torch.Tensor, "b f"]:
        """The vector that a head or a probe sees, by the readout's name."""
        return grafted_readout(self.readout, self.leads).of(tokens)

    @property
    def feature_width(self) -> int:
        """Length of that vector."""
        found = grafted_readout(self.readout, self.leads)
        return (found.fixed + found.each * self.leads) * self.width

    # Points come from users: their shape is checked with a message, so these signatures do not promise one.
    def looked(self, points: torch.Tensor, fewest: int = 1) -> Groups:
        """``group`` of clouds that were looked at first, in the backbone's precision, whatever theirs is; errors as ``features``.

        ``fewest`` are those points of a cloud that a head needs.
        """
        some = next(self.parameters())
        points = clouds_of(points, max(fewest, self.fewest_points), some)
        # Offsets are differences of nearly equal numbers: they are taken in the wider of the two precisions.
        groups = self.group(points.to(torch.promote_types(points.dtype, some.dtype)))
        return tuple(part.to(some.dtype) if part.is_floating_point() else part for part in groups)

    def features(self, points: torch.Tensor) -> Float[torch.Tensor, "b f"]:
        """The vector that a head or a probe sees, of ``points`` ``[batch, number, 3]``, any float type.

        Raises:
            DataError: not ``[batch, points, 3]`` of finite floats, or too few points for the patches.
        """
        return self.pool(self.encode(self.looked(points)))

    def forward(self, points: Float[torch.Tensor, "b n 3"]) -> Tokens:
        """Tokens of clouds."""
        return self.encode(self.group(points))

    @staticmethod
    def rename(key: str) -> str | None:
        """A key of one of this family's released files in this backbone's names; None for what it has no place for."""
        return key


def build_empty(spec: BackboneSpec) -> Backbone:
    """A backbone without memory for its values; fill it with ``load_state_dict(..., assign=True)``."""
    with on_meta():
        return spec.build().eval()


@contextlib.contextmanager
def on_meta() -> Iterator[None]:
    """What is built inside has no memory for its values, and draws none."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield


def empty_as(backbone: Backbone) -> contextlib.AbstractContextManager[None]:
    """What is built inside has values where this backbone has."""
    return on_meta() if is_empty(backbone) else contextlib.nullcontext()


def is_empty(backbone: Backbone) -> bool:
    """Whether there is no memory for its values."""
    return next(backbone.parameters()).is_meta
