"""A subject whose answers are given: what a measure makes of them can be checked by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wisetune.data.task import Data, Split
from wisetune.measure.subject import Subject


class Told(Subject):
    """Features and logits by the digest of the split; there is no model to ask."""

    def __init__(self, answers: Mapping[str, np.ndarray]) -> None:
        for name, value in (("weights", "the weights"), ("backbone_key", "the backbone"), ("answers", answers)):
            object.__setattr__(self, name, value)

    def features(self, split: Split) -> np.ndarray:
        return self.answers[split.digest]

    def logits(self, split: Split) -> np.ndarray:
        return self.answers[split.digest]


def split(labels: list[int], first: float = 0.0, groups: list[str] | None = None) -> Split:
    """Clouds of one point each, told apart by its place."""
    points = np.zeros((len(labels), 1, 3), np.float32)
    points[:, 0, 0] = first + np.arange(len(labels))
    return Split(points, np.array(labels, np.int64), tuple(f"{first + row}" for row in range(len(labels))), groups and tuple(groups))


def data(classes: str, train: list[int], val: list[int], test: list[int], name: str = "toy") -> Data:
    """A task of such clouds; classes are letters."""
    return Data(name, tuple(classes), split(train, 100), split(val, 200), split(test, 300), {})


def votes(answers: list[int], classes: int) -> np.ndarray:
    """Logits whose arg-max is as asked."""
    return 3.0 * np.eye(classes, dtype=np.float32)[answers] - 1
