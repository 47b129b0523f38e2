"""Tokens and keys beside a backbone's own, and how much of them attention sees."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from wisetune.nets._linear import Linear
from wisetune.nets.transformer import Context, widened
from wisetune.tune.graft import Graft

_MADE = "prefix"


class AttentionShare(Graft):
    """At an attention: how much the last ``count`` keys weigh, which are a tuning's. At share 0 they are not there."""

    alone: ClassVar[str] = "brings tokens or keys of its own"

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def before(self, _module: nn.Module, inputs: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...] | None:
        """Of queries, keys, values and mask, with the logarithm of the share on what is added to these keys' scores."""
        if not self.partly:
            return None
        q, k, v, mask = inputs
        assert q is not None
        assert k is not None
        bias = torch.zeros(k.shape[-2], dtype=q.dtype, device=q.device)
        bias = torch.cat([bias[: -self.count], bias[-self.count :] + self.share.log()]).expand(len(q), 1, q.shape[-2], -1)
        if mask is not None:
            bias = bias.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else bias + mask
        return q, k, v, bias


class ReadoutShare(Graft):
    """At the last norm: how much of a tuning's own tokens a readout sees. Part segmentation norms tokens of earlier blocks too, with fewer of these."""

    def __init__(self) -> None:
        super().__init__()
        self.first = 0

    def look(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Where they begin in what leaves these blocks."""
        _, context, *_ = inputs
        assert context.centres is not None
        self.first = context.leads + context.centres.shape[1]

    def after(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        """Of normed tokens."""
        if not self.partly:
            return None
        return torch.cat([output[:, : self.first], output[:, self.first :] * self.share], dim=1)


class PrefixKV(AttentionShare):
    """Keys and values of their own, beside those of the tokens (Li & Liang 2021)."""

    def brought(self) -> tuple[torch.Tensor, torch.Tensor]:
        """They, a row each."""
        raise NotImplementedError(f"{type(self).__name__} must define brought")

    def before(self, _module: nn.Module, inputs: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor | None, ...] | None:
        """Of queries, keys, values and mask; attention is a sum, in which it is the same whether they stand first or last."""
        q, k, v, mask = inputs
        assert q is not None
        assert k is not None
        assert v is not None
        mine = (part.unflatten(-1, (k.shape[1], -1)).transpose(0, 1).expand(len(k), -1, -1, -1) for part in self.brought())
        k, v = (torch.cat([there, more], dim=2) for there, more in zip((k, v), mine, strict=True))
        more = (q, k, v, mask if mask is None else widened(mask, 0, self.count))
        return super().before(_module, more) or more


class DirectPrefix(PrefixKV):
    """As parameters."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__(count)
        self.keys, self.values = nn.Parameter(torch.empty(count, width)), nn.Parameter(torch.empty(count, width))
        nn.init.trunc_normal_(self.keys, std=0.02)
        nn.init.trunc_normal_(self.values, std=0.02)

    def brought(self) -> tuple[torch.Tensor, torch.Tensor]:
        """They, a row each."""
        return self.keys, self.values


class ReparamPrefix(PrefixKV):
    """As a map of what those of all blocks are made of, which ``PrefixMap`` makes before them."""

    def __init__(self, count: int, width: int, hidden: int) -> None:
        super().__init__(count)
        self.up = Linear(hidden, 2 * width)
        self._made: torch.Tensor | None = None

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Into the block: what its attention is not told waits until that is called."""
        _, context, *_ = inputs
        (self._made,) = context.made[_MADE]

    def brought(self) -> tuple[torch.Tensor, torch.Tensor]:
        """They, a row each."""
        made, self._made = self._made, None
        assert made is not None
        return self.of(made)

    def of(self, made: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, of what they are made of."""
        keys, values = self.up(made).chunk(2, dim=-1)
        return keys, values


class PrefixMap(nn.Module):
    """What keys and values of several blocks are made of: a table of rows through a narrow map and a tanh."""

    def __init__(self, count: int, width: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.rows, self.down = nn.Parameter(torch.randn(count, width)), Linear(width, hidden)
        self.keys = nn.ModuleList(ReparamPrefix(count, width, hidden) for _ in range(blocks))

    def __getitem__(self, block: int) -> ReparamPrefix:
        """Those of one block."""
        keys = self.keys[block]
        assert isinstance(keys, ReparamPrefix)
        return keys

    def inside(self) -> torch.Tensor:
        """What all are made of."""
        return torch.tanh(self.down(self.rows))

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into all blocks."""
        x, context, *rest = inputs
        return x, context.making(_MADE, self.inside()), *rest


class Prompts(nn.Module):
    """Tokens and their positions, behind those of the patches (Jia et al. 2022)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Parameter(torch.empty(1, count, width)), nn.Parameter(torch.empty(1, count, width))
        nn.init.trunc_normal_(self.tokens, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into a block, or into all of them."""
        x, context, *rest = inputs
        return joined(x, self.tokens), placed(context, self.positions), *rest

    def leave(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Out of a block."""
        return output[:, : -self.tokens.shape[1]]


def joined(x: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
    """Tokens, and more of them behind."""
    return torch.cat([x, more.expand(len(x), -1, -1)], dim=1)


def placed(context: Context, more: torch.Tensor) -> Context:
    """Positions, and those of more tokens behind."""
    assert context.position is not None
    return context._replace(position=joined(context.position, more))
