"""The uniform soup: the plain mean of any number of models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wisetune.weights.merge import Merge, Missing, State, combine


@dataclasses.dataclass(frozen=True)
class Uniform(Merge):
    """theta = mean of all states (Wortsman et al. 2022, *Model soups*, the uniform soup)."""

    name: ClassVar[str] = "uniform"
    missing: Missing = "from_last"

    def merge(self, states: Sequence[State]) -> dict[str, Tensor]:
        """Average the states (see ``Merge.merge``)."""
        return combine(states, lambda _, parts: torch.stack(parts).mean(0), missing=self.missing)
