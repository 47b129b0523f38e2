"""Full fine-tuning: everything trains."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.nets.backbone import Backbone
from wisetune.tune.tuning import Figures, Tuning


@dataclasses.dataclass(frozen=True)
class Full(Tuning):
    """Backbone and head train together."""

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "full fine-tuning"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(22.1, 85.18)

    def trains(self, name: str, backbone: Backbone) -> bool:  # noqa: ARG002 - the answer does not depend on them
        """Always."""
        return True


FULL = Full()
"""How a start is tuned where nothing else is asked for."""
