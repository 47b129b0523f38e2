"""``wisetune compare``: ways to tune, beside one another."""

from __future__ import annotations

import re

from wisetune.cli.asked import AskedOfCompare
from wisetune.cli.kinds import Tunings
from wisetune.cli.machine import HERE, Working
from wisetune.cli.run import carry_out
from wisetune.errors import naming


def compare(*, tunings: Tunings = ("all",), asked: AskedOfCompare, machine: Working = HERE) -> int:
    """Ways to tune, beside full fine-tuning and linear probing: on your data, at the same budget, with the same seeds.

    Each trains on the same clouds with the same options and epochs; differences to full fine-tuning are paired by seed and by cloud. What each costs
    (values that train, multiply-accumulates, memory, time, the size of its file) stands beside what it gains and forgets.

    Parameters
    ----------
    tunings
        all, or such as dapt lora:rank=8 vpt; wisetune options lists them.
    asked
        What to begin with, what to tune on, how, and what to measure.
    machine
        Where and how to work.
    """
    from wisetune.stories.compare import Compare

    with naming("--tunings"):
        for text in tunings:
            _refuse_several(text)
        story = str(Compare(tunings))
    return carry_out(asked.request(story), asked.out, machine)


def _refuse_several(text: str) -> None:
    """Several tunings in one word, joined by what joins options, or in quotes."""
    from wisetune.errors import UsageError
    from wisetune.stories.compare import ALL
    from wisetune.tune.tunings import TUNINGS

    known = {ALL, *TUNINGS.names()}
    words = [word.strip("[]") for word in re.split(r"[,+\s]+", text.strip())]
    if TUNINGS.divide(text)[0] not in known and len(words) > 1 and all(TUNINGS.divide(word)[0] in known for word in words):
        raise UsageError(f"'{text}' is {len(words)} tunings in one word. They are told apart by spaces: --tunings {' '.join(words)}.")
