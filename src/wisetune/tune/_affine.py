"""Scale and shift, which holds no activation for its gradient where another of the model's already tells it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import linear
from wisetune.nets.backbone import Backbone, Site
from wisetune.tune.graft import Graft

Again = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""What a module gives once more, of what entered it, its weight and its bias."""
_SMALLEST = 0.05
"""A scale by which what entered is found again from what came out. None of the published figures comes near: they begin at 1 and hardly move."""
_TOKENS = 1 << 13
"""How many of them a sum over all is worked out of at a time: more than the processor likes, and few beside a batch that fills a GPU."""


class Affine(Graft):
    """``y = gamma z + beta`` by channel (Lian et al. 2022, SSF, eq. 2); gamma begins at N(1, 0.02), beta at N(0, 0.02).

    The gradient of gamma needs ``z``. After a LayerNorm it is computed again from what the norm keeps anyway (``after_norm``); where the next operation
    keeps ``y``, it is found from that (``kept_behind``); else it is kept (``after``), as where another tuning changed before what the module gives.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        nn.init.normal_(self.gamma, 1.0, 0.02)
        nn.init.normal_(self.beta, 0.0, 0.02)
        self._bent: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, z: Float[torch.Tensor, "*b d"]) -> Float[torch.Tensor, "*b d"]:
        """Scaled and shifted."""
        return self.after(self, (), z)

    def counts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift at its share: 1 and 0 where it is nothing."""
        return torch.lerp(torch.ones_like(self.gamma), self.gamma, self.share), self.beta * self.share

    def after(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Of what a module gives."""
        gamma, beta = self.counts()
        return torch.addcmul(beta, output, gamma)

    def kept_behind(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """The same, before an operation that keeps what enters it for its own gradient."""
        gamma, beta = self.counts()
        if not recorded() or not (gamma.is_meta or bool(gamma.detach().abs().min() > _SMALLEST)):
            return torch.addcmul(beta, output, gamma)
        return _Found.apply(output, gamma, beta)

    def after_linear(self, module: nn.Linear, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """The same, of a linear map whose input is kept anyway: attention keeps what it gives. The map is computed once more."""
        return self._again(output, inputs[0], module, linear, self.after_linear)

    def look(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        """At the GELU before a linear map: what enters it is kept anyway."""
        if recorded() and first_heard(module, self.look):
            self._bent = inputs[0], output

    def after_bent(self, module: nn.Linear, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """The same, of a linear map of that GELU: both are computed once more."""
        bent, self._bent = self._bent, None
        if bent is None or bent[1] is not inputs[0]:
            return self.after(module, inputs, output)
        return self._again(output, bent[0], module, _bent, self.after_bent)

    def after_norm(self, module: nn.LayerNorm, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """The same, of what a LayerNorm gives."""
        return self._again(output, inputs[0], module, functools.partial(_normed, eps=module.eps), self.after_norm)

    def _again(
        self, z: torch.Tensor, x: torch.Tensor, module: nn.Linear | nn.LayerNorm, again: Again, hook: Callable[..., object]
    ) -> torch.Tensor:
        """Scaled and shifted, where the gradient computes ``z`` once more of what the module made it of."""
        if not recorded() or not first_heard(module, hook):
            return self.after(module, (x,), z)
        gamma, beta = self.counts()
        bias = None if module.bias is None else module.bias.detach()
        return _Again.apply(z, x.detach(), gamma, beta, module.weight.detach(), bias, again)


def scale_block(put: Callable[[str, Affine], Affine], backbone: Backbone, site: Site) -> None:
    """Scale and shift behind each operation of a block; ``put`` puts one at a place."""
    for place, times in {site.norm1: 1, site.qkv: 3, site.proj: 1, site.norm2: 1, site.fc1: 4, site.fc2: 1}.items():
        affine = put(place, Affine(times * site.width))
        # Attention keeps queries, keys, values and what it gives, a norm and GELU what enters them.
        way = {
            site.qkv: affine.kept_behind,
            site.proj: affine.after_linear,
            site.fc1: affine.kept_behind,
            site.fc2: affine.after_bent,
        }.get(place, affine.after_norm)
        backbone.get_submodule(place).register_forward_hook(way)
        if place == site.fc2:
            backbone.get_submodule(site.act).register_forward_hook(affine.look)


def first_heard(module: nn.Module, *hooks: Callable[..., object]) -> bool:
    """Whether these are the first hooks that are given what a module gives, so that it is what the module computes: tunings may hook in turn."""
    return list(module._forward_hooks.values())[: len(hooks)] == list(hooks) and "forward" not in vars(module)


def recorded() -> bool:
    """Whether there is a gradient to save for, and nobody transforms what happens: compilers save what they choose."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def _sums(grad: torch.Tensor, made: Callable[[torch.Tensor], torch.Tensor], of: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Over all tokens the sums of ``grad z`` and of ``grad``, where ``z`` is made of these; few tokens at a time, so that no ``z`` is held whole."""
    rows, theirs = grad.reshape(-1, grad.shape[-1]), of.reshape(-1, of.shape[-1])
    each = [(some * made(part)).sum(dim=0) for some, part in zip(rows.split(_TOKENS), theirs.split(_TOKENS), strict=True)]
    return functools.reduce(torch.add, each), rows.sum(dim=0)


class _Found(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:  # pyrefly: ignore[bad-override]
        y = torch.addcmul(beta, z, gamma)
        ctx.save_for_backward(y, gamma, beta)
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        y, gamma, beta = ctx.saved_tensors
        to_gamma, to_beta = _sums(grad, beta.neg().add, y)
        return (grad * gamma if ctx.needs_input_grad[0] else None), to_gamma / gamma, to_beta


def _bent(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return linear(F.gelu(x), weight, bias)


def _normed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float) -> torch.Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, x: torch.Tensor, *rest: Any) -> torch.Tensor:  # pyrefly: ignore[bad-override]
        gamma, beta, weight, bias, ctx.again = rest
        ctx.save_for_backward(x, gamma, weight, bias)
        return torch.addcmul(beta, z, gamma)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, gamma, weight, bias = ctx.saved_tensors
        to_gamma, to_beta = _sums(grad, functools.partial(ctx.again, weight=weight, bias=bias), x)
        return (grad * gamma if ctx.needs_input_grad[0] else None), None, to_gamma, to_beta, None, None, None
