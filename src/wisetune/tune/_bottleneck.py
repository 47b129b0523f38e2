"""Down, a bend, up: the operation of adapters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import Linear, linear
from wisetune.nets.uncalled import Uncalled
from wisetune.tune.graft import Graft


class Bottleneck(Graft, Uncalled):
    """``U bend(D x + d) + u``, scaled; ``U`` and ``u`` begin at nothing and ``D`` as torch begins a linear map, so both have gradients soon.

    With ``U`` *and* ``D`` at nothing, as in one public port, none but ``u`` would ever learn.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        bend: Callable[[torch.Tensor], torch.Tensor],
        dropout: float = 0.0,
        scale: float = 1.0,
        outside: int | None = None,
    ) -> None:
        super().__init__()
        self.down, self.up, self.drop = Linear(width, rank), Linear(rank, outside or width), nn.Dropout(dropout)
        self.bend, self.scale = bend, scale
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[torch.Tensor, "*b d"]) -> Float[torch.Tensor, "*b _"]:
        """What it adds."""
        factor = self.scale * self.share
        return linear(self.drop(self.bend(self.down(x))), self.up.weight * factor, self.up.bias * factor)

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """The map up."""
        return inputs[0][..., 0].numel() * self.up.weight.numel()

    def serial(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Of what a module gives, added to it."""
        return output + self(output)

    def parallel(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Of what enters a module, added to what it gives."""
        return output + self(inputs[0])
