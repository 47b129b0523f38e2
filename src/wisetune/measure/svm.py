"""Robustness as the field probes it: a linear SVM on the features of another labelled set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from jaxtyping import Int64

from wisetune.data.task import Data, Split, SplitName
from wisetune.errors import DataError, UsageError, counted
from wisetune.measure.accuracy import SPLITS
from wisetune.measure.measure import Measure, Tasks
from wisetune.measure.subject import Place, Subject
from wisetune.records import Record
from wisetune.runtime import seed_of
from wisetune.spec import option

GRID = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Values of C tried by cross-validation; features are standardised first, so that one grid serves all backbones."""
FOLDS = 3
Fold = tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " m"]]


@dataclasses.dataclass(frozen=True)
class Svm(Measure):
    """Accuracy of a one-against-rest linear SVM (squared hinge, L2) on standardised features of the task ``on``.

    ``c`` is the SVM's C; ``cv`` chooses it by 3-fold cross-validation on the probe's train split, for each backbone anew, with scans of one
    object in one fold. The C used is in the record. The protocol of WiSE-FT-LP's robustness (linear SVM on ModelNet40); papers of this field
    rarely state their C.
    """

    name: ClassVar[str] = "svm"

    on: str = option(means="the task whose clouds are told apart, spelled as after --probe")
    c: str = option("cv", means="the SVM's C, a positive number, or cv: chosen by cross-validation")

    def __post_init__(self) -> None:
        if self.c != "cv":
            try:
                good = float(self.c) > 0
            except ValueError:
                good = False
            if not good:
                raise UsageError(f"option 'c' of 'svm' is '{self.c}'; it can be cv or a positive number.")

    @property
    def of_backbone(self) -> bool:
        """A probe brings its own classifier."""
        return True

    @property
    def needs(self) -> tuple[str, ...]:
        """The probe's data."""
        return (self.on,)

    def check(self, downstream: Data, tasks: Tasks) -> None:  # noqa: ARG002 - the contract of every measure
        """There are classes to tell apart, and clouds enough to choose C."""
        train = tasks(self.on).train
        if len(np.unique(train.labels)) < 2:
            raise DataError(f"'{self}' learns to tell classes apart, but the train part of '{self.on}' has fewer than two of them.")
        if self.c == "cv" and not folds(train):
            counts = np.bincount(train.labels)
            few = f"a class of '{self.on}' has {counted(int(counts[counts > 0].min()), 'training cloud')}"
            few += "" if train.objects is None else f" and all of them are scans of {counted(int(train.objects.max()) + 1, 'object')}"
            raise DataError(
                f"'{self}' chooses C by {FOLDS}-fold cross-validation, but {few}. Fix it instead: option c=0.01 of the measure, "
                "--probe-c 0.01 of wisetune run, --c 0.01 of wisetune probe."
            )

    def of(self, subject: Subject, downstream: Data, tasks: Tasks) -> Iterator[Record]:  # noqa: ARG002 - the contract of every measure
        """Two records a split.

        For ``val``, on which alpha is chosen, the SVM learns from train; for ``test`` from train and val, which has then done its work.
        C is chosen on train alone, once for both. The data have passed ``check``.
        """
        data = tasks(self.on)
        c = self._best_c(subject, data.train) if self.c == "cv" else float(self.c)
        taught: dict[SplitName, list[Split]] = {"val": [data.train], "test": [data.train, data.val]}
        for name in SPLITS:
            split, known = data.split(name), [part for part in taught[name] if len(part)]
            if len(split) == 0:
                continue
            machine = _machine(c)
            machine.fit(np.concatenate([subject.features(part) for part in known]), np.concatenate([part.labels for part in known]))
            right = np.asarray(machine.predict(subject.features(split)) == split.labels)
            place = Place(subject.weights, str(self), data, name, split)
            detail = {"c": c, "c_by": "cross-validation" if self.c == "cv" else "fixed", "trained_on": sum(map(len, known))}
            yield place.accuracy("probe accuracy", right, detail, role="robustness")
            yield place.class_mean("probe class-mean accuracy", right)

    def _best_c(self, subject: Subject, train: Split) -> float:
        """The C that is best on average over the folds; of equals the smaller."""
        from sklearn.model_selection import cross_val_score

        features, parts = subject.features(train), folds(train)
        scores = [cross_val_score(_machine(c), features, train.labels, cv=parts).mean() for c in GRID]
        return GRID[int(np.argmax(scores))]


def folds(train: Split) -> list[Fold]:
    """Rows to learn from and rows to test on, three times: stratified by class, and all scans of one object on one side.

    Empty where it cannot be done: a class has fewer clouds than there are folds, or too few objects leave one class alone.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels, objects = train.labels, train.objects
    counts = np.bincount(labels)
    if counts[counts > 0].min(initial=len(labels)) < FOLDS or (objects is not None and objects.max() + 1 < FOLDS):
        return []
    kind = StratifiedKFold if objects is None else StratifiedGroupKFold
    found = list(kind(FOLDS, shuffle=True, random_state=seed_of("svm", "folds") % 2**32).split(labels, labels, objects))
    return found if all(len(tested) and len(np.unique(labels[taught])) > 1 for taught, tested in found) else []


def _machine(c: float):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    # The dual's coordinate descent draws at random; a tight tolerance is not worth minutes when only the sign of a margin counts.
    return make_pipeline(StandardScaler(), LinearSVC(C=c, dual=True, max_iter=20_000, tol=1e-3, random_state=0))
