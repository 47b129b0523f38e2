"""What a cloud is, whatever it is called: a name for its coordinates, and a signature by which the same shape is known again."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float, Float64, Shaped

from wisetune.points.normalise import normalise

SAME = 1e-3
"""How far apart signatures of one shape may be; coordinates are in units of its radius."""
_AXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]], float)
_DIRECTIONS = np.concatenate([_AXES, [[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]])
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)
_LEVELS = np.linspace(0, 1, 17)
_MANY = 10_000
_MIXER = np.uint64(0x9E3779B97F4A7C15)


def content_key(*arrays: Shaped[np.ndarray, "..."]) -> str:
    """Sixteen hex digits of numbers in their order, as float32: a cloud has one key in every float type, written as text too."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.shape}".encode())
        with np.errstate(over="ignore"):
            single = array.astype("<f4") + np.float32(0)  # which takes the sign from a negative zero
        state.update(np.ascontiguousarray(single).tobytes())
    return state.hexdigest()[:16]


def distinct(points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "d 3"]:
    """The points without those that are an earlier one again, in their order; the array itself where there are none."""
    # Of bits one number a point, sorted: a tenth of the time of sorting rows. It is mixed, as coordinates end in zero bits.
    bits = (points.astype(np.float64) + 0.0).view(np.uint64)  # adding takes the sign from a negative zero
    key = np.zeros(len(points), np.uint64)
    for column in bits.T:
        key = (key ^ column) * _MIXER
        key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    key = key[order]
    again = key[1:] == key[:-1]
    if not again.any():
        return points
    again &= (points[order[1:]] == points[order[:-1]]).all(axis=1)
    kept = np.ones(len(points), bool)
    kept[order[1:][again]] = False
    return points[kept]


def signature(points: Float[np.ndarray, "p 3"]) -> Float64[np.ndarray, " s"]:
    """Quantiles of the normalised distinct points along 13 directions.

    Unlike a hash of rounded coordinates it does not jump when a value lies at a rounding edge, so one shape saved as text and as float32 is
    known again. It does not change with the order, the place or the size of the points, nor when some are there twice, as in clouds that were padded
    to one number of points; it does change when they are turned.
    """
    points = distinct(points)
    unit = normalise(points, "sphere").astype(np.float64)
    at = _LEVELS * (len(points) - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, len(points) - 1)
    # As np.quantile, in a third of its time: a cloud has few points, and of a scan with many only these are put in their places.
    along = _DIRECTIONS @ unit.T
    along = np.sort(along, axis=1) if len(points) < _MANY else np.partition(along, np.unique([low, high]), axis=1)
    return (along[:, low] + (along[:, high] - along[:, low]) * (at - low)).T.ravel()


def alike(signatures: Float64[np.ndarray, "n s"]) -> list[list[int]]:
    """Groups of two or more rows that are the same shape."""
    # Same shapes have the same mean spread to within SAME: sorted by it, each is compared with few.
    spread = np.abs(signatures).mean(axis=1)
    order = np.argsort(spread, kind="stable")
    table, ends = signatures[order], np.searchsorted(spread[order], spread[order] + SAME, side="right")
    seen = np.zeros(len(table), bool)
    groups: list[list[int]] = []
    for row in range(len(table)):
        if seen[row]:
            continue
        near = np.arange(row + 1, ends[row])
        near = near[~seen[near]]
        same = near[np.abs(table[near] - table[row]).max(axis=1, initial=0) <= SAME]
        if len(same):
            seen[same] = True
            groups.append([int(order[at]) for at in (row, *same)])
    return groups
