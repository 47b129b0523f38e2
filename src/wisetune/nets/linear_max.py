"""Linear maps followed by a maximum over the rows of each group, with backward passes that touch only the maximal rows.

On the CPU all is done in chunks of groups, so that what one step writes is still in cache when the next reads it, and the wide values before a
maximum are never kept. Elsewhere the same is written in plain torch.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch.autograd.function import once_differentiable

from wisetune.nets._linear import product, untouched
from wisetune.points._threads import over_batch

_CHUNK_ROWS = 2048


def linear_max(x: Float[torch.Tensor, "r k d"], weight: Float[torch.Tensor, "c d"]) -> Float[torch.Tensor, "r c"]:
    """``max over k of x @ weight.T``; equal rows share no gradient: the first takes it, as with ``torch.max(dim)``.

    On the CPU the backward pass costs r*c*d multiply-adds instead of r*k*c*d, and the r*k*c values before the maximum are never kept.
    """
    if _sparse(x, weight):
        return _LinearMax.apply(x, weight)
    if torch.is_grad_enabled():
        return (x @ weight.T).max(dim=1).values
    return torch.cat([product(x[part], weight).amax(dim=1) for part in _parts(x)])


def relu_linear_max(
    x: Float[torch.Tensor, "r k d"],
    inner: Float[torch.Tensor, "h d"],
    shift: Float[torch.Tensor, "r h"],
    weight: Float[torch.Tensor, "c h"],
) -> Float[torch.Tensor, "r c"]:
    """``max over k of relu(x @ inner.T + shift) @ weight.T``, with one shift a group.

    On the CPU the r*k*h values inside are computed a second time in the backward pass rather than kept.
    """
    if _sparse(x, inner, shift, weight):
        return _ReluLinearMax.apply(x, inner, shift, weight)
    if torch.is_grad_enabled():
        return ((x @ inner.T + shift[:, None]).relu() @ weight.T).max(dim=1).values
    return torch.cat([product(_hidden(x[part], inner, shift[part]), weight).amax(dim=1) for part in _parts(x)])


def _sparse(*inputs: torch.Tensor) -> bool:
    """Whether there is a gradient to be had by the kernels below."""
    if not torch.is_grad_enabled() or not any(value.requires_grad for value in inputs):
        return False
    # Autocast, for one, would hand the backward pass a half-precision gradient, which numpy does not know in bfloat16.
    return untouched(*inputs) and all(value.dtype in (torch.float32, torch.float64) for value in inputs)


def _hidden(x: torch.Tensor, inner: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return product(x, inner).add_(shift[:, None]).relu_()


def _parts(x: torch.Tensor) -> list[slice]:
    size = max(1, _CHUNK_ROWS // x.shape[1]) if x.device.type == "cpu" else len(x)
    return [slice(at, at + size) for at in range(0, len(x), size)]


class _LinearMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:  # pyrefly: ignore[bad-override]
        found = [_first_maximum(product(x[part], weight)) for part in _parts(x)]
        ctx.save_for_backward(x, weight, torch.cat([rows for _, rows in found]))
        return torch.cat([values for values, _ in found])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, weight, rows = ctx.saved_tensors
        x, weight, grad = x.contiguous(), weight.contiguous(), grad.contiguous()
        to_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        if to_x is not None:
            _spread(grad, weight, rows, to_x)
        if to_weight is not None:
            _collect(grad, x, rows, to_weight)
        return to_x, to_weight


class _ReluLinearMax(torch.autograd.Function):
    @staticmethod
    def forward(  # pyrefly: ignore[bad-override]
        ctx: Any, x: torch.Tensor, inner: torch.Tensor, shift: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        found = [_first_maximum(product(_hidden(x[part], inner, shift[part]), weight)) for part in _parts(x)]
        ctx.save_for_backward(x, inner, shift, weight, torch.cat([rows for _, rows in found]))
        return torch.cat([values for values, _ in found])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, inner, shift, weight, rows = ctx.saved_tensors
        x, weight, grad, outward = x.contiguous(), weight.contiguous(), grad.contiguous(), inner.T.contiguous()
        wants_x, wants_inner, wants_shift, wants_weight = ctx.needs_input_grad
        to_x = torch.empty_like(x) if wants_x else None
        to_inner = torch.zeros_like(inner) if wants_inner else None
        to_shift = torch.empty_like(shift) if wants_shift else None
        to_weight = torch.zeros_like(weight) if wants_weight else None
        for part in _parts(x):
            hidden = _hidden(x[part], inner, shift[part])
            if to_weight is not None:
                _collect(grad[part], hidden, rows[part], to_weight)
            if not (wants_x or wants_inner or wants_shift):
                continue
            to_hidden = torch.zeros_like(hidden)
            _spread(grad[part], weight, rows[part], to_hidden)
            _mask(to_hidden, hidden)
            if to_x is not None:
                to_x[part] = product(to_hidden, outward)
            if to_inner is not None:
                to_inner.addmm_(to_hidden.flatten(0, 1).T, x[part].flatten(0, 1))
            if to_shift is not None:
                torch.sum(to_hidden, dim=1, out=to_shift[part])
        return to_x, to_inner, to_shift, to_weight


def _first_maximum(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum over the rows of each group, and which row was the first to have it: ``torch.max(dim=1)``, whose loop is several times slower."""
    best, rows = values[:, 0].clone(), torch.zeros(values.shape[0], values.shape[2], dtype=torch.int32)
    source, top, at = values.numpy(), best.numpy(), rows.numpy()
    over_batch(lambda part: _argmax(source[part], top[part], at[part]), len(source))
    return best, rows


