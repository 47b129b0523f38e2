"""Weights that are worked out once, as precisely as they can be, whatever precision and device a model has."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def wide(value: Tensor) -> Tensor:
    """Its values, in double precision."""
    return value.detach().to("cpu", torch.float64)


def widened(module: M) -> M:
    """A copy with such values; what it works out of them has no gradient."""
    return copy.deepcopy(module).to("cpu", torch.float64).requires_grad_(False)


@torch.no_grad()
def put(parameter: Tensor, value: Tensor) -> None:
    """These values in place of a parameter's."""
    parameter.copy_(value)
