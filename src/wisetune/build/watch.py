"""How long a job takes, over all calls of its command: the one place that knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from time import monotonic

from wisetune.build.meter import Meter

_KEPT_EVERY_S = 5.0
"""So much of a call that is killed outright is not counted at most, or what it did since it last told of clouds."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """The time of all calls of one command that did something, of which the first ``found`` so many trainings done or begun."""

    seconds: float = 0.0
    found: int | None = None


NOTHING = Spent()
"""Of a first call."""


class Watch:
    """A meter that hands on what it is told, and adds up the time from ``start`` to ``stop``.

    A call that looked at no cloud found everything in the store: its time is not that of the job, and is left out.
    """

    def __init__(self, meter: Meter) -> None:
        self.expect, self.stage, self.tell, self._meter = meter.expect, meter.stage, meter.tell, meter
        self._before, self._worked = NOTHING, False
        self._keep: Callable[[Spent], None] = _forget
        self._began = self._kept = monotonic()

    def start(self, before: Spent, found: int, keep: Callable[[Spent], None] | None = None) -> None:
        """The work begins: ``found`` trainings are done or begun; ``keep`` is given the time now and then, in case the process is killed."""
        self._before = Spent(before.seconds, found if before.found is None else before.found)
        self._keep, self._worked = keep or _forget, False
        self._began = self._kept = monotonic()

    def advance(self, clouds: float, kind: str) -> None:
        """So many more clouds are done."""
        self._meter.advance(clouds, kind)
        first, self._worked = not self._worked, True
        if first or monotonic() - self._kept >= _KEPT_EVERY_S:
            self._kept = monotonic()
            self._keep(self.spent())

    def spent(self) -> Spent:
        """The time up to now."""
        here = monotonic() - self._began if self._worked else 0.0
        return dataclasses.replace(self._before, seconds=round(self._before.seconds + here, 1))

    def stop(self) -> Spent:
        """The work ends, or is broken off."""
        found = self.spent()
        self._keep(found)
        self._keep = _forget
        return found


def _forget(_: Spent) -> None:
    """Nobody asked."""
