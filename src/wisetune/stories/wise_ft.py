"""WiSE-FT: the line between the start and full fine-tuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Literal

from wisetune.errors import UsageError
from wisetune.recipe import NAMES, Recipe
from wisetune.results import Variant, Words
from wisetune.spec import option
from wisetune.stories.story import Setting, Story, fine_tuning, linear_probing, wise
from wisetune.weights.alphas import grid, tidy

Statistics = Literal["reestimated", "mixed"]
"""BatchNorm statistics of a mixed backbone: measured again on training clouds (as intended), or mixed like weights (as published)."""

MIXED = "weights mixed between the pre-trained backbone (alpha 0) and the fine-tuned one (alpha 1)"


def along(alphas: Iterable[float]) -> tuple[float, ...]:
    """Alphas as a sweep takes them: tidy, rising, each once, 1 among them.

    Raises:
        UsageError: there are none, or one is outside [0, 1].
    """
    alphas = tuple(alphas)
    if not alphas:
        raise UsageError("a sweep was given no alphas; give some, joined by +, for example alphas=0+0.5+1, or leave the option out.")
    return tuple(sorted({*map(tidy, alphas), 1.0}))


@dataclasses.dataclass(frozen=True)
class WiseFt(Story):
    """Backbones mixed, the fine-tuned head kept (Wortsman et al., CVPR 2022, for models with a new head).

    ``alphas`` are joined by +, for example ``0+0.5+1``; alpha 1 is always among them.
    """

    name: ClassVar[str] = "wise-ft"
    sweeps: ClassVar[tuple[str, ...]] = ("wise-ft",)

    alphas: tuple[float, ...] = option(
        grid(10), means="places between the pre-trained backbone (0) and the fine-tuned one (1); 1 is always among them"
    )
    statistics: Statistics = option("reestimated", means="of a mix's BatchNorm: measured again on training clouds, or mixed like weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "alphas", along(self.alphas))

    @property
    def words(self) -> dict[str, Words]:
        """Of its sweep."""
        meaning = f"{MIXED}, with the fine-tuned head kept"
        return {WiseFt.name: Words(NAMES[WiseFt.name], meaning, head=": head kept")}

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """Fine-tuning, linear probing, and a tree for each alpha."""
        found: dict[Variant, Recipe] = {Variant("lp"): linear_probing(setting), Variant("ft"): fine_tuning(setting)}
        for alpha in self.alphas:
            found[Variant(self.name, alpha)] = wise(setting, alpha, self.statistics == "reestimated")
        return found
