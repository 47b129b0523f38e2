"""What is measured: a model whose features are computed once and shared by every probe."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from wisetune.data.task import Data, Split, SplitName
from wisetune.nets.features import FeatureBank
from wisetune.nets.model import Model
from wisetune.records import Record, class_mean_interval, wilson


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model under measurement.

    ``weights`` is the digest of its recipe, ``backbone_key`` that of the recipe whose backbone it has: equal keys mean equal features.
    """

    model: Model
    weights: str
    backbone_key: str
    bank: FeatureBank

    def features(self, split: Split) -> Float[np.ndarray, "n f"]:
        """What the head sees of each cloud."""
        return self.bank.features(self.model, self.backbone_key, split.points, split.digest)

    def logits(self, split: Split) -> Float[np.ndarray, "n c"]:
        """The head's answer for each cloud."""
        return self.bank.logits(self.model, self.backbone_key, split.points, split.digest)

    def once(self, split: Split) -> Float[np.ndarray, "n c"]:
        """Logits of clouds that will not be looked at again (corrupted ones): nothing is kept."""
        answer = self.logits(split)
        self.bank.forget_points(split.digest)
        return answer


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a number belongs: of which weights, by which measure, on which split of which data."""

    weights: str
    measure: str
    data: Data
    split: SplitName

    def accuracy(self, name: str, right: Bool[np.ndarray, " n"], detail: dict[str, Any] | None = None) -> Record:
        """The share of right answers with its Wilson interval; which answers were right is kept for paired comparisons."""
        count, n = int(right.sum()), len(right)
        low, high = wilson(count, n)
        marks = "".join("1" if answer else "0" for answer in right)
        return self._record(name, count / max(n, 1), n, low, high, {"right": marks, **(detail or {})})

    def class_mean(self, name: str, right: Bool[np.ndarray, " n"], labels: Int64[np.ndarray, " n"]) -> Record:
        """The mean over classes of each class's share of right answers (mAcc of the field)."""
        size = np.bincount(labels, minlength=len(self.data.classes))
        hits = np.bincount(labels, weights=right.astype(np.float64), minlength=len(self.data.classes))
        present = size > 0
        low, high = class_mean_interval(hits.tolist(), size.tolist())
        per_class = {self.data.classes[c]: [int(hits[c]), int(size[c])] for c in np.flatnonzero(present)}
        value = float((hits[present] / size[present]).mean())
        return self._record(name, value, len(labels), low, high, {"per_class": per_class})

    def _record(self, name: str, value: float, n: int, low: float, high: float, detail: dict[str, Any]) -> Record:
        return Record(self.weights, self.measure, self.data.name, self.data.digest, self.split, name, value, n, low, high, detail)
