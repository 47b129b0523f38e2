"""WiSE-FT: the straight line between the start and the fine-tuned model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wisetune.errors import UsageError
from wisetune.weights.alphas import tidy
from wisetune.weights.merge import Merge, Missing, State, combine


@dataclasses.dataclass(frozen=True)
class Wise(Merge):
    """theta = (1 - alpha) start + alpha finetuned (Wortsman et al. 2022, *Robust fine-tuning of zero-shot models*, eq. 1).

    ``alpha`` lies in [0, 1]; 0.5 is the paper's recommendation where nothing can be tuned. At 0 and 1 every mixed tensor equals its
    end point bit for bit.

    Raises:
        UsageError: alpha outside [0, 1].
    """

    name: ClassVar[str] = "wise"
    alpha: float = 0.5
    missing: Missing = "from_last"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "alpha", tidy(self.alpha))

    def merge(self, states: Sequence[State]) -> dict[str, Tensor]:
        """Mix exactly two states, the start first (see ``Merge.merge``)."""
        if len(states) != 2:
            raise UsageError(f"'{self}' mixes two states, the start and the fine-tuned one; it was given {len(states)}.")
        return combine(states, lambda _, parts: self._line(*parts), missing=self.missing)

    def _line(self, start: Tensor, finetuned: Tensor) -> Tensor:
        # The ends are taken, not computed: -0.0 + 0 * d is +0.0.
        if self.alpha in (0.0, 1.0):
            return finetuned if self.alpha else start
        # lerp, unlike the two products, also gives back exactly what both ends agree on.
        return torch.lerp(start, finetuned, self.alpha)
