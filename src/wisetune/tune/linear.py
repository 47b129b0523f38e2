"""Probing: only the head trains, on features that do not change."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import nn

from wisetune.nets.backbone import Anatomy, Backbone
from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune.tuning import Figures, Tuning


@dataclasses.dataclass(frozen=True)
class Linear(Tuning):
    """The backbone is frozen, its BatchNorm statistics too. With an ``mlp3`` head this is what papers call MLP-LINEAR, not a linear probe.

    With ``class_token`` it trains too, as filters of names in published code have it: a graph through every block, for 768 parameters more.
    """

    name: ClassVar[str] = "linear"
    title: ClassVar[str] = "linear probing"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.3, 75.99)

    class_token: bool = option(
        False, absent=False, means="whether a class token and its position train too, as the published name filters have it"
    )

    def beside(self, anatomy: Anatomy) -> tuple[str, ...]:
        """The class token and its position, if wanted."""
        return anatomy.class_token if self.class_token else ()

    def trains(self, name: str, backbone: Backbone) -> bool:
        """The head, and a class token if wanted."""
        return name.startswith("head.") or name.removeprefix("backbone.") in self.beside(backbone.anatomy)

    def in_training(self, model: Headed) -> list[nn.Module]:
        """The head."""
        return [model.head]

    @property
    def moves_features(self) -> bool:
        """Only with a class token."""
        return self.class_token
