"""How good frozen features are: a linear SVM on a few labelled clouds, beside random backbones of the same architecture.

Features of a backbone, a task and a pose are computed once; every draw of labelled clouds and every limit on them share them.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import nn

from wisetune.build.contest import RANDOM, Contest
from wisetune.build.meter import Meter
from wisetune.build.pretraining import Up, held_out
from wisetune.canonical import digest_of
from wisetune.data.files import FileTask
from wisetune.data.splits import draw_per_class
from wisetune.data.task import Data, Split, Task
from wisetune.errors import DataError, UsageError
from wisetune.measure.subject import Subject
from wisetune.measure.svm import FOLDS, Svm
from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.nets.features import FeatureBank
from wisetune.nets.files.pretrained import Pretrained, Random
from wisetune.nets.model import Model
from wisetune.points.augment import rotate
from wisetune.records import difference_interval, mean_interval, paired_difference, wilson
from wisetune.results import Probed, Probing
from wisetune.runtime import stamp, torch_generator

AS_FILED = "as in the files"
_Scores = Float64[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Asked:
    """One probe: a task whose clouds stand along ``up`` once loaded, with at most ``per_class`` labelled clouds a class (0: all of them).

    Raises:
        UsageError: a limit below 0, or a task that its own ``up`` option turns already.
    """

    task: Task
    up: Up = "z"
    per_class: int = 60

    def __post_init__(self) -> None:
        if self.per_class < 0:
            raise UsageError(f"--per-class is {self.per_class}; it must be at least 1, or 0 for all clouds.")
        if self.up == "y" and isinstance(self.task, FileTask) and self.task.up != "z":
            raise UsageError(
                f"'{self.task}' stands along z once its option up={self.task.up} has turned it. Give it with --on, or leave its up out."
            )


def probe(
    entrants: Contest, asked: Sequence[Asked], meter: Meter, device: torch.device, *, draws: int = 5, c: str = "0.01", turn: bool = False
) -> Probing:
    """Train and test every SVM. ``turn`` adds each task with every cloud, of train and test, turned about ``up`` by a random angle.

    The labelled clouds of a draw are a function of its number and the clouds' names: the same for all backbones and poses.

    Raises:
        UsageError: no draws, or a C that cannot be.
        DataError: a task without a test part, with one class, or with too few clouds or objects for cross-validation.
    """
    if draws < 1:
        raise UsageError(f"--draws is {draws}; it must be at least 1.")
    for one in asked:
        Svm(str(one.task), c)
        if c == "cv" and 0 < one.per_class < FOLDS:
            raise UsageError(
                f"--c cv chooses C by {FOLDS}-fold cross-validation, and --per-class is {one.per_class}. Take {FOLDS} or more, or fix C: --c 0.01."
            )
    began = time.monotonic()
    meter.stage("reading data")
    # What is asked of one task in several sizes shares its features.
    grouped: dict[tuple[Task, Up], list[int]] = {}
    for one in dict.fromkeys(asked):
        grouped.setdefault((one.task, one.up), []).append(one.per_class)
    points = {spec: build_empty(spec).points for spec in entrants.specs}
    stages = [
        _Stage(task, up, task.load(number), limits, [spec for spec in entrants.specs if points[spec] == number], draws)
        for number in dict.fromkeys(points.values())
        for (task, up), limits in grouped.items()
    ]
    for stage in stages:
        stage.check(c)
        if any(other.data.name == stage.data.name and other.task != stage.task for other in stages):
            stage.name = str(stage.task)
    poses = (False, True) if turn else (False,)
    meter.expect({Svm.name: float(sum(len(poses) * stage.clouds * entrants.size(spec) for stage in stages for spec in stage.specs))})
    bank = FeatureBank(device)
    rows = [
        row for stage in stages for turned in poses for spec in stage.specs for row in _rows(stage, turned, entrants, spec, c, bank, meter)
    ]
    return Probing(
        rows=rows,
        tasks=[line for stage in stages for line in stage.described()],
        backbones=[_described(name, found) for name, found in entrants.backbones.items()],
        notes=[
            note
            for name, found in entrants.backbones.items()
            for note in (*(f"{name}: {said}." for said in found.notes), *seen_before(name, found, stages))
        ],
        c="chosen by cross-validation, for each draw" if c == "cv" else c,
        stamp=stamp(str(device)),
        seconds=round(time.monotonic() - began, 1),
    )


class _Stage:
    """One task as it is probed: its draws of labelled clouds for each limit, and the clouds that are in any of them."""

    def __init__(self, task: Task, up: Up, data: Data, limits: Sequence[int], specs: Sequence[BackboneSpec], draws: int) -> None:
        self.task, self.up, self.data, self.specs, self.name = task, up, data, specs, data.name
        self.drawn = {limit: _draws(data.train, limit, draws) for limit in limits}
        rows = np.unique(np.concatenate([rows for drawn in self.drawn.values() for rows in drawn]))
        self.looked = data.train.take(rows)
        self._places = {int(row): at for at, row in enumerate(rows)}

    @property
    def clouds(self) -> int:
        """How many clouds each backbone looks at, in one pose."""
        return len(self.looked) + len(self.data.test)

    def check(self, c: str) -> None:
        if len(self.data.test) == 0:
            raise DataError(f"'{self.task}' has no test part to be tested on. Leave its test above 0, for example test=0.2.")
        for rows in (rows for drawn in self.drawn.values() for rows in drawn):
            labelled = dataclasses.replace(self.data, train=self.data.train.take(rows))
            Svm(str(self.task), c).check(labelled, lambda _, data=labelled: data)

    def pose(self, turned: bool) -> tuple[str, Split, Split]:
        """The pose in words, the clouds that any draw labels, the test clouds."""
        if not turned:
            return AS_FILED, self.looked, self.data.test
        return f"random azimuth (about {self.up})", turned_about(self.looked, self.up), turned_about(self.data.test, self.up)

    def places(self, rows: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Rows of the train part as rows of ``looked``."""
        return np.array([self._places[int(row)] for row in rows], np.int64)

    def described(self) -> Iterator[dict[str, Any]]:
        for limit, drawn in self.drawn.items():
            yield {
                "name": self.name,
                "digest": self.data.digest,
                "classes": len(self.data.classes),
                "up": self.up,
                "points": self.data.train.points.shape[1],
                "per_class": limit,
                "labelled": len(drawn[0]),
                "draws": len(drawn),
                "train": len(self.data.train),
                "val": len(self.data.val),
                "test": len(self.data.test),
            }


