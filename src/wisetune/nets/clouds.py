"""Clouds as users give them: looked at before anything is computed of them."""

from __future__ import annotations

import numpy as np
import torch

from wisetune.errors import DataError, counted

_CHANNELS = 16
"""The most numbers that a point has in any file of this field: coordinates, colours, normals. An axis that is longer is that of the points."""


def clouds_of(points: object, fewest: int, like: torch.Tensor) -> torch.Tensor:
    """Clouds that a model can take, as a tensor; an array becomes one on the device of ``like``.

    Raises:
        DataError: not ``[batch, points, 3]`` of finite floats, or fewer points than these.
    """
    if isinstance(points, np.ndarray) and points.dtype.kind in "fiu":
        points = torch.tensor(points if points.dtype == np.float32 else points.astype(np.float64), device=like.device)
    if not isinstance(points, torch.Tensor):
        kind = f"an array of {points.dtype}" if isinstance(points, np.ndarray) else f"a {type(points).__name__}"
        raise DataError(
            f"points are {kind}; a model takes a tensor or an array of numbers [batch, points, 3]. Clouds of as many points each become one "
            "by np.stack(clouds)."
        )
    if points.dim() != 3 or points.shape[-1] != 3:
        raise DataError(f"points are {list(points.shape)}; a model takes [batch, points, 3].{_hint(points.shape)}")
    if not points.is_floating_point():
        raise DataError(f"points are {points.dtype}; a model takes floating point coordinates: points.float().")
    if points.shape[1] < fewest:
        raise DataError(f"clouds have {counted(points.shape[1], 'point')}; this model needs at least {fewest}.")
    # The search for farthest points would return anything at all for a coordinate that is no number. Meta tensors hold none.
    if not points.is_meta and not bool(torch.isfinite(points).all()):
        row = int((~torch.isfinite(points)).flatten(1).any(dim=1).nonzero()[0])
        raise DataError(f"cloud {row} of the batch has coordinates that are not finite; remove those points first.")
    return points


def _hint(shape: torch.Size) -> str:
    """What to do to clouds of another shape."""
    if len(shape) == 2:
        return " Add a batch dimension: points[None]."
    if len(shape) != 3:
        return ""
    if shape[1] == 3:
        return " Coordinates come last: points.transpose(1, 2)."
    if 3 < shape[1] <= _CHANNELS < shape[2]:
        return " Coordinates come last, without colours and normals: points[:, :3].transpose(1, 2)."
    if 3 < shape[2] <= _CHANNELS:
        return " Leave out colours and normals: points[..., :3]."
    return " The last axis is that of x, y and z."
