"""Part segmentation: an answer for every point, from tokens at three depths and the category that the shape is known to be of.

The names and shapes of the heads' parameters are those of the released codes; what is computed is equal, by two steps of exact algebra
(docs/performance.md). A map of joined vectors is the sum of its halves' maps: what is the same for all points of a cloud passes once a cloud.
And spreading tokens to the points is linear too, so that the map after it is applied to the few tokens, not to the many points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets._linear import linear
from wisetune.nets.backbone import Backbone, Groups, Level
from wisetune.nets.heads import DROPOUT
from wisetune.nets.uncalled import Uncalled
from wisetune.points.interpolate import Spread, spread_to
from wisetune.spec import Spec, option

_MOST_CATEGORIES = 1 << 12
_LABEL = 64
"""Width of the category's part in what a point's answer is made of."""


class PartsModule(nn.Module):
    """Base of part segmentation heads."""

    fewest_points = 1
    """The fewest points of a cloud that it can answer for."""

    def geometry(self, points: Float[torch.Tensor, "b n 3"], centres: Sequence[Float[torch.Tensor, "b _ 3"]]) -> Groups:
        """What it derives from clouds without weights, tensors with the batch first; ``forward`` takes it. ``centres`` are the levels'."""
        raise NotImplementedError(f"{type(self).__name__} must define geometry")

    def forward(
        self, levels: Sequence[Level], geometry: Groups, category: Float[torch.Tensor, "b categories"]
    ) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point; ``category`` is one-hot."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")


@dataclasses.dataclass(frozen=True)
class PartsHead(Spec):
    """Base of specs of part segmentation heads."""

    layers: ClassVar[tuple[str, ...]]
    """What the names of its parameters begin with; a family's official files may put a suffix after each."""
    climbs: ClassVar[bool] = False
    """Whether it reads levels that have patches of their own."""

    categories: int = option(16, least=1, most=_MOST_CATEGORIES, means="categories of shapes, of which each cloud's is known")
    dropout: float = option(0.5, least=0, below=1, means=DROPOUT)

    @classmethod
    def prefixes(cls, suffix: str = "") -> tuple[str, ...]:
        """What its keys begin with in an official state dict of a family with this suffix."""
        return tuple(f"{layer}{suffix}." for layer in cls.layers)

    def widths(self, backbone: Backbone) -> tuple[int, ...]:
        """The widths of the levels that it reads.

        Raises:
            UsageError: this backbone has none that it can read; the message names a head that can.
        """
        if type(backbone).levels is Backbone.levels:
            raise UsageError(
                f"'{backbone.spec.name}' has no levels, which part segmentation reads. Take a head of classes, such as linear."
            )
        if backbone.pyramid and not self.climbs:
            raise UsageError(
                f"'{self.name}' reads levels that all have the same patches, and those of '{backbone.spec.name}' have patches of their own. "
                f"Take {PyramidParts.name}."
            )
        return backbone.level_widths

    def build(self, backbone: Backbone, parts: int) -> PartsModule:
        """A head with fresh weights for this backbone, drawn from torch's default generator.

        Raises:
            UsageError: a backbone that it cannot read.
        """
        raise NotImplementedError(f"{type(self).__name__} must define build")


