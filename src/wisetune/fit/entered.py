"""What enters the first block that a training changes, kept for a training whose epochs see the same clouds."""

from __future__ import annotations

import dataclasses

import torch

from wisetune.nets.backbone import Entered, Groups
from wisetune.nets.model import Model

BUDGET = 2 << 30
"""Bytes of tokens that a training keeps; of clouds that have more none are kept, and each step computes them again."""


@dataclasses.dataclass(frozen=True)
class Kept:
    """Tokens of all clouds as they enter a block, in the machine's own memory."""

    stage: int
    block: int
    tokens: torch.Tensor

    def of(self, rows: torch.Tensor, device: torch.device) -> Entered:
        """Those of some clouds."""
        return Entered(self.stage, self.block, self.tokens[rows].to(device))


def entered(model: Model, groups: Groups, first: int, size: int) -> Kept | None:
    """What enters block ``first`` of these patches, ``size`` clouds at a time; None where that is before all blocks, or takes more than the budget.

    They are the bits that a step of so many clouds would compute: the last batch has the first clouds again, and gradients are recorded though nothing
    has one, as kernels depend on either.
    """
    if first == 0:
        return None
    count, kept = len(groups[0]), None
    for at in range(0, count, size):
        rows = torch.arange(at, at + size) % count
        with torch.enable_grad():
            found = model.backbone.entering(tuple(column[rows.to(column.device)] for column in groups), first)
        if found is None:
            return None
        tokens = found.tokens.detach().cpu()
        if kept is None:
            if tokens[0].numel() * tokens.element_size() * count > BUDGET:
                return None
            kept = Kept(found.stage, found.block, tokens.new_empty(count, *tokens.shape[1:]))
        kept.tokens[rows] = tokens
    return kept
