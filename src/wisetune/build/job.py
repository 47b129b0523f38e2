"""What is asked for: a story, what it begins with, on which task, how it trains and what is measured. ``Experiment`` knows its data."""

from __future__ import annotations

import dataclasses

from wisetune.build.request import Rule
from wisetune.fit.fit import Fit
from wisetune.keep.penalty import Penalty
from wisetune.measure.corruption import Corruption
from wisetune.measure.measure import Measure
from wisetune.nets.heads import Head
from wisetune.recipe import Start
from wisetune.stories.story import Setting, Story
from wisetune.tune.full import FULL
from wisetune.tune.tuning import Tuning


@dataclasses.dataclass(frozen=True)
class Job:
    """What to do. ``on`` and the measures' tasks are spelled; ``start`` names pre-trained weights that the store must have."""

    story: Story
    start: Start
    on: str
    measures: tuple[Measure, ...]
    head: Head
    fit: Fit
    gentle_fit: Fit
    head_fit: Fit
    seeds: tuple[int, ...] = (0,)
    rule: Rule = "interval"
    corruption: Corruption | None = None
    source: str = ""
    """What the weights were called when they were asked for: the page says it."""
    warnings: tuple[str, ...] = ()
    """What whoever reads the page should know first."""
    tuning: Tuning = FULL
    """How the start is tuned, where the story does not say it."""
    keep: Penalty | None = None
    """The penalty of every training of a backbone."""

    @property
    def setting(self) -> Setting:
        """What its story is told before any data are known."""
        fits = self.fit, self.gentle_fit, self.head_fit
        return Setting(self.start, "", self.head, *fits, self.seeds[0], tuning=self.tuning, keep=self.keep)
