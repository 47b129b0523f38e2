"""How far a job is: clouds looked at, each kind of work by itself, as a cloud of one kind may take a thousand times as long as one of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

Work = Mapping[str, float]
"""Clouds by the kind of work: those below, and each measure by its name."""
TRAIN, HEAD, LOOK, MIX, KEEP, COST = "train", "head", "look", "mix", "keep", "cost"
"""A backbone trains; a head trains on features; a backbone makes features; a mix's statistics are measured again; a penalty is prepared; a training
step is timed."""
NOTHING: Work = {}
_WEIGHTS = {TRAIN: 3.0, HEAD: 0.01, KEEP: 3.0, COST: 3.0}
"""In inferences, and 1 for all else: a training step goes forwards and backwards, as what a penalty looks at does; of a head on features it hardly
counts beside a backbone."""


def weigh(work: Work) -> float:
    """Work as one number, before anybody knows how long it takes: in inferences of a cloud."""
    return sum(_WEIGHTS.get(kind, 1.0) * clouds for kind, clouds in work.items())


@runtime_checkable
class Meter(Protocol):
    """Told what is done next and how many clouds were looked at; draws a bar, or nothing."""

    def expect(self, work: Work, done: Work = NOTHING) -> None:
        """How much there is to do, and how much was done before: the work begins now."""

    def stage(self, text: str) -> None:
        """What is being done now."""

    def advance(self, clouds: float, kind: str) -> None:
        """So many more clouds are done, of this kind of work, and nothing else since the last call."""

    def tell(self, text: str) -> None:
        """A line that the user should read."""


class Silent:
    """A meter that shows nothing."""

    def expect(self, work: Work, done: Work = NOTHING) -> None:
        """Nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def advance(self, clouds: float, kind: str) -> None:
        """Nothing."""

    def tell(self, text: str) -> None:
        """Nothing."""


class Pace:
    """How long work takes: of each kind the time that it took in this session is what the rest of that kind takes.

    Of a kind that was not met yet, the clouds are weighed (``weigh``) against those that a backbone looked at.
    """

    def __init__(self, work: Work) -> None:
        self.rest, self.did, self._took = dict(work), dict[str, float](), dict[str, float]()

    def advance(self, clouds: float, kind: str, seconds: float) -> None:
        """So much was done in this time."""
        self.rest[kind] = max(self.rest.get(kind, 0.0) - clouds, 0.0)
        self.did[kind] = self.did.get(kind, 0.0) + clouds
        self._took[kind] = self._took.get(kind, 0.0) + seconds

    def left(self) -> float:
        """Seconds that the rest takes."""
        # The time of heads on features says nothing of that of backbones, unless it is all that is known.
        known = {kind: clouds for kind, clouds in self.did.items() if kind != HEAD} or self.did
        usual = sum(self._took[kind] for kind in known) / max(weigh(known), 1e-9)
        return sum(
            clouds * self._took[kind] / self.did[kind] if self.did.get(kind) else weigh({kind: clouds}) * usual
            for kind, clouds in self.rest.items()
        )
