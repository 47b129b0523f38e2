"""Linear probing, then fine-tuning."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.recipe import NAMES, Recipe
from wisetune.results import Variant, Words
from wisetune.stories.story import Setting, Story, linear_probing, probing_then_tuning, words_of
from wisetune.tune.full import FULL
from wisetune.tune.tuning import Tuning


@dataclasses.dataclass(frozen=True)
class LpFt(Story):
    """LP-FT (Kumar et al., ICLR 2022): a trained head distorts the backbone less than a random one when fine-tuning begins."""

    name: ClassVar[str] = "lp-ft"
    reference: ClassVar[str] = "lp"

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """Linear probing and what follows from it."""
        return {Variant("lp"): linear_probing(setting), Variant("lp-ft"): probing_then_tuning(setting, setting.tuning)}

    def said(self, tuning: Tuning) -> dict[str, Words]:
        """What follows the probe is the tuning that was asked for."""
        words = super().said(tuning)
        if tuning == FULL:
            return words
        how = words_of(tuning)["ft"]
        return words | {"lp-ft": Words(f"{NAMES['lp-ft']} of {how.name}", f"linear probing first, then from there: {how.meaning}")}
