"""``few-shot:TASK``: a few classes of another task, and a few clouds of each, as the field's few-shot tables draw them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int64

from wisetune.data.splits import draw, rank
from wisetune.data.task import Data, Split, Task
from wisetune.errors import DataError
from wisetune.results import FOLD, FOLDS_OF
from wisetune.spec import option


@dataclasses.dataclass(frozen=True)
class FewShot(Task):
    """``ways`` classes, ``shots`` clouds of each from the train part, ``queries`` of each from the test part; ``fold`` draws them.

    The protocol of Point-BERT's table 3 and all that followed: 5 or 10 ways, 10 or 20 shots, 10 folds, 20 queries. There is no validation part, so the
    last epoch's weights are what is measured. Of clouds that are scans of one object at most one is drawn.
    """

    name: ClassVar[str] = "few-shot"
    on: str = option(means="the task that is drawn from")
    ways: int = option(5, least=2, means="how many of its classes")
    shots: int = option(10, least=1, means="train clouds of each class")
    queries: int = option(20, least=1, means="test clouds of each class")
    fold: int = option(0, least=0, means="draws classes and clouds")

    def load(self, points: int) -> Data:
        """Load the other task and draw.

        Raises:
            DataError: it has fewer classes, or a class has fewer clouds; or it cannot be loaded.
        """
        from wisetune.data.tasks import parse_task

        whole = parse_task(self.on).load(points)
        if self.ways > len(whole.classes):
            raise DataError(f"'{self}' asks for {self.ways} classes, and {whole.name} has {len(whole.classes)}. Ask for at most that.")
        chosen = sorted(rank(whole.classes, self.fold, "ways")[: self.ways])
        train = self._some(whole, whole.train, chosen, "shots", "train")
        test = self._some(whole, whole.test, chosen, "queries", "test")
        protocol = dict(whole.protocol) | {
            "few-shot": f"{self.ways} ways, {self.shots} shots, {self.queries} queries a class",
            FOLD: self.fold,
            FOLDS_OF: str(dataclasses.replace(self, fold=0)),
            "val": "none: too few clouds to hold any out",
        }
        empty = train.take(np.zeros(0, np.int64))
        return Data(str(self), tuple(whole.classes[label] for label in chosen), train, empty, test, protocol)

    def _some(self, whole: Data, split: Split, chosen: list[int], option: Literal["shots", "queries"], part: str) -> Split:
        count = self.shots if option == "shots" else self.queries
        objects = split.groups or split.names
        first: Int64[np.ndarray, " n"] = np.array([objects.index(name) for name in dict.fromkeys(objects)], np.int64)
        first = first[np.isin(split.labels[first], chosen)]
        labels = split.labels[first]
        for label in chosen:
            if (there := int((labels == label).sum())) < count:
                what = f"{there} different clouds of '{whole.classes[label]}' in its {part} part"
                do = f"Ask for fewer, with {option}={there}, or draw" if there else "Draw"
                raise DataError(f"'{self}' draws {count} {option} a class, and {whole.name} has {what}. {do} another fold.")
        taken = draw(labels.tolist(), [split.names[row] for row in first], count, self.fold, f"few-shot {part}")
        few = split.take(first[taken])
        return dataclasses.replace(few, labels=np.array([chosen.index(label) for label in few.labels.tolist()], np.int64))