def _mask(to_hidden: torch.Tensor, hidden: torch.Tensor) -> None:
    """No gradient where the ReLU gave zero."""
    torch.ops.aten.threshold_backward.grad_input(to_hidden, hidden, 0, grad_input=to_hidden)


def _spread(grad: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor, target: torch.Tensor) -> None:
    """Add to the rows that won what their winning was worth."""
    g, w, at, out = grad.numpy(), weight.detach().numpy(), rows.numpy(), target.numpy()
    over_batch(lambda part: _to_x(g[part], w, at[part], out[part]), len(g))


def _collect(grad: torch.Tensor, x: torch.Tensor, rows: torch.Tensor, target: torch.Tensor) -> None:
    """Add to each row of the weight what the rows of x that it picked say."""
    g, source, at, out = grad.numpy(), x.detach().numpy(), rows.numpy(), target.numpy()
    over_batch(lambda part: _to_weight(g[:, part], source, at[:, part], out[part]), g.shape[1])


@njit(nogil=True, cache=True)
@no_type_check  # a checker wrapped around it is nothing that numba can compile
def _argmax(values: np.ndarray, best: np.ndarray, rows: np.ndarray) -> None:  # pragma: no cover - compiled
    for r in range(values.shape[0]):
        top, at = best[r], rows[r]
        for k in range(1, values.shape[1]):
            row = values[r, k]
            for c in range(row.shape[0]):
                # A NaN beats every number, and nothing beats it: a loss that is not finite must be seen.
                wins = (row[c] > top[c]) | ((row[c] != row[c]) & (top[c] == top[c]))
                top[c] = row[c] if wins else top[c]
                at[c] = k if wins else at[c]


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check  # a checker wrapped around it is nothing that numba can compile
def _to_x(grad: np.ndarray, weight: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:  # pragma: no cover - compiled
    for r in range(grad.shape[0]):
        for c in range(grad.shape[1]):
            g = grad[r, c]
            if g != 0:
                out, source = target[r, rows[r, c]], weight[c]
                for d in range(out.shape[0]):
                    out[d] += g * source[d]


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check  # a checker wrapped around it is nothing that numba can compile
def _to_weight(grad: np.ndarray, x: np.ndarray, rows: np.ndarray, target: np.ndarray) -> None:  # pragma: no cover - compiled
    for r in range(grad.shape[0]):
        for c in range(grad.shape[1]):
            g = grad[r, c]
            if g != 0:
                out, source = target[c], x[r, rows[r, c]]
                for d in range(out.shape[0]):
                    out[d] += g * source[d]
