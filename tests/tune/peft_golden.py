"""Makes lora_peft.npz: what the package peft makes of one transformer block with LoRA, outputs and merged weights, in float64.

    pip install peft==0.21.2; PYTHONPATH=src:tests python tests/tune/peft_golden.py

The block is written here in plain torch. Weights, thin matrices and the input follow from their names by the rule of the other golden values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tuned_samples import live_value

FILE = Path(__file__).with_name("lora_peft.npz")
WIDTH, HEADS = 16, 2
CASES = {
    "qkv": ("qkv", 4, 4.0),
    "q+v": ("q+v", 3, 1.0),
    "q+k+v+proj": ("q+k+v+proj", 2, 8.0),
    "qkv+proj+fc1+fc2": ("qkv+proj+fc1+fc2", 3, 6.0),
}
"""By name the maps, the rank, and alpha."""


class Block(nn.Module):
    """One pre-norm block; queries, keys and values are one map, or three."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        if fused:
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        else:
            self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        z = self.norm1(x)
        parts = self.qkv(z).chunk(3, dim=-1) if self.fused else (self.q(z), self.k(z), self.v(z))
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        weights = (q @ k.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5).softmax(dim=-1)
        x = x + self.proj((weights @ v).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def block_state() -> dict[str, torch.Tensor]:
    """Weights of the block with one map for queries, keys and values, by its names here."""
    return {name: live_value(f"block.{name}", tuple(value.shape)) for name, value in Block(fused=True).state_dict().items()}


def thin(part: str, inside: int, outside: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of one map; B is not nothing, as it is at the start."""
    return live_value(f"lora.{part}.A", (rank, inside)), live_value(f"lora.{part}.B", (outside, rank))


def tokens() -> torch.Tensor:
    """What enters."""
    return live_value("lora.tokens", (2, 5, WIDTH)) * WIDTH**0.5


def main() -> None:
    """Write the file."""
    import peft

    found: dict[str, np.ndarray] = {"peft": np.array(peft.__version__)}
    for name, (maps, rank, alpha) in CASES.items():
        parts, state = maps.split("+"), block_state()
        fused = "q" not in parts
        if not fused:
            qkv = state.pop("qkv.weight").chunk(3)
            state |= {f"{part}.weight": weight for part, weight in zip("qkv", qkv, strict=True)}
        block = Block(fused).double()
        block.load_state_dict(state)
        model = (
            peft.get_peft_model(block, peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=parts, lora_dropout=0.0)).double().eval()
        )
        layers = {part: block.get_submodule(part) for part in parts}
        for part, layer in layers.items():
            down, up = thin(part, layer.in_features, layer.out_features, rank)
            layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = down.clone(), up.clone()
        with torch.no_grad():
            found[f"{name}/output"] = model(tokens()).numpy()
            merged = model.merge_and_unload()
            found[f"{name}/output_merged"] = merged(tokens()).numpy()
        found |= {f"{name}/merged/{part}": merged.get_submodule(part).weight.detach().numpy() for part in parts}
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
