"""Farthest point sampling: choose points that cover a cloud.

Three rules, because three codes of this field differ:

``intended``   starts at index 0; every point counts; a point is never chosen twice, so sampling all n points is a permutation.
``pointnet2``  the kernel of pointnet2_ops (Point-MAE, Point-BERT, Point-M2AE, ReCon, ACT): points with ``|p|^2 <= 1e-3`` are skipped except
               as the first; once the rest are used up a point is returned again; ties fall as the GPU's block reduction lets them.
``pointops``   MaskPoint's kernel: like ``pointnet2`` without the skip, blocks of up to 1024 threads.

Distances are float32 whatever the input, as in the kernels, so float32 and float64 models see the same groups.
"""

from __future__ import annotations

import functools
from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int64
from numba import njit

from wisetune.points._threads import over_batch

SamplingRule = Literal["intended", "pointnet2", "pointops"]
_BLOCK = {"pointnet2": 512, "pointops": 1024}
_NEAR_ORIGIN = 1e-3
_FAR = {"intended": np.inf, "pointnet2": 1e10, "pointops": 1e10}
"""What the running squared distance starts from: the kernels' start makes all points beyond it equally far."""


def farthest_points(points: Float[torch.Tensor, "b n 3"], count: int, rule: SamplingRule = "intended") -> Int64[torch.Tensor, "b count"]:
    """Indices of ``count`` points, each the farthest from those before it; the first is index 0.

    Numba on the CPU, torch elsewhere; both give the same indices.

    Points must be finite.

    Raises:
        ValueError: more points wanted than there are (rule ``intended``), or none.
    """
    _check(points, count, rule)
    if points.device.type != "cpu":
        return farthest_points_torch(points, count, rule)
    clouds = points.detach().to(torch.float32).contiguous().numpy()
    chosen = np.empty((clouds.shape[0], count), np.int64)
    order = preference(clouds.shape[1], rule)
    skip = _NEAR_ORIGIN if rule == "pointnet2" else -1.0
    over_batch(lambda rows: _farthest(clouds[rows], order, skip, np.float32(_FAR[rule]), rule == "intended", chosen[rows]), len(clouds))
    return torch.from_numpy(chosen)


def farthest_points_torch(
    points: Float[torch.Tensor, "b n 3"], count: int, rule: SamplingRule = "intended"
) -> Int64[torch.Tensor, "b count"]:
    """The same in plain torch, for every device; the reference that the numba kernel is tested against."""
    _check(points, count, rule)
    cloud = points.detach().to(torch.float32)
    order = torch.from_numpy(preference(cloud.shape[1], rule)).to(cloud.device)
    ranked = cloud[:, order]
    allowed = torch.ones(ranked.shape[:2], dtype=torch.bool, device=cloud.device)
    if rule == "pointnet2":
        allowed = _squared(ranked[..., 0], ranked[..., 1], ranked[..., 2]).to(torch.float64) > _NEAR_ORIGIN
    nearest = torch.full(ranked.shape[:2], _FAR[rule], device=cloud.device)
    last = cloud[:, 0]
    chosen = torch.zeros(len(cloud), count, dtype=torch.int64, device=cloud.device)
    if rule == "intended":
        allowed[:, 0] = False  # order is the identity here: index 0 is taken
    rows = torch.arange(len(cloud), device=cloud.device)
    for step in range(1, count):
        difference = ranked - last[:, None]
        nearest = torch.minimum(nearest, _squared(difference[..., 0], difference[..., 1], difference[..., 2]))
        best = torch.where(allowed, nearest, -1.0).argmax(dim=1)
        found = allowed.any(dim=1)
        chosen[:, step] = torch.where(found, order[best], 0)
        last = torch.where(found[:, None], ranked[rows, best], cloud[:, 0])
        if rule == "intended":
            allowed[rows, best] = False
    return chosen


@functools.lru_cache(maxsize=64)
def preference(n: int, rule: SamplingRule) -> Int64[np.ndarray, " n"]:
    """The indices in the order in which a tie is decided, the winner first.

    In the kernels thread ``t = k mod T`` keeps its lowest ``k``, and between threads the one with the smaller bit-reversed ``t`` wins, T
    being the largest power of two that is at most n and the block size.
    """
    index = np.arange(n)
    if rule == "intended":
        return index
    threads = min(1 << (n.bit_length() - 1), _BLOCK[rule])
    thread = index % threads
    reversed_thread = np.zeros_like(thread)
    bits = threads.bit_length() - 1
    for bit in range(bits):
        reversed_thread |= ((thread >> bit) & 1) << (bits - 1 - bit)
    return np.lexsort((index // threads, reversed_thread))


def _check(points: torch.Tensor, count: int, rule: SamplingRule) -> None:
    n = points.shape[1]
    if n == 0 or count < 1 or (rule == "intended" and count > n):
        raise ValueError(f"farthest point sampling was asked for {count} of {n} points; it needs at least as many points as it chooses.")


def _squared(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """The kernels' order of summation; another order rounds differently and can turn a tie."""
    return x * x + y * y + z * z


_BLOCK_POINTS = 128
"""Points of which only the largest distance is looked up before the search for which of them has it."""


# nnan and nsz let the minimum vectorise; neither changes how a distance is rounded.
@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
@no_type_check  # a checker wrapped around it is nothing that numba can compile
def _farthest(
    clouds: np.ndarray, order: np.ndarray, skip: float, far: np.float32, once: bool, chosen: np.ndarray
) -> None:  # pragma: no cover - compiled
    b, n, _ = clouds.shape
    count = chosen.shape[1]
    x, y, z = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    index, nearest = np.empty(n, np.int64), np.empty(n, np.float32)
    bits = nearest.view(np.int32)
    for row in range(b):
        cloud = clouds[row]
        allowed = 0
        for rank in range(n):
            k = order[rank]
            px, py, pz = cloud[k, 0], cloud[k, 1], cloud[k, 2]
            if np.float64(px * px + py * py + pz * pz) > skip and not (once and k == 0):
                x[allowed], y[allowed], z[allowed], index[allowed] = px, py, pz, k
                nearest[allowed] = far
                allowed += 1
        chosen[row, 0] = 0
        lx, ly, lz = cloud[0, 0], cloud[0, 1], cloud[0, 2]
        for step in range(1, count):
            if allowed == 0:
                chosen[row, step] = 0
                continue
            for i in range(allowed):
                dx, dy, dz = x[i] - lx, y[i] - ly, z[i] - lz
                nearest[i] = min(nearest[i], dx * dx + dy * dy + dz * dz)
            # Floats that are not negative are ordered like their bits, and a maximum of whole numbers vectorises. The mark of a taken
            # point is negative either way.
            top, best = bits[0], 0
            for start in range(0, allowed, _BLOCK_POINTS):
                block = bits[start : min(start + _BLOCK_POINTS, allowed)]
                high = block[0]
                for i in range(len(block)):
                    high = max(high, block[i])
                if high > top:
                    top, best = high, start
            while bits[best] != top:
                best += 1
            lx, ly, lz = x[best], y[best], z[best]
            chosen[row, step] = index[best]
            if once:
                nearest[best] = np.float32(-1.0)
