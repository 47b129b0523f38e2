"""L2-SP: the squared distance to the starting point."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from wisetune.keep.penalty import Begun, OfWeights, Term, away, begin
from wisetune.nets.backbone import Groups
from wisetune.nets.model import Model
from wisetune.spec import option


@dataclasses.dataclass(frozen=True)
class L2Sp(OfWeights):
    """Weights are drawn to where they began: weight x sum of (value - value at the start)², no 1/2 (Li et al., ICML 2018, write weight/2).

    At weight 1 it is what the code of ImageNet-RIB calls EWC: that has no Fisher information. LP-FT's baseline has weight 0.01 and head=false.
    Parameters that train and have a value in the start are held, and grafts near the values that they begin with; a fresh head and a fresh class token
    are not, nor are BatchNorm's statistics.
    """

    name: ClassVar[str] = "l2-sp"

    weight: float = option(1.0, least=0, means="how much it counts beside the loss of the task")

    def prepare(self, begun: Begun) -> tuple[Term, Mapping[str, Any]]:
        """Remembers the values."""
        start = begin(begun.parameters(self))

        def term(model: Model, groups: Groups, logits: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - a term's
            return torch.stack([difference.square().sum() for _, difference in away(model, start)]).sum()

        return term, {}
