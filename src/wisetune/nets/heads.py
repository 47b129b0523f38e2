"""Heads: from a readout's vector to logits. The names say what they are: ``mlp3`` is not a linear probe, though papers call it one."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.transformer import initialise
from wisetune.spec import Spec, option

_WIDEST = 1 << 13
"""Far above any use. Specs are read from files that nobody vouches for, so none may ask for the whole memory."""
DROPOUT = "the share of values that are dropped in training"
"""What the option of this name means, in every head."""
_HIDDEN = "numbers of the hidden layer"


@dataclasses.dataclass(frozen=True)
class Head(Spec):
    """Base of head specs."""

    def build(self, width: int, classes: int) -> nn.Module:
        """A head with fresh weights, drawn from torch's default generator."""
        raise NotImplementedError(f"{type(self).__name__} must define build")


@dataclasses.dataclass(frozen=True)
class LinearHead(Head):
    """One linear map."""

    name: ClassVar[str] = "linear"

    def build(self, width: int, classes: int) -> nn.Module:
        """``Linear(width, classes)``, initialised as the field does."""
        return nn.Linear(width, classes).apply(initialise)


@dataclasses.dataclass(frozen=True)
class Mlp1Head(Head):
    """One linear map in a Sequential: the linear classifiers of ACT and ReCon, so that their files load by name."""

    name: ClassVar[str] = "mlp1"

    def build(self, width: int, classes: int) -> nn.Module:
        """``Sequential(Linear(width, classes))``, initialised as the field does."""
        return nn.Sequential(nn.Linear(width, classes)).apply(initialise)


@dataclasses.dataclass(frozen=True)
class Mlp3Head(Head):
    """Three linear maps with BatchNorm, ReLU and dropout between: the head of Point-MAE's, ReCon's and ACT's classifiers.

    MaskPoint's on ScanObjectNN has ``hidden=512,second=256``; without ``second`` both hidden layers are ``hidden`` wide. PPT's has
    ``activation=gelu``.
    """

    name: ClassVar[str] = "mlp3"

    hidden: int = option(256, least=1, most=_WIDEST, means=_HIDDEN)
    dropout: float = option(0.5, least=0, below=1, means=DROPOUT)
    second: int | None = option(None, least=1, most=_WIDEST, absent=None, means="numbers of the second hidden layer; none: as many")
    activation: Literal["relu", "gelu"] = option("relu", absent="relu", means="what bends between the maps")

    def build(self, width: int, classes: int) -> nn.Module:
        """Positions in the Sequential are those of the released code, so that its files load by name."""
        layers: list[nn.Module] = []
        second = self.second or self.hidden
        bend = {"relu": nn.ReLU, "gelu": nn.GELU}[self.activation]
        for inside, outside in ((width, self.hidden), (self.hidden, second)):
            layers += [nn.Linear(inside, outside), nn.BatchNorm1d(outside), bend(), nn.Dropout(self.dropout)]
        return nn.Sequential(*layers, nn.Linear(second, classes)).apply(initialise)


@dataclasses.dataclass(frozen=True)
class Mlp2Head(Head):
    """Two linear maps with ReLU and dropout between, no BatchNorm: the head of Point-BERT's classifiers, and of MaskPoint's on ModelNet."""

    name: ClassVar[str] = "mlp2"

    hidden: int = option(256, least=1, most=_WIDEST, means=_HIDDEN)
    dropout: float = option(0.5, least=0, below=1, means=DROPOUT)

    def build(self, width: int, classes: int) -> nn.Module:
        """Positions in the Sequential are those of the released code, so that its files load by name."""
        layers = [nn.Linear(width, self.hidden), nn.ReLU(), nn.Dropout(self.dropout), nn.Linear(self.hidden, classes)]
        return nn.Sequential(*layers).apply(initialise)


HEADS: dict[str, type[Head]] = {cls.name: cls for cls in (LinearHead, Mlp1Head, Mlp2Head, Mlp3Head)}


def parse_head(text: str, *, filed: bool = False) -> Head:
    """A head from its spelling, on a command line or ``filed`` (see ``Spec.from_options``).

    Raises:
        UsageError: there is none of this name.
    """
    name, _, options = text.partition(":")
    if name not in HEADS:
        raise UsageError(f"there is no head '{name}' for classes. There are: {', '.join(HEADS)}.")
    return HEADS[name].from_options(options, filed=filed)
