"""The pre-norm transformer of Point-MAE and its kin; positions are added before every block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import Linear, linear_gelu


class DropPath(nn.Module):
    """Leaves a residual branch out for whole samples with probability ``rate`` while training (Huang et al. 2016, stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[torch.Tensor, "b t d"]) -> Float[torch.Tensor, "b t d"]:
        """The branch, scaled so that its expectation stays."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.empty(len(x), 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        return x * (keep / (1 - self.rate))


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values in one map without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=False)
        self.proj = Linear(width, width)

    def forward(self, x: Float[torch.Tensor, "b t d"]) -> Float[torch.Tensor, "b t d"]:
        """Attention over tokens."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


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

    def forward(self, x: Float[torch.Tensor, "b t d"]) -> Float[torch.Tensor, "b t d"]:
        """The block's tokens."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """A stack of blocks; drop path rises linearly from 0 to ``drop_path`` over the depth."""

    def __init__(self, width: int, depth: int, heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, rate) for rate in rates)

    def forward(self, x: Float[torch.Tensor, "b t d"], position: Float[torch.Tensor, "b t d"]) -> Float[torch.Tensor, "b t d"]:
        """``position`` is added to the tokens before every block, as in Point-BERT's code and all that follow it."""
        for block in self.blocks:
            x = block(x + position)
        return x


def initialise(module: nn.Module) -> None:
    """The field's initial values for one module: truncated normal 0.02 for maps, ones and zeros for LayerNorm."""
    if isinstance(module, (nn.Linear, nn.Conv1d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
