"""Full fine-tuning."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.recipe import Recipe
from wisetune.stories.story import Method, Setting, Story, fine_tuning


@dataclasses.dataclass(frozen=True)
class Ft(Story):
    """Everything trains."""

    name: ClassVar[str] = "ft"

    def recipes(self, setting: Setting) -> dict[Method, Recipe]:
        """One tree."""
        return {Method("ft"): fine_tuning(setting)}
