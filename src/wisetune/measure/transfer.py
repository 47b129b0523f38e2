"""Direct accuracy on another data set, over the classes that both have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from wisetune.data.classmap import match
from wisetune.data.task import Data
from wisetune.errors import DataError
from wisetune.measure.measure import Measure, Tasks
from wisetune.measure.subject import Place, Subject
from wisetune.records import Record
from wisetune.spec import option


@dataclasses.dataclass(frozen=True)
class Transfer(Measure):
    """Accuracy of the tuned head on the test split of ``on``, its answer limited to the shared classes before the arg-max.

    Classes are matched by name; ``map`` names further pairs (``[sofa=couch,desk=table]``, downstream's name first).
    """

    name: ClassVar[str] = "transfer"

    on: str = option(means="the task on whose test part the tuned model answers")
    map: str = option(
        "", means="classes that go together beside those of one name, [sofa=couch,desk=table], or shared: leave the others out"
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """The other data set."""
        return (self.on,)

    def check(self, downstream: Data, tasks: Tasks) -> None:
        """The classes can be matched, and there are test clouds of shared ones."""
        data = tasks(self.on)
        shared = match(downstream.classes, data.classes, self.map)
        if not (shared.rows[data.test.labels] >= 0).any():
            has = "has no test part" if len(data.test) == 0 else "has test clouds only of classes that are not shared"
            raise DataError(f"'{self}' measures on test clouds, and '{self.on}' {has}. Give it a test part, for example test=0.2.")

    def of(self, subject: Subject, downstream: Data, tasks: Tasks) -> Iterator[Record]:
        """Two records on the test split; the map is in their detail."""
        data = tasks(self.on)
        shared = match(downstream.classes, data.classes, self.map)
        as_ours = shared.rows[data.test.labels]
        split = data.test.take(np.flatnonzero(as_ours >= 0))
        if len(split) == 0:
            return
        allowed = np.unique(shared.rows[shared.rows >= 0])
        answer = allowed[subject.logits(split)[:, allowed].argmax(axis=1)]
        place = Place(subject.weights, str(self), data, "test", split)
        right = answer == as_ours[as_ours >= 0]
        yield place.accuracy("transfer accuracy", right, {"map": [list(pair) for pair in shared.pairs]}, role="transfer")
        yield place.class_mean("transfer class-mean accuracy", right)
