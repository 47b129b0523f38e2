"""Tokens by role, and readouts: from a backbone's tokens to the one vector that a head or a probe sees. Each is named for what it concatenates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float

from wisetune.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A backbone's output by role: ``lead`` (class token and the like), ``patch`` (one a patch of the input), ``extra`` (a tuning's prompts)."""

    lead: Float[torch.Tensor, "b l d"]
    patch: Float[torch.Tensor, "b g d"]
    extra: Float[torch.Tensor, "b e d"] | None = None

    @property
    def peak(self) -> Float[torch.Tensor, "b d"]:
        """The maximum over patches."""
        return self.patch.amax(dim=1)


class Joined(Tokens):
    """The same, of which maxima are over extra tokens too."""

    @property
    def peak(self) -> Float[torch.Tensor, "b d"]:
        """The maximum over patches and extra tokens."""
        assert self.extra is not None
        return torch.maximum(self.patch.amax(dim=1), self.extra.amax(dim=1))


def by_role(x: Float[torch.Tensor, "b t d"], leads: int, patches: int) -> Tokens:
    """Tokens as they leave blocks, which stand in this order."""
    behind = leads + patches
    return Tokens(x[:, :leads], x[:, leads:behind], x[:, behind:] if x.shape[1] > behind else None)


def lead(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """The first lead token alone."""
    return tokens.lead[:, 0]


def lead_max(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """First lead token and the maximum over patches: what the classifiers of Point-BERT, Point-MAE, ACT and MaskPoint see."""
    return torch.cat([tokens.lead[:, 0], tokens.peak], dim=-1)


def max_mean(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """Maximum and mean over patches, side by side."""
    return torch.cat([tokens.peak, tokens.patch.mean(dim=1)], dim=-1)


def mean_max(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """Mean and maximum over patches, side by side: what Point-M2AE's classifier on ScanObjectNN sees."""
    return torch.cat([tokens.patch.mean(dim=1), tokens.peak], dim=-1)


def leads_max(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """Every lead token and the maximum over patches: what ReCon's classifier sees."""
    return torch.cat([tokens.lead.flatten(1), tokens.peak], dim=-1)


def total(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """Maximum and mean over patches, added: what Point-M2AE's linear SVM, and its classifier on ModelNet, see."""
    return tokens.peak + tokens.patch.mean(dim=1)


def peak_total(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """The maximum over lead tokens, and the maximum and mean over patches, added: what ReCon's linear SVM sees."""
    return torch.cat([tokens.lead.amax(dim=1), total(tokens)], dim=-1)


def leads(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """Every lead token."""
    return tokens.lead.flatten(1)


def leads_peak(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """The maximum over lead tokens."""
    return tokens.lead.amax(dim=1)


def peak(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """The maximum over patches."""
    return tokens.peak


def mean(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """The mean over patches."""
    return tokens.patch.mean(dim=1)


def extra(tokens: Tokens) -> Float[torch.Tensor, "b f"]:
    """The mean over extra tokens."""
    assert tokens.extra is not None
    return tokens.extra.mean(dim=1)


class Readout(NamedTuple):
    """A readout, and the length of its result in units of the backbone's width: ``fixed``, and ``each`` more for each lead token."""

    of: Callable[[Tokens], torch.Tensor]
    fixed: int
    each: int = 0


READOUTS: dict[str, Readout] = {
    "lead": Readout(lead, 1),
    "lead+max": Readout(lead_max, 2),
    "leads+max": Readout(leads_max, 1, 1),
    "max+mean": Readout(max_mean, 2),
    "mean+max": Readout(mean_max, 2),
    "total": Readout(total, 1),
    "leads-max+total": Readout(peak_total, 2),
}

EXTRA = "extra"
"""What a readout looks at that a tuning declares: extra tokens, by themselves or among others, each by its name (``lead+extra+max``)."""
_JOINABLE: dict[str, Readout] = {
    "lead": Readout(lead, 1),
    "leads": Readout(leads, 0, 1),
    "leads-max": Readout(leads_peak, 1),
    "max": Readout(peak, 1),
    "mean": Readout(mean, 1),
    "total": Readout(total, 1),
    EXTRA: Readout(extra, 1),
}
_JOINED = f"|{EXTRA}"
"""What ends the name of a readout whose maxima are over extra tokens too."""

READS = f"what a head sees of the tokens: {', '.join(READOUTS)}"
"""Of the option of this name."""


def with_extra(name: str) -> str:
    """The readout that sees what this one does, and extra tokens."""
    return "lead+extra+max" if name == "lead+max" else f"{name}+{EXTRA}"


def with_extra_peaks(name: str) -> str:
    """The readout that sees what this one does, with maxima over extra tokens too."""
    return name + _JOINED


def grafted_readout(name: str, leads: int) -> Readout:
    """The readout of a name, of a backbone that may have extra tokens; errors as ``readout``."""
    if name.endswith(_JOINED):
        base = readout(name.removesuffix(_JOINED), leads)
        return base._replace(of=lambda tokens: base.of(Joined(tokens.lead, tokens.patch, tokens.extra)))
    parts = name.split("+")
    if EXTRA not in parts:
        return readout(name, leads)
    several = [_JOINABLE[part] if part in _JOINABLE else readout(part, leads) for part in parts]

    def joined(tokens: Tokens) -> torch.Tensor:
        return torch.cat([part.of(tokens) for part in several], dim=-1)

    return Readout(joined, sum(part.fixed for part in several), sum(part.each for part in several))


def readout(name: str, leads: int) -> Readout:
    """The readout of a name, for a backbone with so many lead tokens.

    Raises:
        UsageError: there is none, or it looks at lead tokens and there are none.
    """
    possible = [known for known in READOUTS if leads or not known.startswith("lead")]
    if name in READOUTS and name not in possible:
        raise UsageError(
            f"readout={name} looks at a class token, and this backbone has none. Without one there are: {', '.join(possible)}."
        )
    if name not in possible:
        raise UsageError(f"there is no readout '{name}'. There are: {', '.join(possible)}.")
    return READOUTS[name]
