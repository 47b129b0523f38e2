"""Means and covariances of rows: all that a BatchNorm after a linear map of them needs to know.

Of ``y = W x + s`` with one ``s`` a group, the mean is ``W mean(x) + mean(s)`` and the variance ``diag(W C W^T) + var(s) + 2 cov(W x, s)``,
so neither needs y. Sums over rows and what is done with them are in float64, because a variance is a difference.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch.autograd.function import once_differentiable

from wisetune.nets._linear import product

_CHUNK_ROWS = 2048


def image_statistics(
    x: Float[torch.Tensor, "r k d"], weight: Float[torch.Tensor, "c d"], shift: Float[torch.Tensor, "r c"]
) -> tuple[Float[torch.Tensor, " c"], Float[torch.Tensor, " c"]]:
    """Mean and (biased) variance over all rows of ``x @ weight.T + shift``, with one shift a group. ``x`` may be wider than the rest."""
    wide = widest(x)
    middles, products = _Moments.apply(x)
    w, s, middles = weight.to(wide), shift.to(wide), middles.to(wide)
    middle = middles.mean(dim=0)
    covariance = products / (x.shape[0] * x.shape[1]) - torch.outer(middle, middle)
    away = s - s.mean(dim=0)
    across = ((middles - middle) @ w.T * away).mean(dim=0)
    variance = ((w @ covariance) * w).sum(dim=1) + away.square().mean(dim=0) + 2 * across
    # Rows on a line or a plane have none in some directions, and rounding can take it below zero.
    return (w @ middle + s.mean(dim=0)).to(weight.dtype), variance.clamp_min(0).to(weight.dtype)


def widest(x: torch.Tensor) -> torch.dtype:
    """The type to sum in; Apple's devices have no float64."""
    return x.dtype if x.device.type == "mps" else torch.float64


class _Moments(torch.autograd.Function):
    """Mean of each group, and ``sum of x x^T`` over all rows."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # pyrefly: ignore[bad-override]
        ctx.save_for_backward(x)
        products = torch.zeros(x.shape[-1], x.shape[-1], dtype=widest(x), device=x.device)
        for part in x.flatten(0, 1).split(_CHUNK_ROWS):
            products += part.T @ part
        return x.mean(dim=1), products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_middles: torch.Tensor, to_products: torch.Tensor) -> torch.Tensor:  # pyrefly: ignore[bad-override]
        (x,) = ctx.saved_tensors
        to_x = product(x, (to_products + to_products.T).to(x.dtype))
        return to_x.add_((to_middles / x.shape[1])[:, None])