class PointMap(nn.Conv1d):
    """A linear map of each point's channels, under a convolution's names. Points are rows here: channels come last."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, 1)

    def forward(self, *joined: Float[torch.Tensor, "b _ _"]) -> Float[torch.Tensor, "b n c"]:  # pyrefly: ignore[bad-override]
        """The map of what is joined: parts with a row a point, or with one row for all points of a cloud."""
        parts = zip(joined, self.halves(*(part.shape[-1] for part in joined)), strict=True)
        few_first = sorted(parts, key=lambda pair: pair[0].shape[1])
        total = linear(*few_first[0], self.bias)
        for part, half in few_first[1:]:
            total = total + linear(part, half)
        return total

    def halves(self, *widths: int) -> tuple[Float[torch.Tensor, "c _"], ...]:
        """The matrix, cut where these widths are joined."""
        return self.weight.squeeze(-1).split(widths, dim=1)


class Propagation(Uncalled, nn.Module):
    """Tokens spread to points, joined to what these know of themselves, through two maps (PointNet++'s feature propagation)."""

    def __init__(self, own: int, inside: int, widths: tuple[int, int]) -> None:
        super().__init__()
        hidden, outside = widths
        self.mlp_convs = nn.ModuleList([PointMap(own + inside, hidden), PointMap(hidden, outside)])
        self.mlp_bns = nn.ModuleList([nn.BatchNorm1d(hidden), nn.BatchNorm1d(outside)])

    def forward(
        self, own: Float[torch.Tensor, "b n o"], tokens: Float[torch.Tensor, "b g i"], spread: Spread
    ) -> Float[torch.Tensor, "b n c"]:
        """The points' new values."""
        first, second = cast(PointMap, self.mlp_convs[0]), cast(PointMap, self.mlp_convs[1])
        to_own, to_tokens = first.halves(own.shape[-1], tokens.shape[-1])
        x = linear(own, to_own, first.bias) + spread.of(linear(tokens, to_tokens))
        x = normed(self.mlp_bns[0], x).relu_()
        return normed(self.mlp_bns[1], second(x)).relu_()

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """The first map, of every point."""
        return inputs[0][..., 0].numel() * cast(PointMap, self.mlp_convs[0]).weight.numel()


def normed(norm: nn.Module, x: Float[torch.Tensor, "b n c"]) -> Float[torch.Tensor, "b n c"]:
    """BatchNorm over all points."""
    return norm(x.flatten(0, 1)).view_as(x)


def _label_map(categories: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(categories, _LABEL, 1, bias=False), nn.BatchNorm1d(_LABEL), nn.LeakyReLU(0.2))


def _said_of_all(labels: nn.Module, category: Float[torch.Tensor, "b k"]) -> Float[torch.Tensor, "b 1 c"]:
    return labels(category[:, :, None]).transpose(1, 2)


@dataclasses.dataclass(frozen=True)
class Parts(PartsHead):
    """The head of Point-MAE, ACT and ReCon; ``leads`` joins the maximum over lead tokens, as they come out of the blocks (ReCon)."""

    name: ClassVar[str] = "parts"
    layers: ClassVar[tuple[str, ...]] = ("label_conv", "propagation_0", "convs1", "convs2", "convs3", "bns1", "bns2")

    leads: bool = option(False, means="whether the maximum over lead tokens is joined")

    def build(self, backbone: Backbone, parts: int) -> PartsModule:
        """Names and widths are those of the released code, so that its files load by name."""
        widths = self.widths(backbone)
        if self.leads and not backbone.leads:
            raise UsageError(
                f"'{self}' joins lead tokens, and this {backbone.spec.name} has none. Leave leads=true out, or take a backbone that has some."
            )
        return _Parts(widths, backbone.width if self.leads else 0, self, parts, extra=backbone.for_parts.whole == "extra")


class _Parts(PartsModule):
    def __init__(self, widths: tuple[int, ...], lead: int, spec: Parts, parts: int, *, extra: bool) -> None:
        super().__init__()
        width, self.leads, self.extra = sum(widths), spec.leads, extra
        self.label_conv = _label_map(spec.categories)
        self.propagation_0 = Propagation(3, width, (4 * widths[-1], 1024))
        self.convs1 = PointMap(1024 + 2 * width + lead + _LABEL, 512)
        self.dp1 = nn.Dropout(spec.dropout)
        self.convs2, self.convs3 = PointMap(512, 256), PointMap(256, parts)
        self.bns1, self.bns2 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)

    def geometry(self, points: Float[torch.Tensor, "b n 3"], centres: Sequence[Float[torch.Tensor, "b _ 3"]]) -> Groups:
        """The points, and how tokens spread to them; the levels have the same centres."""
        return points, *spread_to(points, centres[-1])

    def forward(
        self, levels: Sequence[Level], geometry: Groups, category: Float[torch.Tensor, "b categories"]
    ) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point."""
        points, index, weight = geometry
        tokens = torch.cat([level.tokens.patch for level in levels], dim=-1)
        whole = _of_extra(levels) if self.extra else [tokens.amax(dim=1, keepdim=True), tokens.mean(dim=1, keepdim=True)]
        if self.leads:
            whole.append(levels[-1].tokens.lead.amax(dim=1, keepdim=True))
        local = self.propagation_0(points, tokens, Spread(index, weight))
        x = self.convs1(local, torch.cat([*whole, _said_of_all(self.label_conv, category)], dim=-1))
        x = self.dp1(normed(self.bns1, x).relu_())
        return self.convs3(normed(self.bns2, self.convs2(x)).relu_())


def _of_extra(levels: Sequence[Level]) -> list[torch.Tensor]:
    """The two extra tokens of all levels, the one that came last first."""
    assert all(level.tokens.extra is not None for level in levels)
    both = torch.cat([level.tokens.extra for level in levels if level.tokens.extra is not None], dim=-1)
    return [both[:, 1:], both[:, :1]]


@dataclasses.dataclass(frozen=True)
class PyramidParts(PartsHead):
    """The head of Point-M2AE: every level spreads to the points by itself."""

    name: ClassVar[str] = "parts-pyramid"
    layers: ClassVar[tuple[str, ...]] = ("label_conv", "propagations", "convs1", "convs2", "convs3", "convs4", "bns1", "bns2", "bns3")
    climbs: ClassVar[bool] = True

    def build(self, backbone: Backbone, parts: int) -> PartsModule:
        """Names and widths are those of the released code, so that its files load by name."""
        return _PyramidParts(self.widths(backbone), self, parts)


class _PyramidParts(PartsModule):
    def __init__(self, widths: tuple[int, ...], spec: PyramidParts, parts: int) -> None:
        super().__init__()
        self.label_conv = _label_map(spec.categories)
        self.propagations = nn.ModuleList(Propagation(3, width, (4 * widths[-1], 1024)) for width in widths)
        all_levels = 1024 * len(widths)
        self.convs1, self.convs2 = PointMap(2 * all_levels + _LABEL, 1024), PointMap(1024, 512)
        self.convs3, self.convs4 = PointMap(512, 256), PointMap(256, parts)
        self.dp1 = nn.Dropout(spec.dropout)
        self.bns1, self.bns2, self.bns3 = nn.BatchNorm1d(1024), nn.BatchNorm1d(512), nn.BatchNorm1d(256)

    def geometry(self, points: Float[torch.Tensor, "b n 3"], centres: Sequence[Float[torch.Tensor, "b _ 3"]]) -> Groups:
        """The points, and how each level's tokens spread to them."""
        return points, *(part for places in centres for part in spread_to(points, places))

    def forward(
        self, levels: Sequence[Level], geometry: Groups, category: Float[torch.Tensor, "b categories"]
    ) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point."""
        points, *spreads = geometry
        local = torch.cat(
            [
                propagation(points, level.tokens.patch, Spread(index, weight))
                for propagation, level, index, weight in zip(self.propagations, levels, spreads[0::2], spreads[1::2], strict=True)
            ],
            dim=-1,
        )
        whole = local.amax(dim=1, keepdim=True) + local.mean(dim=1, keepdim=True)
        x = self.convs1(whole, _said_of_all(self.label_conv, category), local)
        x = self.dp1(normed(self.bns1, x).relu_())
        x = normed(self.bns2, self.convs2(x)).relu_()
        return self.convs4(normed(self.bns3, self.convs3(x)).relu_())
