"""Many tunings beside one another, at the same budget."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.errors import UsageError
from wisetune.nets.backbone import BackboneSpec
from wisetune.nets.heads import Head
from wisetune.recipe import Recipe
from wisetune.results import Variant, Words
from wisetune.spec import option
from wisetune.stories.story import Setting, Story, fine_tuning, linear_probing, tuning, words_of
from wisetune.tune.full import FULL
from wisetune.tune.linear import Linear
from wisetune.tune.tuned import refusal
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
    costs: ClassVar[bool] = True

    tunings: tuple[str, ...] = option((ALL,), means="all, or some of them joined by +, with options in brackets: dapt+[lora:rank=8]")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tunings:
            raise UsageError(f"there is nothing to compare: give {ALL}, or some of {', '.join(TUNINGS.names())}.")
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
        return tuple(self._asked)

    @property
    def _asked(self) -> dict[Tuning, bool]:
        """The same, and of each whether it was asked for by name, and not as one of all."""
        every = [name for name in TUNINGS.names() if not TUNINGS.entry(name).of_parts] if ALL in self.tunings else []
        texts = [(name, text != ALL) for text in self.tunings for name in (every if text == ALL else [text])]
        found = dict[Tuning, bool]()
        for text, named in texts:
            value = TUNINGS.parse(text)
            found[value] = found.get(value, False) or named
        return {value: named for value, named in found.items() if value not in (FULL, Linear())}

    def left_out(self, setting: Setting) -> dict[str, str]:
        """Those of all that this backbone refuses; one that was asked for by name is refused when it is built."""
        assert isinstance(setting.start.backbone, BackboneSpec)
        assert isinstance(setting.head, Head)
        refused = {value: refusal(value, setting.start.backbone, setting.head) for value, named in self._asked.items() if not named}
        return {str(value): why for value, why in refused.items() if why}

    @property
    def words(self) -> dict[str, Words]:
        """Each tuning is called as it is spelled."""
        return {str(value): words_of(value)["ft"] for value in self.values}

    def recipes(self, setting: Setting) -> dict[Variant, Recipe]:
        """One tree a tuning, but for what is left out."""
        setting = dataclasses.replace(setting, tuning=FULL)
        left_out = self.left_out(setting)
        others: dict[Variant, Recipe] = {Variant(str(value)): tuning(setting, value) for value in self.values if str(value) not in left_out}
        return {Variant("ft"): fine_tuning(setting), Variant("lp"): linear_probing(setting)} | others
