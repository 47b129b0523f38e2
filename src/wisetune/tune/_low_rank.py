"""A product of two thin matrices, added to a linear map: the operation of LoRA."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import linear
from wisetune.nets.uncalled import Uncalled
from wisetune.tune.graft import Graft


class LowRank(Graft, Uncalled):
    """``y <- y + scale B A x`` (Hu et al. 2022, eq. 3), on some of the rows of the map, such as those of queries and values.

    ``rows`` are where in the output each pair of matrices adds; ``A`` begins as torch begins a linear map and ``B`` at nothing.
    """

    def __init__(self, inside: int, outside: int, rank: int, scale: float, rows: tuple[slice, ...]) -> None:
        super().__init__()
        self.outside, self.scale, self.rows = outside, scale, rows
        sizes = [len(range(*part.indices(outside))) for part in rows]
        self.down = nn.ParameterList(torch.empty(rank, inside) for _ in rows)
        self.up = nn.ParameterList(torch.zeros(size, rank) for size in sizes)
        for down in self.down:
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))

    def after(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Of a linear map, what it gives and the product's part."""
        return output + self(inputs[0])

    def forward(self, x: Float[torch.Tensor, "*b d"]) -> Float[torch.Tensor, "*b c"]:
        """What it adds."""
        return linear(linear(x, torch.cat(list(self.down))), self._wide())

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """Each pair is two maps."""
        return inputs[0][..., 0].numel() * sum(value.numel() for value in (*self.down, *self.up))

    def delta(self) -> torch.Tensor:
        """What is added to the map's weight ``[outside, inside]``."""
        return self._wide() @ torch.cat(list(self.down))

    def _wide(self) -> torch.Tensor:
        """The ``B`` of all pairs side by side, each in its rows, at its scale."""
        factor = self.scale * self.share
        columns = [
            nn.functional.pad(up * factor, (0, 0, part.indices(self.outside)[0], self.outside - part.indices(self.outside)[1]))
            for up, part in zip(self.up, self.rows, strict=True)
        ]
        return torch.cat(columns, dim=1)
