"""Accuracy under the seven corruptions of PointCloud-C."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np

from wisetune.data.task import Data, Split, SplitName
from wisetune.errors import DataError
from wisetune.measure.measure import Measure, Tasks
from wisetune.measure.subject import Place, Subject
from wisetune.points.corrupt import KINDS, LEVELS, corrupt
from wisetune.records import Record
from wisetune.runtime import generator
from wisetune.spec import option


@dataclasses.dataclass(frozen=True)
class Corruption(Measure):
    """Accuracy on corrupted clouds of the task's own test (or val) split: seven kinds at five levels.

    A task without a test part is measured on val, as its accuracy is.
    ``items`` caps the clouds looked at (a seeded, stratified subset; 0 is all): the interval shows what that costs.
    """

    name: ClassVar[str] = "corruption"
    version: ClassVar[int] = 2  # of a task without a test part nothing was measured

    split: Literal["val", "test"] = option("test", means="the part of the task that is spoilt")
    items: int = option(0, least=0, means="at most so many clouds, in proportion to the classes; 0 for all")
    seed: int = option(0, means="draws the clouds and what is done to them")

    @property
    def shares_looks(self) -> bool:
        """No: features of spoilt clouds are not kept."""
        return False

    def check(self, downstream: Data, tasks: Tasks) -> None:  # noqa: ARG002 - the contract of every measure
        """There are clouds to spoil."""
        if len(downstream.split(self._part(downstream))) == 0:
            raise DataError(
                f"'{self}' spoils held-out clouds, and '{downstream.name}' has none: give it a test part, for example test=0.2."
            )

    def cost(self, downstream: Data, tasks: Tasks) -> int:  # noqa: ARG002 - the contract of every measure
        """Each cloud as it is, and in every kind and level."""
        count = len(downstream.split(self._part(downstream)))
        return (1 + len(KINDS) * len(LEVELS)) * min(count, self.items or count)

    def of(self, subject: Subject, downstream: Data, tasks: Tasks) -> Iterator[Record]:  # noqa: ARG002 - the contract of every measure
        """One record a kind and level, and one for the same clouds uncorrupted."""
        part = self._part(downstream)
        split = self._subset(downstream.split(part))
        if len(split) == 0:
            return
        place = Place(subject.weights, str(self), downstream, part, split)
        clean = subject.logits(split).argmax(axis=1) == split.labels
        yield place.accuracy("corrupted accuracy", clean, {"kind": "clean", "level": 0}, role="corruption")
        size = split.points.shape[1]
        for kind in KINDS:
            for level in LEVELS:
                spoilt = Split(corrupt(split.points, kind, level, self.seed, size), split.labels, split.names)
                right = subject.once(spoilt).argmax(axis=1) == split.labels
                yield place.accuracy("corrupted accuracy", right, {"kind": kind, "level": level}, role="corruption")

    def _part(self, downstream: Data) -> SplitName:
        return "val" if len(downstream.split(self.split)) == 0 else self.split

    def _subset(self, split: Split) -> Split:
        """At most ``items`` clouds, the same for every model, in proportion to the classes."""
        if not self.items or len(split) <= self.items:
            return split
        # Ranks within each class, spread over [0, 1): the smallest ones are a proportional sample.
        order = generator(self.seed, "corruption", "items").permutation(len(split))
        rank = np.empty(len(split))
        for label in np.unique(split.labels):
            rows = order[split.labels[order] == label]
            rank[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
        return split.take(np.sort(np.argsort(rank, kind="stable")[: self.items]))
