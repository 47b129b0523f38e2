"""Probing: only the head trains, on features that do not change."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.tune.tuning import Tuning


@dataclasses.dataclass(frozen=True)
class Linear(Tuning):
    """The backbone is frozen, its BatchNorm statistics too. With an ``mlp3`` head this is what papers call MLP-LINEAR, not a linear probe."""

    name: ClassVar[str] = "linear"
    title: ClassVar[str] = "linear probing"

    def trains(self, name: str) -> bool:
        """The head alone."""
        return name.startswith("head.")

    @property
    def moves_features(self) -> bool:
        """Never."""
        return False
