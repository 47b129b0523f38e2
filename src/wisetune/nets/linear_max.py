"""A linear map followed by a maximum over the rows of each group, with a backward pass that touches only the maximal rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch.autograd.function import once_differentiable

from wisetune.points._threads import over_batch

_CHUNK_ROWS = 4096


def linear_max(x: Float[torch.Tensor, "r k d"], weight: Float[torch.Tensor, "c d"]) -> Float[torch.Tensor, "r c"]:
    """``max over k of x @ weight.T``; equal rows share no gradient: the first takes it, as with ``torch.max(dim)``.

    On the CPU the backward pass costs r*c*d multiply-adds instead of r*k*c*d, and the r*k*c values before the maximum are never kept.
    """
    if not torch.is_grad_enabled():
        return (x @ weight.T).amax(dim=1)
    # Autocast would hand the backward pass below a half-precision gradient, which numpy does not know in bfloat16.
    plain = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    if plain and (x.requires_grad or weight.requires_grad):
        return _LinearMax.apply(x, weight)
    return (x @ weight.T).max(dim=1).values


class _LinearMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:  # pyrefly: ignore[bad-override]
        size = max(1, _CHUNK_ROWS // x.shape[1])
        parts = [(part @ weight.T).max(dim=1) for part in x.split(size)]
        ctx.save_for_backward(x, weight, torch.cat([part.indices for part in parts]))
        return torch.cat([part.values for part in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, weight, rows = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = torch.zeros_like(x)
            target, g, w, at = to_x.numpy(), grad.contiguous().numpy(), weight.detach().contiguous().numpy(), rows.numpy()
            over_batch(lambda part: _to_x(g[part], w, at[part], target[part]), len(g))
        if ctx.needs_input_grad[1]:
            to_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
            target, g, source, at = to_weight.numpy(), grad.contiguous().numpy(), x.detach().contiguous().numpy(), rows.numpy()
            over_batch(lambda part: _to_weight(g[:, part], source, at[:, part], target[part]), g.shape[1])
        return to_x, to_weight


@njit(nogil=True, cache=True, fastmath={"contract"})
def _to_x(grad: np.ndarray, weight: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:  # pragma: no cover - compiled
    for r in range(grad.shape[0]):
        for c in range(grad.shape[1]):
            g = grad[r, c]
            if g != 0:
                out, source = target[r, rows[r, c]], weight[c]
                for d in range(out.shape[0]):
                    out[d] += g * source[d]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _to_weight(grad: np.ndarray, x: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:  # pragma: no cover - compiled
    for r in range(grad.shape[0]):
        for c in range(grad.shape[1]):
            g = grad[r, c]
            if g != 0:
                out, source = target[c], x[r, rows[r, c]]
                for d in range(out.shape[0]):
                    out[d] += g * source[d]
