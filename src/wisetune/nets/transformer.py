"""The pre-norm transformer of Point-MAE and its kin; positions are added before every block.

Modules without weights of their own (``Residual``, ``Attend``) are there to be hooked: what a tuning needs to see passes through a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from wisetune.nets._linear import Linear, linear_gelu


class PatchTokens(NamedTuple):
    """Patches of a cloud as blocks see them."""

    tokens: Float[torch.Tensor, "b g d"]
    position: Float[torch.Tensor, "b g d"]
    centres: Float[torch.Tensor, "b g 3"]


class Context(NamedTuple):
    """What blocks know beside their tokens, which stand in the order lead, patches, extra. Extra ones are a tuning's; they may come and go."""

    position: Float[torch.Tensor, "b t d"] | None
    """Of as many of the first tokens as it has; those behind them have no place. None: nothing is added."""
    near: Shaped[torch.Tensor, "b t t"] | None = None
    """Which tokens each of the first ones attends to, as a mask or as what is added to scores; extra ones are near to all."""
    centres: Float[torch.Tensor, "b g 3"] | None = None
    """Where the patches are."""
    leads: int = 0
    reach: float | None = None
    """Where patches attend only to those near them: how far."""
    further: tuple[PatchTokens, ...] = ()
    """The further patches that tunings asked for, those of these blocks."""
    made: Mapping[str, tuple[torch.Tensor, ...]] = {}
    """What tunings made before the first block, for their own modules in each, by their names."""

    def placed(self, x: Float[torch.Tensor, "b t d"]) -> Float[torch.Tensor, "b t d"]:
        """Tokens with their positions."""
        if self.position is None:
            return x
        count = self.position.shape[1]
        return x + self.position if count == x.shape[1] else torch.cat([x[:, :count] + self.position, x[:, count:]], dim=1)

    def making(self, name: str, *made: torch.Tensor) -> Context:
        """The same, with what a tuning made."""
        return self._replace(made={**self.made, name: made})

    def beside(self, count: int) -> tuple[Shaped[torch.Tensor, "b t t"], ...]:
        """``near`` for so many tokens, where there is one."""
        if self.near is None:
            return ()
        more = count - self.near.shape[1]
        return (widened(self.near, more, more),)


def widened(near: Shaped[torch.Tensor, "*b t s"], rows: int, columns: int) -> Shaped[torch.Tensor, "*b _ _"]:
    """A mask, or what is added to scores, with so many more rows and columns behind, near to everything."""
    if rows == columns == 0:
        return near
    return F.pad(near, (0, columns, 0, rows), value=float(near.dtype == torch.bool))


class DropPath(nn.Module):
    """A residual branch that is left out for whole samples with probability ``rate`` while training (Huang et al. 2016, stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.few = True
        """Whether on the CPU a branch is computed for those samples alone that it is not left out of."""

    def forward(
        self, x: Float[torch.Tensor, "b t d"], branch: Callable[..., torch.Tensor], beside: torch.Tensor | None = None
    ) -> Float[torch.Tensor, "b t d"]:
        """``x`` and the branch, scaled so that its expectation stays.

        ``beside`` is what the branch looks at beside ``x``, with the batch first; it is called with one argument where there is none.
        """
        seen = () if beside is None else (beside,)
        if not self.training or self.rate == 0:
            return x + branch(x, *seen)
        kept = torch.empty(len(x), dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        scale = 1 / (1 - self.rate)
        if (
            not self.few or x.device.type != "cpu" or torch.compiler.is_compiling()
        ):  # which samples are kept is nothing that a device could wait to hear
            return x + branch(x, *seen) * (kept * scale)[:, None, None]
        rows = kept.nonzero().squeeze(1)
        few = (part.index_select(0, rows) for part in (x, *seen))
        return x.index_add(0, rows, branch(*few), alpha=scale)


class Residual(nn.Module):
    """One residual branch, left out at times by a drop path that the branches of a block share: the place where a graft finds what enters one."""

    def __init__(self, drop_path: DropPath) -> None:
        super().__init__()
        self.drop_path = drop_path

    def forward(
        self, x: Float[torch.Tensor, "b t d"], branch: Callable[..., torch.Tensor], beside: torch.Tensor | None = None
    ) -> Float[torch.Tensor, "b t d"]:
        """As ``DropPath``."""
        return self.drop_path(x, branch, beside)


class Attend(nn.Module):
    """Softmax attention itself, without weights: the place where a graft finds keys and values."""

    def forward(
        self,
        q: Float[torch.Tensor, "b h t e"],
        k: Float[torch.Tensor, "b h s e"],
        v: Float[torch.Tensor, "b h s e"],
        mask: Shaped[torch.Tensor, "b 1 t s"] | None,
    ) -> Float[torch.Tensor, "b h t e"]:
        """Of each query the values, weighed by their keys."""
        return F.scaled_dot_product_attention(q, k, v, mask)


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values in one map without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.attend = Attend()
        self.proj = Linear(width, width)

    def forward(self, x: Float[torch.Tensor, "b t d"], near: Shaped[torch.Tensor, "b t t"] | None = None) -> Float[torch.Tensor, "b t d"]:
        """Attention over tokens; of each token over those that are ``near`` it where that is given, as a mask or as what is added to scores."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = near if near is None else near[:, None]
        return self.proj(self.attend(q, k, v, mask).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear maps with a GELU (erf form) between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Float[torch.Tensor, "*b d"]) -> Float[torch.Tensor, "*b d"]:
        """Per-token map."""
        return self.fc2(linear_gelu(self.fc1, self.act, x))


