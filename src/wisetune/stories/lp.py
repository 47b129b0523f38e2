"""Linear probing."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.recipe import Recipe
from wisetune.results import Variant
from wisetune.stories.story import Setting, Story, linear_probing


@dataclasses.dataclass(frozen=True)
class Lp(Story):
    """Only a head trains; the backbone, and so its robustness, stays as it was."""

    name: ClassVar[str] = "lp"
    reference: ClassVar[str] = "lp"

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """One tree."""
        return {Variant("lp"): linear_probing(setting)}
