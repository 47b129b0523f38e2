"""Which parameters have weight decay, by the rule of the released codes."""

from __future__ import annotations

from torch import nn


def decays(name: str, value: nn.Parameter) -> bool:
    """All but one-dimensional ones, biases, and those with "token" in their names: a class token has none, and its position has."""
    return value.ndim > 1 and not name.endswith(".bias") and "token" not in name
