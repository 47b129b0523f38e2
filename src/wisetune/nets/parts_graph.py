"""The part segmentation head of Point-BERT: tokens climb from patches to points over two finer sets of centres, by graphs of neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int64
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets._edges import edge_map, over_edges
from wisetune.nets.backbone import Backbone, Groups, Level
from wisetune.nets.parts import PartsHead, PartsModule, PointMap, Propagation, normed
from wisetune.nets.uncalled import Uncalled
from wisetune.points.interpolate import Spread, spread_to
from wisetune.points.neighbours import gather, nearest_neighbours
from wisetune.points.sampling import SamplingRule, farthest_points
from wisetune.spec import option

_FINE, _MIDDLE = 512, 256
_NEAR = 4
_INSIDE = 512


@dataclasses.dataclass(frozen=True)
class GraphParts(PartsHead):
    """The head of Point-BERT. ``fine`` and ``middle`` are how many centres there are between points and patches."""

    name: ClassVar[str] = "parts-graph"
    layers: ClassVar[tuple[str, ...]] = (
        *("propagation_0", "propagation_1", "propagation_2", "dgcnn_pro_1", "dgcnn_pro_2"),
        *("conv1", "conv2", "bn1"),
    )

    fine: int = option(_FINE, least=_NEAR, most=1 << 14, means="finer centres, next to the points")
    middle: int = option(_MIDDLE, least=_NEAR, most=1 << 14, means="centres between these and the patches, some of the finer ones")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.middle > self.fine:
            raise UsageError(f"'{self.name}' has middle={self.middle} and fine={self.fine}; the middle centres are some of the fine ones.")

    def build(self, backbone: Backbone, parts: int) -> PartsModule:
        """Names and widths are those of the released code, so that its files load by name."""
        return _GraphParts(self.widths(backbone)[-1], self, parts, backbone.sampling)


class EdgeClimb(Uncalled, nn.Module):
    """Values of few centres to more of them: two maps of edges, each with a GroupNorm and a maximum over the neighbours (DGCNN)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer1, self.layer2 = edge_map(2 * width, _INSIDE), edge_map(2 * _INSIDE, width)

    def forward(
        self,
        below: Float[torch.Tensor, "b g c"],
        own: Float[torch.Tensor, "b m c"],
        to_below: Int64[torch.Tensor, "b m k"],
        to_own: Int64[torch.Tensor, "b m k"],
    ) -> Float[torch.Tensor, "b m c"]:
        """The centres' new values; ``to_below`` and ``to_own`` are each one's neighbours."""
        inside = over_edges(self.layer1, below, own, to_below)
        return over_edges(self.layer2, inside, inside, to_own)

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """Both maps, of every edge."""
        layers = zip((self.layer1, self.layer2), inputs[2:], strict=True)
        return sum(near.numel() * cast(nn.Conv2d, layer[0]).weight.numel() for layer, near in layers)


class _GraphParts(PartsModule):
    def __init__(self, width: int, spec: GraphParts, parts: int, rule: SamplingRule) -> None:
        super().__init__()
        self.fewest_points = self.fine = spec.fine
        self.middle, self.rule = spec.middle, rule
        self.propagation_2, self.propagation_1 = (Propagation(3, width, (4 * width, width)) for _ in range(2))
        self.propagation_0 = Propagation(spec.categories + 3, width, (4 * width, width))
        self.dgcnn_pro_1, self.dgcnn_pro_2 = EdgeClimb(width), EdgeClimb(width)
        self.conv1, self.conv2 = PointMap(width, 128), PointMap(128, parts)
        self.bn1 = nn.BatchNorm1d(128)
        self.drop1 = nn.Dropout(spec.dropout)

    def geometry(self, points: Float[torch.Tensor, "b n 3"], centres: Sequence[Float[torch.Tensor, "b _ 3"]]) -> Groups:
        """The points, the two finer sets of centres, how values spread to each, and which are neighbours."""
        patches = centres[-1]
        # Farthest points come one by one: the fewer are the first of the more.
        fine = gather(points, farthest_points(points, self.fine, self.rule))
        middle = fine[:, : self.middle]
        near = (
            nearest_neighbours(there, of, min(_NEAR, there.shape[1]))
            for there, of in ((patches, middle), (middle, middle), (middle, fine), (fine, fine))
        )
        return points, fine, middle, *spread_to(middle, patches), *spread_to(fine, patches), *spread_to(points, fine), *near

    def forward(
        self, levels: Sequence[Level], geometry: Groups, category: Float[torch.Tensor, "b categories"]
    ) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point."""
        points, fine, middle, *spreads = geometry[:7]
        middle_to_patches, middle_to_middle, fine_to_middle, fine_to_fine = geometry[9:]
        low, mid, high = (level.tokens.patch for level in levels)
        on_middle = self.propagation_2(middle, mid, Spread(*spreads[0:2]))
        on_fine = self.propagation_1(fine, low, Spread(*spreads[2:4]))
        on_middle = self.dgcnn_pro_2(high, on_middle, middle_to_patches, middle_to_middle)
        on_fine = self.dgcnn_pro_1(on_middle, on_fine, fine_to_middle, fine_to_fine)
        own = torch.cat([category[:, None].expand(-1, points.shape[1], -1), points], dim=-1)
        x = self.propagation_0(own, on_fine, Spread(*geometry[7:9]))
        return self.conv2(self.drop1(normed(self.bn1, self.conv1(x)).relu_()))
