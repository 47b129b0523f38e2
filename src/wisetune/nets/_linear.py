"""Linear maps, by oneDNN where torch's own choice is slower.

For float32 on the CPU torch calls MKL, which leaves AVX-512 unused on some processors; oneDNN, which torch brings along for convolutions,
uses it everywhere. Everything else, from other devices to tracing and autocast, takes ``F.linear``.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn
from torch.nn.parameter import Parameter

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
"""Torch's own compiler emits calls of this operator; a torch that no longer has it takes the other way."""


class Linear(nn.Linear):
    """``nn.Linear``, faster on some CPUs."""

    def forward(self, input: Float[torch.Tensor, "*batch d"]) -> Float[torch.Tensor, "*batch c"]:  # noqa: A002 - torch's name
        """The map of the last axis."""
        return linear(input, self.weight, self.bias)


def linear(
    x: Float[torch.Tensor, "*batch d"], weight: Float[torch.Tensor, "c d"], bias: Float[torch.Tensor, " c"] | None = None
) -> Float[torch.Tensor, "*batch c"]:
    """``F.linear``, with gradients of any order."""
    if not _fits(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)):
        return _Linear.apply(x, weight, bias)
    return product(x, weight, bias)


def product(
    x: Float[torch.Tensor, "*batch d"],
    weight: Float[torch.Tensor, "c d"],
    bias: Float[torch.Tensor, " c"] | None = None,
    then: Literal["none", "gelu"] = "none",
) -> Float[torch.Tensor, "*batch c"]:
    """The values of ``F.linear``, or of the GELU (erf form) of it; no gradient flows through."""
    if _ONEDNN is None or not _fits(x, weight):
        values = F.linear(x, weight, bias)
        return F.gelu(values) if then == "gelu" else values
    weight = weight.detach()
    if not (weight.is_contiguous() or weight.T.is_contiguous()):
        weight = weight.contiguous()  # of a part of a larger matrix oneDNN makes a product a thousand times slower
    return _ONEDNN(x.detach(), weight, None if bias is None else bias.detach(), then, [], "none")


def linear_gelu(first: nn.Module, then: nn.Module, x: Float[torch.Tensor, "*batch d"]) -> Float[torch.Tensor, "*batch c"]:
    """``then(first(x))``; at once, where these are the modules they seem, nobody listens to them, and no gradient is wanted."""
    simple = type(first) is Linear and type(then) is nn.GELU and then.approximate == "none" and not (heard(first) or heard(then))
    if simple and not torch.is_grad_enabled():
        return product(x, first.weight, first.bias, "gelu")
    return then(first(x))


def heard(module: nn.Module) -> bool:
    """Whether somebody hooked into this very module: then it must be called, as it would be without any algebra."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(len(found) for found in hooks)


def untouched(*tensors: torch.Tensor) -> bool:
    """Whether these are real tensors on the CPU, and nobody records, transforms or casts what happens to them."""
    real = all(type(value) in _PLAIN and value.device.type == "cpu" for value in tensors)
    watched = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu")
    return real and not watched and not torch._C._are_functorch_transforms_active()


def _fits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN may be called."""
    fast = x.dtype == weight.dtype == torch.float32 and x.numel() > 0
    return _ONEDNN is not None and torch.backends.mkldnn.enabled is True and fast and untouched(x, weight)


_PLAIN = (torch.Tensor, Parameter)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:  # pyrefly: ignore[bad-override]
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        to_x = linear(grad, weight.T) if ctx.needs_input_grad[0] else None
        # Sums over many rows: here MKL is the faster one.
        to_weight = rows.T @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, rows.sum(dim=0) if ctx.needs_input_grad[2] else None
