"""Linear probing, then fine-tuning."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.recipe import Recipe
from wisetune.results import Variant
from wisetune.stories.story import Setting, Story, linear_probing, probing_then_tuning


@dataclasses.dataclass(frozen=True)
class LpFt(Story):
    """LP-FT (Kumar et al., ICLR 2022): a trained head distorts the backbone less than a random one when fine-tuning begins."""

    name: ClassVar[str] = "lp-ft"
    reference: ClassVar[str] = "lp"

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """Linear probing and what follows from it."""
        return {Variant("lp"): linear_probing(setting), Variant("lp-ft"): probing_then_tuning(setting)}
