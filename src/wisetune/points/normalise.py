"""Bring a cloud to the frame that pre-trained backbones know: centred, inside the unit sphere."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float32

from wisetune.errors import UsageError

Frame = Literal["sphere", "centre", "none"]


def normalise(points: Float[np.ndarray, "*b n 3"], mode: Frame = "sphere") -> Float32[np.ndarray, "*b n 3"]:
    """Move, and in ``sphere`` also scale, each cloud by itself.

    ``sphere``: mean at the origin, largest norm 1 (``pc_normalize`` of PointNet and its descendants). ``centre``: mean at the origin, units
    kept. ``none``: only the dtype changes. A cloud whose points are all equal becomes the origin repeated, except in ``none``.

    Args:
        points: one cloud or a batch, any unit; float64 where coordinates are far from the origin (a map's metres).
        mode: the frame asked for.

    Raises:
        UsageError: no such mode.
        ValueError: a cloud without points, or values that are not finite, before or after the move to float32.
    """
    if mode not in get_args(Frame):
        raise UsageError(f"there is no normalisation '{mode}'. There are: {', '.join(get_args(Frame))}.")
    if points.shape[-2] == 0:
        raise ValueError(f"a cloud of shape {points.shape} has no points to normalise")
    with np.errstate(over="ignore", invalid="ignore"):
        moved = _moved(points.astype(np.float64), mode).astype(np.float32)
    if not np.isfinite(moved).all():
        raise ValueError("the points hold values that are not finite, or too large for float32; remove them or change the unit")
    return moved


def _moved(points: Float[np.ndarray, "*b n 3"], mode: Frame) -> Float[np.ndarray, "*b n 3"]:
    if mode == "none":
        return points
    # Relative to the first point, rounding is as small as the cloud, not as its distance from the origin; equal points give exact zeros.
    points = points - points[..., :1, :]
    points = points - points.mean(axis=-2, keepdims=True)
    if mode == "centre":
        return points
    # Two divisions: after the first, no square can overflow or vanish.
    points = points / _or_one(np.abs(points).max(axis=(-2, -1), keepdims=True))
    return points / _or_one(np.sqrt((points**2).sum(axis=-1, keepdims=True).max(axis=-2, keepdims=True)))


def _or_one(size: Float[np.ndarray, "*b 1 1"]) -> Float[np.ndarray, "*b 1 1"]:
    return np.where(size == 0, 1.0, size)
