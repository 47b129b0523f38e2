"""What a measure is: a spec that yields records of a subject. One module of this package is one measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar

from wisetune.data.task import Data
from wisetune.measure.subject import Subject
from wisetune.records import Record
from wisetune.spec import Spec

Tasks = Callable[[str], Data]
"""Loads another task by its spelling, with the number of points that the subject takes; the same one is loaded once."""


@dataclasses.dataclass(frozen=True)
class Measure(Spec):
    """Base of every measure; the fields of a subclass are its options.

    ``version`` counts changes of what one measure measures: what a store holds of another version is measured again.
    """

    version: ClassVar[int] = 1

    @property
    def of_backbone(self) -> bool:
        """Whether the numbers depend on the backbone alone: then models that differ in their head share them."""
        return False

    @property
    def shares_looks(self) -> bool:
        """Whether models that differ in their head share the clouds that their backbone looks at; not where features are not kept."""
        return True

    @property
    def needs(self) -> tuple[str, ...]:
        """The other tasks it looks at, by spelling."""
        return ()

    def check(self, downstream: Data, tasks: Tasks) -> None:
        """Called once all data are loaded and before anything is trained: refuses what cannot be measured, whatever the weights will be.

        Raises:
            DataError: these data cannot be measured on.
            UsageError: the options do not fit these data.
        """

    def cost(self, downstream: Data, tasks: Tasks) -> int:  # noqa: ARG002 - the contract of every measure
        """How many clouds a backbone must look at for it; by itself all of the other tasks'."""
        return sum(len(part) for data in map(tasks, self.needs) for part in (data.train, data.val, data.test))

    def of(self, subject: Subject, downstream: Data, tasks: Tasks) -> Iterator[Record]:
        """The records of a subject that was tuned on ``downstream``; these data have passed ``check``, which is called once and not here."""
        raise NotImplementedError(f"{type(self).__name__} must define of")
