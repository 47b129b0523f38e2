"""Accuracy of votes: several looks at one cloud, answered by the mean of their logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch

from wisetune.data.task import Data, Split
from wisetune.measure.accuracy import SPLITS
from wisetune.measure.measure import Measure, Tasks
from wisetune.measure.subject import Place, Subject
from wisetune.points.augment import AUGMENTS, augmentation
from wisetune.points.redraw import shuffled
from wisetune.records import Record
from wisetune.runtime import torch_generator
from wisetune.spec import option


@dataclasses.dataclass(frozen=True)
class Voting(Measure):
    """Accuracy of the mean of logits over ``draws`` looks at each cloud, its points in another order and augmented each time.

    Published codes repeat such a vote up to 299 times and report the best on the test split; that is a choice made on the test split, and is not
    offered. The draws follow from ``seed``: one vote, the same for every model.
    """

    name: ClassVar[str] = "voting"
    version: ClassVar[int] = 2  # the order of a look's points was drawn in another way

    draws: int = option(10, least=1, means="looks at each cloud, whose logits are averaged")
    augment: str = option("scale-translate", means=AUGMENTS)
    seed: int = option(0, means="every look follows from it, the same for every model")

    def __post_init__(self) -> None:
        super().__post_init__()
        augmentation(self.augment)

    @property
    def shares_looks(self) -> bool:
        """No: so many features are not kept."""
        return False

    def cost(self, downstream: Data, tasks: Tasks) -> int:  # noqa: ARG002 - the contract of every measure
        """Each look at each held-out cloud."""
        return self.draws * sum(len(downstream.split(name)) for name in SPLITS)

    def of(self, subject: Subject, downstream: Data, tasks: Tasks) -> Iterator[Record]:  # noqa: ARG002 - the contract of every measure
        """One record a split that has clouds."""
        for name in SPLITS:
            split = downstream.split(name)
            if len(split) == 0:
                continue
            total = sum(subject.once(self._look(split, draw)) for draw in range(self.draws))
            place = Place(subject.weights, str(self), downstream, name, split)
            yield place.accuracy("voted accuracy", np.asarray(total).argmax(axis=1) == split.labels, {"draws": self.draws}, role="voting")

    def _look(self, split: Split, draw: int) -> Split:
        random = torch_generator(self.seed, "voting", draw)
        mixed = shuffled(torch.from_numpy(split.points), random)
        return Split(augmentation(self.augment)(mixed, random).numpy(), split.labels, split.names)
