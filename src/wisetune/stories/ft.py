"""Full fine-tuning."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.recipe import Recipe
from wisetune.results import Variant
from wisetune.stories.story import Setting, Story, fine_tuning


@dataclasses.dataclass(frozen=True)
class Ft(Story):
    """Everything trains."""

    name: ClassVar[str] = "ft"

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """One tree."""
        return {Variant("ft"): fine_tuning(setting)}
