"""What a task is: labelled clouds in three splits, and the spec that loads them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from wisetune.points.content import signature
from wisetune.spec import Spec

SplitName = Literal["train", "val", "test"]


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Clouds of equal size with labels, which nobody changes: digests are kept.

    The arrays are not marked read-only: torch, whose tensors share their memory, warns of arrays that are.
    ``names`` says where each came from (a path relative to the folder, or an id).
    ``groups`` says what each is a scan of, where that is known: clouds of one object are siblings and say less than as many others would.
    ``marks`` are the signatures of the files that the points were drawn from; without them those of the points stand in.
    """

    points: Float32[np.ndarray, "n p 3"]
    labels: Int64[np.ndarray, " n"]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    marks: Float64[np.ndarray, "n s"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def digest(self) -> str:
        """Sixteen hex digits of the content: points, labels, order. Names and groups do not count: training does not see them."""
        state = hashlib.sha256(f"{self.points.shape}".encode())
        state.update(np.ascontiguousarray(self.points).tobytes())
        state.update(np.ascontiguousarray(self.labels).tobytes())
        return state.hexdigest()[:16]

    def take(self, rows: Int64[np.ndarray, " m"]) -> Split:
        """The clouds of these rows, in this order."""
        groups = None if self.groups is None else tuple(self.groups[row] for row in rows)
        marks = None if self.marks is None else self.marks[rows]
        return Split(self.points[rows], self.labels[rows], tuple(self.names[row] for row in rows), groups, marks)

    @functools.cached_property
    def signatures(self) -> Float64[np.ndarray, "n s"]:
        """Of each cloud what the same shape is known again by (``wisetune.points.content``), whatever was drawn of it."""
        if self.marks is not None or not len(self):
            return np.zeros((0, 0)) if self.marks is None else self.marks
        return np.stack([signature(points) for points in self.points])

    @functools.cached_property
    def objects(self) -> Int64[np.ndarray, " n"] | None:
        """The number of each cloud's object, in order of appearance; None where no two clouds are known to be of one object."""
        if self.groups is None or len(set(self.groups)) == len(self.groups):
            return None
        order = {group: number for number, group in enumerate(dict.fromkeys(self.groups))}
        return np.array([order[group] for group in self.groups], np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """One loaded task. ``protocol`` records what was done to the files: normalisation, seeds of splits, counts, what was skipped."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    protocol: dict[str, Any]

    def split(self, name: SplitName) -> Split:
        """One of the three parts."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    @functools.cached_property
    def digest(self) -> str:
        """Sixteen hex digits of classes and all three splits: what measures look at."""
        return _digest([list(self.classes), self.train.digest, self.val.digest, self.test.digest])

    @functools.cached_property
    def training_digest(self) -> str:
        """Sixteen hex digits of classes, train and val: what training and selection look at, and so what enters a recipe."""
        return _digest([list(self.classes), self.train.digest, self.val.digest])

    @functools.cached_property
    def grouping(self) -> str:
        """Sixteen hex digits of which clouds are of one object: measures look at that, training does not."""
        objects = [part.objects for part in (self.train, self.val, self.test)]
        plain = [None if numbers is None else numbers.tolist() for numbers in objects]
        return _digest(plain)


def _digest(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Task(Spec):
    """A spec that loads data: ``folder:DIR``, ``npz:FILE``, ``demo:scans``."""

    def load(self, points: int) -> Data:
        """Load with ``points`` points a cloud (what the backbone takes).

        Raises:
            DataError: the files cannot be used; the message names them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define load")
