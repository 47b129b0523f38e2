"""Accuracy on the task that the model was tuned on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from wisetune.data.task import Data, SplitName
from wisetune.measure.measure import Measure, Tasks
from wisetune.measure.subject import Place, Subject
from wisetune.records import Record

SPLITS: tuple[SplitName, ...] = ("val", "test")


@dataclasses.dataclass(frozen=True)
class Accuracy(Measure):
    """Overall and class-mean accuracy on the validation and the test split, with the confusion matrix (rows: true class)."""

    name: ClassVar[str] = "accuracy"

    def cost(self, downstream: Data, tasks: Tasks) -> int:  # noqa: ARG002 - the contract of every measure
        """Both splits."""
        return sum(len(downstream.split(name)) for name in SPLITS)

    def of(self, subject: Subject, downstream: Data, tasks: Tasks) -> Iterator[Record]:  # noqa: ARG002 - the contract of every measure
        """Two records a split that has clouds."""
        for name in SPLITS:
            split = downstream.split(name)
            if len(split) == 0:
                continue
            place = Place(subject.weights, str(self), downstream, name, split)
            answer = subject.logits(split).argmax(axis=1)
            right = answer == split.labels
            size = len(downstream.classes)
            confusion = np.bincount(split.labels * size + answer, minlength=size * size).reshape(size, size)
            detail = {"confusion": confusion.tolist(), "classes": list(downstream.classes)}
            yield place.accuracy("accuracy", right, detail, role="accuracy")
            yield place.class_mean("class-mean accuracy", right, role="class-mean")