class Constant(NamedTuple):
    """What of a LayerNorm's output is the same for every token: its values before weight and bias sum to nothing.

    So a map of what it gives has a bias in its weight, which maps ``along`` to it, and of everything else what it did.
    """

    along: Float[torch.Tensor, " d"]
    """A vector whose product with every output is 1."""
    shift: Float[torch.Tensor, " d"]
    """What was added to the norm's bias, so that this vector is no long one."""

    @classmethod
    @torch.no_grad()
    def of(cls, norm: nn.LayerNorm) -> Constant:
        """That of a norm, to whose bias so much is added that rounding does not notice."""
        weight, bias = norm.weight.cpu().double(), norm.bias.cpu().double()
        least = weight.abs().min()
        unit = (weight == 0).double() if least == 0 else least / weight
        unit = unit / unit.norm()
        there = unit @ bias
        size = there if there.abs() >= 1 else torch.ones_like(there).copysign(there)
        shift = (size - there) * unit
        norm.bias.copy_(bias + shift)
        return cls(unit / size, shift)

    @torch.no_grad()
    def add(self, weight: Float[torch.Tensor, "c d"], by: Float[torch.Tensor, " c"]) -> None:
        """Let the map of this weight give so much more of the norm's output as it was, whatever was added to the bias."""
        old = weight.cpu().double()
        weight.copy_(old + torch.outer(by.cpu().double() - old @ self.shift, self.along))


class Block(nn.Module):
    """Pre-norm block: attention, then MLP, each on a residual branch; positions are added to the tokens that enter."""

    def __init__(self, width: int, heads: int, drop_path: float = 0.0, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)
        self.residual_attn, self.residual_mlp = Residual(self.drop_path), Residual(self.drop_path)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_ratio * width)
        self.attn = Attention(width, heads)

    def forward(self, x: Float[torch.Tensor, "b t d"], context: Context) -> Float[torch.Tensor, "b t d"]:
        """The block's tokens."""
        x = self.residual_attn(context.placed(x), self._attend, *context.beside(x.shape[1]))
        return self.residual_mlp(x, self._transform)

    def shift_attention(self, by: Float[torch.Tensor, " _"]) -> Constant:
        """Make queries, keys and values that much more, by weights: their map has no bias, and what enters it has a part that is always the same.

        Returns:
            That part. The norm before the map may give more of it than before.
        """
        same = Constant.of(self.norm1)
        same.add(self.attn.qkv.weight, by)
        return same

    def _attend(self, x: torch.Tensor, *near: torch.Tensor) -> torch.Tensor:
        return self.attn(self.norm1(x), *near)

    def _transform(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of blocks; drop path rises linearly from 0 to ``drop_path`` over the depth, or is given block by block.

    Where it is ``recomputed`` (activation checkpointing) a backward pass computes each block a second time, with the same draws, and what is held
    of it is its input.
    """

    recomputed = False

    def __init__(self, width: int, depth: int, heads: int, drop_path: float | Sequence[float] = 0.0, block: type[Block] = Block) -> None:
        super().__init__()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)] if isinstance(drop_path, (int, float)) else drop_path
        self.blocks = nn.ModuleList(block(width, heads, rate) for rate in rates)

    def forward(
        self, x: Float[torch.Tensor, "b t d"], context: Context, kept: Sequence[int] | None = None, first: int = 0
    ) -> tuple[Float[torch.Tensor, "b _ d"], ...]:
        """The tokens after each of these blocks, which are counted from 0 and ascend; by itself after the last alone.

        Given what enters block ``first``, those before it are passed over. Positions are added before every block, as in Point-BERT's code and all that
        follow it.
        """
        kept = (len(self.blocks) - 1,) if kept is None else kept
        found: list[torch.Tensor] = []
        for index, block in enumerate(self.blocks[first:], first):
            x = _twice(block, x, context) if self.recomputed and torch.is_grad_enabled() else block(x, context)
            found += [x for wanted in kept if wanted == index]
        return tuple(found)


def up_to(stack: nn.Module, block: int, x: Float[torch.Tensor, "b t d"], context: Context) -> Float[torch.Tensor, "b t d"]:
    """What enters a block of a stack that is not called as a whole: what is hooked there is for the rest of it."""
    assert isinstance(stack, Transformer)
    for each in stack.blocks[:block]:
        x = each(x, context)
    return x


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Drop-path rates that rise linearly from 0 to ``rate`` over the blocks."""
    drops = [module for module in model.modules() if isinstance(module, DropPath)]
    for i, module in enumerate(drops):
        module.rate = rate * i / max(len(drops) - 1, 1)


def set_recompute(model: nn.Module, on: bool) -> None:
    """Let the backward passes of a model compute its blocks a second time, or not."""
    for module in model.modules():
        if isinstance(module, Transformer):
            module.recomputed = on


def _twice(block: nn.Module, x: torch.Tensor, context: Context) -> torch.Tensor:
    """A block that a backward pass computes again; once, where a BatchNorm in it or in what is hooked into it would count what it sees twice."""
    hooks = [hook for part in block.modules() for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values())]
    owners = [owner for owner in (block, *(getattr(hook, "__self__", None) for hook in hooks)) if isinstance(owner, nn.Module)]
    if any(isinstance(part, _BatchNorm) and part.training for owner in owners for part in owner.modules()):
        return block(x, context)
    # Without hooks the second time may end as soon as all is there; what a hook has parked another must take out again.
    return checkpoint(block, x, context, use_reentrant=False, early_stop=not hooks)


def initialise(module: nn.Module) -> None:
    """The field's initial values for one module: truncated normal 0.02 for maps, ones and zeros for LayerNorm."""
    if isinstance(module, (nn.Linear, nn.Conv1d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
