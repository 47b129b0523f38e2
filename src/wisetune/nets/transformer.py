"""The pre-norm transformer of Point-MAE and its kin; positions are added before every block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import nn

from wisetune.nets._linear import Linear, linear_gelu


class DropPath(nn.Module):
    """A residual branch that is left out for whole samples with probability ``rate`` while training (Huang et al. 2016, stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, x: Float[torch.Tensor, "b t d"], branch: Callable[..., torch.Tensor], beside: torch.Tensor | None = None
    ) -> Float[torch.Tensor, "b t d"]:
        """``x`` and the branch, scaled so that its expectation stays. On the CPU a branch that is left out is not computed.

        ``beside`` is what the branch looks at beside ``x``, with the batch first; it is called with one argument where there is none.
        """
        seen = () if beside is None else (beside,)
        if not self.training or self.rate == 0:
            return x + branch(x, *seen)
        kept = torch.empty(len(x), dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        scale = 1 / (1 - self.rate)
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # which samples are kept is nothing that a device could wait to hear
            return x + branch(x, *seen) * (kept * scale)[:, None, None]
        rows = kept.nonzero().squeeze(1)
        few = (part.index_select(0, rows) for part in (x, *seen))
        return x.index_add(0, rows, branch(*few), alpha=scale)


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values in one map without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.proj = Linear(width, width)

    def forward(self, x: Float[torch.Tensor, "b t d"], near: Shaped[torch.Tensor, "b t t"] | None = None) -> Float[torch.Tensor, "b t d"]:
        """Attention over tokens; of each token over those that are ``near`` it where that is given, as a mask or as what is added to scores."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = near if near is None else near[:, None]
        return self.proj(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


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


class Block(nn.Module):
    """Pre-norm block: attention, then MLP, each on a residual branch."""

    def __init__(self, width: int, heads: int, drop_path: float = 0.0, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, mlp_ratio * width)
        self.attn = Attention(width, heads)

    def forward(self, x: Float[torch.Tensor, "b t d"], near: Shaped[torch.Tensor, "b t t"] | None = None) -> Float[torch.Tensor, "b t d"]:
        """The block's tokens; ``near`` as in ``Attention``."""
        return self.drop_path(self.drop_path(x, self._attend, near), self._transform)

    def _attend(self, x: torch.Tensor, *near: torch.Tensor) -> torch.Tensor:
        return self.attn(self.norm1(x), *near)

    def _transform(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of blocks; drop path rises linearly from 0 to ``drop_path`` over the depth, or is given block by block."""

    def __init__(self, width: int, depth: int, heads: int, drop_path: float | Sequence[float] = 0.0, block: type[Block] = Block) -> None:
        super().__init__()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)] if isinstance(drop_path, (int, float)) else drop_path
        self.blocks = nn.ModuleList(block(width, heads, rate) for rate in rates)

    def forward(
        self, x: Float[torch.Tensor, "b t d"], position: Float[torch.Tensor, "b t d"], near: Shaped[torch.Tensor, "b t t"] | None = None
    ) -> Float[torch.Tensor, "b t d"]:
        """``position`` is added to the tokens before every block, as in Point-BERT's code and all that follow it; ``near`` as in ``Attention``."""
        *_, last = self.after((len(self.blocks) - 1,), x, position, near)
        return last

    def after(
        self,
        kept: Collection[int],
        x: Float[torch.Tensor, "b t d"],
        position: Float[torch.Tensor, "b t d"],
        near: Shaped[torch.Tensor, "b t t"] | None = None,
    ) -> Iterator[Float[torch.Tensor, "b t d"]]:
        """The tokens after each of these blocks, which are counted from 0 and ascend; the rest as ``forward``."""
        seen = () if near is None else (near,)
        for index, block in enumerate(self.blocks):
            x = block(x + position, *seen)
            yield from (x for wanted in kept if wanted == index)


def initialise(module: nn.Module) -> None:
    """The field's initial values for one module: truncated normal 0.02 for maps, ones and zeros for LayerNorm."""
    if isinstance(module, (nn.Linear, nn.Conv1d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
