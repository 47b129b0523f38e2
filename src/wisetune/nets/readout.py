"""Tokens by role, and readouts: from a backbone's tokens to the one vector that a head or a probe sees. Each is named for what it concatenates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float

from wisetune.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A backbone's output by role: ``lead`` (class token and the like) before ``patch`` (one a patch of the input)."""

    lead: Float[torch.Tensor, "b l d"]
    patch: Float[torch.Tensor, "b g d"]


Readout = Callable[[Tokens], torch.Tensor]


def lead(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """The first lead token alone."""
    return tokens.lead[:, 0]


def lead_max(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """First lead token and the maximum over patches: what the classifiers of Point-BERT, Point-MAE, ACT and MaskPoint see."""
    return torch.cat([tokens.lead[:, 0], tokens.patch.amax(dim=1)], dim=-1)


def max_mean(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """Maximum and mean over patches, side by side."""
    return torch.cat([tokens.patch.amax(dim=1), tokens.patch.mean(dim=1)], dim=-1)


READOUTS: dict[str, tuple[Readout, int]] = {"lead": (lead, 1), "lead+max": (lead_max, 2), "max+mean": (max_mean, 2)}
"""Name to function and to the width of its result in units of the backbone's width."""


def readout(name: str) -> Readout:
    """The readout of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in READOUTS:
        raise UsageError(f"there is no readout '{name}'. There are: {', '.join(READOUTS)}.")
    return READOUTS[name][0]