def turned_about(split: Split, up: Up) -> Split:
    """Each cloud turned about ``up`` by an angle that is a function of its name alone."""
    points = torch.from_numpy(split.points)
    parts = [rotate(points[row : row + 1], torch_generator("probe", "azimuth", name), up) for row, name in enumerate(split.names)]
    return dataclasses.replace(split, points=torch.cat(parts).numpy())


def seen_before(name: str, found: Pretrained, stages: Sequence[_Stage]) -> list[str]:
    """What the card of these weights says about the probes' tasks: were their clouds seen, unlabelled, in pre-training?"""
    if found.source.startswith(f"{Random.name}:"):
        return []
    tasks = {(stage.data.name, stage.up): stage.data for stage in stages if found.spec in stage.specs}
    tuned = [
        f"{name} was tuned with the labels of {task}; held out is only what was test there."
        for task in dict.fromkeys(task for task, _ in tasks)
        if task == found.about.get("task")
    ]
    entries = _entries(found.about)
    if not entries:
        return [*tuned, f"{name} does not say what it was pre-trained on; whether it saw these tasks is not known."]
    return [*tuned, *(_seen(name, entry, data, up) for (task, up), data in tasks.items() for entry in entries if entry["name"] == task)]


def _entries(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a card lists as its data, as far as it reads as such: a file may come from anywhere."""
    told = about.get("data")
    kinds = {"name": str, "used": int, "left_out": int, "up": str}
    return [
        entry
        for entry in (told if isinstance(told, list) else [])
        if isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
    ]


def _seen(name: str, entry: Mapping[str, Any], data: Data, up: Up) -> str:
    taken, rest = entry["used"] + entry["left_out"], len(data.train) + len(data.val)
    # A card without names only counts: as many as the data set's own train part has are that part.
    as_many = taken == rest and data.protocol.get("test", "given") == "given"
    same = entry["held_out"] == held_out(data) if "held_out" in entry else as_many
    shapes = f"{entry['used']:,} shapes, unlabelled" + (f", along {entry['up']}" if entry["up"] != up else "")
    if same:
        return f"{name} saw the train part of {data.name} in pre-training ({shapes}), and not its test part."
    if taken > rest:
        return f"{name} saw {data.name} in pre-training ({shapes}), clouds of this test part among them: it is not held out."
    return f"{name} saw a part of {data.name} in pre-training ({shapes}); its card does not say that this test part was held out."


def _draws(train: Split, per_class: int, draws: int) -> list[Int64[np.ndarray, " m"]]:
    """Rows of the labelled clouds, draw by draw; where all clouds are taken there is one draw."""
    if per_class == 0 or np.bincount(train.labels).max(initial=0) <= per_class:
        return [np.arange(len(train))]
    return [draw_per_class(train.labels, train.names, per_class, seed) for seed in range(draws)]


def _rows(stage: _Stage, turned: bool, entrants: Contest, spec: BackboneSpec, c: str, bank: FeatureBank, meter: Meter) -> Iterator[Probed]:
    """One task in one pose by the backbones of one architecture, and by their opponents."""
    pose, labelled, test = stage.pose(turned)
    ours = {name: _look(stage, labelled, test, name, found, c, bank, meter) for name, found in entrants.of(spec).items()}
    theirs = [_look(stage, labelled, test, RANDOM, found, c, bank, meter) for found in entrants.opponents[spec]]
    for split in (labelled, test):
        bank.forget_points(split.digest)
    groups = None if test.objects is None else test.objects.tolist()
    for limit in stage.drawn:
        common = {"task": stage.name, "per_class": limit, "pose": pose}
        mean = np.mean([answers[limit][0] for answers in theirs], axis=0) if theirs else None
        for name, answers in ours.items():
            right, used = answers[limit]
            against = dict[str, Any]() if mean is None else _against(right.mean(axis=0), mean.mean(axis=0), groups)
            yield Probed(backbone=name, **common, **_accuracy(right, groups), c=used, **against)
        if mean is not None:
            used = tuple(sorted({value for answers in theirs for value in answers[limit][1]}))
            seeds = tuple(float(answers[limit][0].mean()) for answers in theirs)
            yield Probed(backbone=entrants.random(spec), **common, **_accuracy(mean, groups), c=used, seeds=seeds)


_Answers = tuple[Float64[np.ndarray, "d n"], tuple[float, ...]]
"""Of each draw and test cloud 1 where it was right, else 0; and the Cs used."""


def _look(
    stage: _Stage, labelled: Split, test: Split, name: str, found: Pretrained, c: str, bank: FeatureBank, meter: Meter
) -> dict[int, _Answers]:
    """The answers of one backbone for each limit."""
    meter.stage(f"{name} on {stage.name}")
    model = Model(found.load().to(bank.device), nn.Identity())
    subject = Subject(model, found.digest, digest_of([found.spec.canonical(), found.digest]), bank)
    features = subject.features(labelled)
    subject.features(test)
    answers = {limit: _answers(subject, stage, labelled, features, test, drawn, c) for limit, drawn in stage.drawn.items()}
    meter.advance(float(stage.clouds), Svm.name)
    return answers


def _answers(
    subject: Subject,
    stage: _Stage,
    labelled: Split,
    features: Float[np.ndarray, "m f"],
    test: Split,
    drawn: Sequence[Int64[np.ndarray, " l"]],
    c: str,
) -> _Answers:
    """Those of SVMs that were trained on each draw."""
    right, used = list[list[float]](), set[float]()
    for at in map(stage.places, drawn):
        train = labelled.take(at)
        subject.bank.keep(subject.backbone_key, train.digest, features[at])
        data = dataclasses.replace(stage.data, train=train, val=test.take(np.zeros(0, np.int64)), test=test)
        records = Svm(str(stage.task), c).of(subject, data, lambda _, data=data: data)
        record = next(record for record in records if record.role == "robustness" and record.split == "test")
        right.append([float(mark) for mark in record.detail["right"]])
        used.add(record.detail["c"])
        if len(train) < len(labelled):
            subject.bank.forget_points(train.digest)
    return np.array(right), tuple(sorted(used))


def _accuracy(right: Float64[np.ndarray, "d n"], groups: Sequence[int] | None) -> dict[str, Any]:
    """Mean over draws, its interval over clouds (or the objects that they are scans of), its spread over draws."""
    draws, n = right.mean(axis=1), right.shape[1]
    value = float(draws.mean())
    low, high = wilson(value * n, n) if groups is None else mean_interval(right.mean(axis=0).tolist(), groups)
    sd = float(draws.std(ddof=1)) if len(draws) > 1 else None
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": n,
        "objects": groups and len(set(groups)),
        "sd": sd,
        "draws": tuple(map(float, draws)),
    }


def _against(ours: _Scores, theirs: _Scores, groups: Sequence[int] | None) -> dict[str, Any]:
    """The difference of two mean accuracies on the same clouds.

    Each cloud's score is how often it was right over draws (and seeds). Square-and-add of the Wilson intervals of the two means with
    the correlation of the scores (Newcombe 1998, Stat. Med. 17:2635, without the correction for continuity, which is for single answers).
    """
    if groups is not None:
        gain, low, high = paired_difference(ours.tolist(), theirs.tolist(), groups=groups)
        return {"gain": gain, "gain_low": low, "gain_high": high}
    n, a, b = len(ours), float(ours.mean()), float(theirs.mean())
    spread = math.sqrt(float(ours.var() * theirs.var()))
    correlation = float(((ours - a) * (theirs - b)).mean()) / spread if spread > 0 else 0.0
    low, high = difference_interval(a, wilson(a * n, n), b, wilson(b * n, n), correlation)
    return {"gain": a - b, "gain_low": low, "gain_high": high}


def _described(name: str, found: Pretrained) -> dict[str, Any]:
    parameters = sum(value.numel() for value in found.load().parameters())
    return {"name": name, "weights": found.digest, "architecture": str(found.spec), "parameters": parameters}
