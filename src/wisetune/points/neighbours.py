"""k nearest neighbours and the grouping of a cloud into patches around farthest points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int64
from numba import njit

from wisetune.points._threads import over_batch
from wisetune.points.sampling import SamplingRule, farthest_points

NeighbourRule = Literal["exact", "expanded"]
"""How a distance is computed, always in float32: ``exact`` sums squared differences, as KNN_CUDA does (Point-MAE, Point-M2AE, ACT, Point-BERT's
segmentation); ``expanded`` is |q|^2 - 2 q p + |p|^2, as ``knn_point`` does (Point-BERT, ReCon), which takes near ties for others."""


def nearest_neighbours(
    points: Float[torch.Tensor, "b n 3"], queries: Float[torch.Tensor, "b q 3"], count: int, rule: NeighbourRule = "exact"
) -> Int64[torch.Tensor, "b q count"]:
    """Indices of the ``count`` points nearest to each query, ascending; of equally far points the lower index comes first.

    The exact rule is numba on the CPU, torch elsewhere; both give the same indices. The expanded one is torch's matrix product everywhere, so
    that near ties fall as the device's product lets them.

    Raises:
        ValueError: more neighbours wanted than there are points, or none.
    """
    _check(points, count)
    if rule == "expanded":
        return _in_parts(_nearest_expanded, points, queries, count)
    if points.device.type != "cpu":
        return nearest_neighbours_torch(points, queries, count)
    clouds = points.detach().to(torch.float32).contiguous().numpy()
    centres = queries.detach().to(torch.float32).contiguous().numpy()
    found = np.empty((len(clouds), centres.shape[1], count), np.int64)
    over_batch(lambda rows: _nearest(clouds[rows], centres[rows], found[rows]), len(clouds))
    return torch.from_numpy(found)


def nearest_neighbours_torch(
    points: Float[torch.Tensor, "b n 3"], queries: Float[torch.Tensor, "b q 3"], count: int
) -> Int64[torch.Tensor, "b q count"]:
    """The exact rule in plain torch, for every device; the reference that the numba kernel is tested against."""
    _check(points, count)
    return _in_parts(_nearest_torch, points, queries, count)


def _in_parts(
    nearest: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor], points: torch.Tensor, queries: torch.Tensor, count: int
) -> torch.Tensor:
    """Queries are worked on a few at a time, so that memory does not grow with their number."""
    clouds = points.detach().to(torch.float32)
    few = max(1, _BYTES // (_BYTES_A_DISTANCE * max(1, clouds.shape[0] * clouds.shape[1])))
    return torch.cat([nearest(clouds, part, count) for part in queries.detach().to(torch.float32).split(few, dim=1)], dim=1)


_BYTES = 256 << 20
"""Memory for the distances from queries to points, where they are all held."""
_BYTES_A_DISTANCE = 32
"""Differences along three axes, their sum, and what the sort makes of it."""


def _nearest_torch(
    clouds: Float[torch.Tensor, "b n 3"], queries: Float[torch.Tensor, "b q 3"], count: int
) -> Int64[torch.Tensor, "b q count"]:
    x, y, z = (clouds[:, None, :, axis] - queries[:, :, None, axis] for axis in range(3))
    return _smallest((x * x + y * y + z * z).abs(), count)


def _nearest_expanded(
    clouds: Float[torch.Tensor, "b n 3"], queries: Float[torch.Tensor, "b q 3"], count: int
) -> Int64[torch.Tensor, "b q count"]:
    distance = -2 * queries @ clouds.transpose(1, 2) + queries.square().sum(-1)[:, :, None] + clouds.square().sum(-1)[:, None]
    return distance.topk(count, dim=-1, largest=False).indices


def _smallest(distance: Float[torch.Tensor, "b q n"], count: int) -> Int64[torch.Tensor, "b q count"]:
    if distance.device.type == "mps":  # whole numbers of 64 bits are not safe there
        return distance.sort(dim=-1, stable=True).indices[..., :count]
    # Floats that are not negative are ordered like their bits (a NaN may have a sign, which abs has cleared): with the index below them, no
    # two are equal, and of equally far points the lower index comes first.
    key = distance.view(torch.int32).to(torch.int64) << 32 | torch.arange(distance.shape[-1], device=distance.device)
    return key.topk(count, dim=-1, largest=False).values & 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Patches:
    """A cloud cut into patches: indices of the centres and of each patch's members."""

    centres: Int64[torch.Tensor, "b g"]
    members: Int64[torch.Tensor, "b g k"]


def patches(
    points: Float[torch.Tensor, "b n 3"], groups: int, size: int, rule: SamplingRule = "intended", near: NeighbourRule = "exact"
) -> Patches:
    """Patches of the ``size`` nearest points around ``groups`` farthest points; a centre belongs to its own patch.

    It depends on the points alone, so it is computed once for every set of weights that looks at them.
    """
    centres = farthest_points(points, groups, rule)
    return Patches(centres, nearest_neighbours(points, gather(points, centres), size, near))


def cut(
    points: Float[torch.Tensor, "b n 3"], groups: int, size: int, rule: SamplingRule = "intended", near: NeighbourRule = "exact"
) -> tuple[Float[torch.Tensor, "b g 3"], Float[torch.Tensor, "b g k 3"]]:
    """The same patches as places: their centres, and their points relative to them."""
    found = patches(points, groups, size, rule, near)
    centres = gather(points, found.centres)
    return centres, gather(points, found.members) - centres[:, :, None]


def gather(points: Float[torch.Tensor, "b n c"], index: Int64[torch.Tensor, "b *m"]) -> Float[torch.Tensor, "b *m c"]:
    """Rows of each cloud by index."""
    batch = torch.arange(len(points), device=points.device).view(-1, *[1] * (index.dim() - 1))
    return points[batch, index]


def _check(points: torch.Tensor, count: int) -> None:
    if not 1 <= count <= points.shape[1]:
        raise ValueError(
            f"{count} neighbours were asked for in clouds of {points.shape[1]} points; give clouds of at least {count} points."
        )


@njit(nogil=True, cache=True)
@no_type_check  # a checker wrapped around it is nothing that numba can compile
def _nearest(clouds: np.ndarray, queries: np.ndarray, found: np.ndarray) -> None:  # pragma: no cover - compiled
    b, n, _ = clouds.shape
    _, q, count = found.shape
    x, y, z, distance = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    best, index = np.empty(count, np.float32), np.empty(count, np.int64)
    for row in range(b):
        for i in range(n):
            x[i], y[i], z[i] = clouds[row, i, 0], clouds[row, i, 1], clouds[row, i, 2]
        for query in range(q):
            cx, cy, cz = queries[row, query, 0], queries[row, query, 1], queries[row, query, 2]
            for i in range(n):
                dx, dy, dz = x[i] - cx, y[i] - cy, z[i] - cz
                distance[i] = dx * dx + dy * dy + dz * dz
            # An insertion sort of the best so far: after the first few points almost none enters.
            size = 0
            for i in range(n):
                d = distance[i]
                if size == count and d >= best[count - 1]:
                    continue
                if size < count:
                    size += 1
                at = size - 1
                while at > 0 and best[at - 1] > d:
                    best[at] = best[at - 1]
                    index[at] = index[at - 1]
                    at -= 1
                best[at] = d
                index[at] = i
            found[row, query] = index
