"""Many tunings beside one another, at the same budget."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.errors import UsageError
from wisetune.recipe import Recipe
from wisetune.results import Variant, Words
from wisetune.spec import option
from wisetune.stories.story import Setting, Story, fine_tuning, linear_probing, tuning, words_of
from wisetune.tune.full import FULL
from wisetune.tune.linear import Linear
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

ALL = "all"


@dataclasses.dataclass(frozen=True)
class Compare(Story):
    """Tunings beside full fine-tuning and linear probing: the same data, options, epochs and seeds for each.

    ``tunings`` are joined by +, one with options in brackets: ``dapt+[lora:rank=8]``.
    """

    name: ClassVar[str] = "compare"
    reference: ClassVar[str] = "ft"

    tunings: tuple[str, ...] = option((ALL,), means="all, or some of them joined by +, with options in brackets: dapt+[lora:rank=8]")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tunings:
            raise UsageError("there is nothing to compare: give tunings joined by +, such as dapt+lora, or all.")
        object.__setattr__(
            self, "tunings", tuple(dict.fromkeys(text if text == ALL else str(TUNINGS.parse(text)) for text in self.tunings))
        )

    @property
    def headline(self) -> str:
        """Full fine-tuning, with which all are compared."""
        return self.reference

    @property
    def values(self) -> tuple[Tuning, ...]:
        """The tunings beside full fine-tuning and linear probing, each once."""
        every = [name for name in TUNINGS.names() if not TUNINGS.entry(name).of_parts] if ALL in self.tunings else []
        texts = [name for text in self.tunings for name in (every if text == ALL else [text])]
        return tuple(dict.fromkeys(value for value in map(TUNINGS.parse, texts) if value not in (FULL, Linear())))

    @property
    def words(self) -> dict[str, Words]:
        """Each tuning is called as it is spelled."""
        return {str(value): words_of(value)["ft"] for value in self.values}

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """One tree a tuning."""
        setting = dataclasses.replace(setting, tuning=FULL)
        others: dict[Variant, Recipe] = {Variant(str(value)): tuning(setting, value) for value in self.values}
        return {Variant("ft"): fine_tuning(setting), Variant("lp"): linear_probing(setting)} | others
