"""What is measured: a model whose features are computed once and shared by every probe."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wisetune.data.task import Data, Split, SplitName
from wisetune.errors import WeightsError
from wisetune.nets.features import FeatureBank
from wisetune.nets.model import Model
from wisetune.nets.segmenter import refuse_segmenter
from wisetune.records import Record, Role, class_mean_interval, effective_n, mean_interval


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model under measurement.

    ``weights`` is the digest of its recipe, ``backbone_key`` that of the recipe whose backbone it has: equal keys mean equal features.
    """

    model: Model
    weights: str
    backbone_key: str
    bank: FeatureBank

    def __post_init__(self) -> None:
        refuse_segmenter(self.model, "a measure")

    def features(self, split: Split) -> Float[np.ndarray, "n f"]:
        """What the head sees of each cloud.

        Raises:
            WeightsError: it is not finite.
        """
        return _finite(self.bank.features(self.model, self.backbone_key, split.points, split.digest), "the backbone's features")

    def logits(self, split: Split) -> Float[np.ndarray, "n c"]:
        """The head's answer for each cloud.

        Raises:
            WeightsError: it is not finite.
        """
        return _finite(self.bank.logits(self.model, self.backbone_key, split.points, split.digest), "the model's answers")

    def once(self, split: Split) -> Float[np.ndarray, "n c"]:
        """Logits of clouds that will not be looked at again (corrupted ones): nothing is kept, and so ``shares_looks`` of the measure is false."""
        answer = self.logits(split)
        self.bank.forget_points(split.digest)
        return answer


def _finite(values: Float[np.ndarray, "n f"], what: str) -> Float[np.ndarray, "n f"]:
    """A training's last step can spoil weights after its last loss was looked at."""
    broken = len(values) - int(np.isfinite(values).all(axis=1).sum())
    if broken:
        raise WeightsError(
            f"{what} are not finite for {broken} of {len(values)} clouds: these weights have run away. Lower the learning rate if they were "
            "trained here, or take other pre-trained weights."
        )
    return values


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a number belongs: of which weights, by which measure, on which split of which data.

    ``items`` are the clouds that were looked at: that split, or a part of it. Where some are scans of one object the intervals say so.
    """

    weights: str
    measure: str
    data: Data
    split: SplitName
    items: Split

    def accuracy(self, name: str, right: Bool[np.ndarray, " n"], detail: dict[str, Any] | None = None, role: Role = "") -> Record:
        """The share of right answers with its interval; which answers were right, of which object, is kept for paired comparisons."""
        count, n, objects = int(right.sum()), len(right), self._objects
        low, high = mean_interval(right.tolist(), objects)
        kept: dict[str, Any] = {"right": "".join("1" if answer else "0" for answer in right)}
        if objects is not None:
            kept["objects"] = objects
        return self._record(name, count / max(n, 1), low, high, kept | (detail or {}), role)

    def class_mean(self, name: str, right: Bool[np.ndarray, " n"], role: Role = "") -> Record:
        """The mean over classes of each class's share of right answers (mAcc of the field)."""
        classes, labels, objects = self.data.classes, self.items.labels, self._objects
        rows = {c: np.flatnonzero(labels == c) for c in range(len(classes)) if (labels == c).any()}
        marks = {c: right[at].tolist() for c, at in rows.items()}
        size = {c: len(at) if objects is None else effective_n(marks[c], [objects[row] for row in at]) for c, at in rows.items()}
        low, high = class_mean_interval([float(np.mean(marks[c])) * size[c] for c in rows], list(size.values()))
        detail: dict[str, Any] = {"per_class": {classes[c]: [sum(marks[c]), len(at)] for c, at in rows.items()}}
        if objects is not None:
            owners = {c: [objects[row] for row in at] for c, at in rows.items()}
            detail["class_objects"] = {classes[c]: len(set(owners[c])) for c in rows}
            detail["class_intervals"] = {classes[c]: mean_interval(marks[c], owners[c]) for c in rows}
        return self._record(name, float(np.mean([np.mean(marks[c]) for c in rows])), low, high, detail, role)

    @property
    def _objects(self) -> list[int] | None:
        return None if self.items.objects is None else self.items.objects.tolist()

    def _record(self, name: str, value: float, low: float, high: float, detail: dict[str, Any], role: Role) -> Record:
        place = (self.weights, self.measure, self.data.name, self.data.digest, self.split)
        objects = self._objects
        count = None if objects is None else len(set(objects))
        return Record(*place, name, value, len(self.items), low, high, detail, count, role)
