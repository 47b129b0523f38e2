"""WiSE-FT-LP: the line between the start and full fine-tuning, with a head trained anew at each place on it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from wisetune.recipe import NAMES, Recipe
from wisetune.results import Variant, Words
from wisetune.spec import option
from wisetune.stories.story import Setting, Story, gentle_tuning, probing_then_tuning, wise_probed
from wisetune.stories.wise_ft import MIXED, Statistics, WiseFt, along
from wisetune.weights.alphas import grid


@dataclasses.dataclass(frozen=True)
class WiseFtLp(Story):
    """Mix the backbones, freeze, train a new head; WiSE-FT at the same alphas and the baselines stand beside it.

    The head begins ``fresh``, so that alpha = 0 is linear probing of the start and alpha = 1 that of the fine-tuned model; ``warm`` goes on from the
    fine-tuned head. ``baselines=false`` leaves out the low learning rate and LP-FT.
    """

    name: ClassVar[str] = "wise-ft-lp"
    sweeps: ClassVar[tuple[str, ...]] = ("wise-ft-lp", "wise-ft")

    alphas: tuple[float, ...] = option(
        grid(10), means="places between the pre-trained backbone (0) and the fine-tuned one (1); 1 is always among them"
    )
    statistics: Statistics = option("reestimated", means="of a mix's BatchNorm: measured again on training clouds, or mixed like weights")
    head: Literal["fresh", "warm"] = option("fresh", means="the head on each mix begins fresh, or as the fine-tuned one")
    baselines: bool = option(True, means="fine-tuning at a low rate and LP-FT stand beside")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "alphas", along(self.alphas))

    @property
    def words(self) -> dict[str, Words]:
        """Of both sweeps."""
        meaning = f"{MIXED}, then the head trained anew"
        return WiseFt().words | {WiseFtLp.name: Words(NAMES[WiseFtLp.name], meaning, head=": head trained anew")}

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """Baselines, WiSE-FT and WiSE-FT-LP at each alpha."""
        plain = WiseFt(self.alphas, self.statistics)
        found = plain.recipes(setting)
        if self.baselines:
            found[Variant("ft-low-lr")] = gentle_tuning(setting)
            found[Variant("lp-ft")] = probing_then_tuning(setting)
        for alpha in self.alphas:
            found[Variant(self.name, alpha)] = wise_probed(setting, alpha, self.statistics == "reestimated", self.head == "warm")
        return found
