"""The smallest world in which everything happens: clouds of solids, a backbone of 12 thousand weights, options that train for a second."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wisetune.build.builder import Builder, keep_start
from wisetune.build.experiment import Experiment
from wisetune.build.job import Job
from wisetune.build.meter import Silent
from wisetune.build.runner import Runner
from wisetune.data.task import Data, Split
from wisetune.fit.fit import Fit
from wisetune.measure.svm import Svm
from wisetune.nets.families.point_m2ae import PointM2AESpec
from wisetune.nets.families.point_mae import PointMAE, PointMAESpec
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import LinearHead
from wisetune.points.normalise import normalise
from wisetune.recipe import Start
from wisetune.results import Results
from wisetune.runtime import generator, seed_of
from wisetune.store import Store
from wisetune.stories.story import Setting
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

POINTS = 64
SPEC = PointMAESpec(
    points=POINTS,
    groups=8,
    group_size=8,
    width=16,
    depth=2,
    heads=2,
    tokenizer=(8, 8, 8),
    class_token=False,
    readout="max+mean",
    drop_path=0.1,
    initial="fan-in",
)
TOKEN_SPEC = dataclasses.replace(SPEC, class_token=True, readout="lead+max")
PYRAMID = PointM2AESpec(
    points=POINTS,
    groups=(16, 12, 8),
    group_sizes=(8, 4, 3),
    widths=(8, 12, 16),
    depths=(1, 2, 1),
    heads=2,
    tokenizer=(8, 8, 8),
    norm="levels",
    drop_path=0.1,
    initial="fan-in",
)
FAMILIES = {spec.name: spec for spec in (SPEC, PYRAMID)}
"""Those that can be pre-trained."""
START = Start(SPEC, "random:0")
CPU = torch.device("cpu")
FIT = Fit(epochs=4, batch=8, lr=1e-2, augment="none")
GENTLE = dataclasses.replace(FIT, lr=2e-3)
HEAD_FIT = Fit(epochs=6, batch=8, lr=5e-2, augment="none")
QUICK = {"fit": dataclasses.replace(FIT, epochs=1), "gentle_fit": dataclasses.replace(FIT, epochs=1, lr=1e-3), "head_fit": HEAD_FIT}
"""A job's fits, of which backbones train for one epoch."""

Cloud = Callable[[np.random.Generator], np.ndarray]


def _ball(random: np.random.Generator, *sizes: float) -> np.ndarray:
    points = random.normal(size=(POINTS, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True) * sizes


def _box(random: np.random.Generator, *sizes: float) -> np.ndarray:
    points = random.uniform(-1, 1, size=(POINTS, 3))
    face = random.integers(3, size=POINTS)
    points[np.arange(POINTS), face] = np.sign(points[np.arange(POINTS), face])
    return points * sizes


def _ring(random: np.random.Generator) -> np.ndarray:
    angle = random.uniform(0, 2 * np.pi, POINTS)
    return np.stack([np.cos(angle), np.sin(angle), 0.1 * random.normal(size=POINTS)], axis=1)


def _cone(random: np.random.Generator) -> np.ndarray:
    height, angle = np.sqrt(random.uniform(size=POINTS)), random.uniform(0, 2 * np.pi, POINTS)
    return np.stack([height * np.cos(angle), height * np.sin(angle), 1.5 * height], axis=1)


SOLIDS: dict[str, Cloud] = {
    "ball": lambda random: _ball(random, 1, 1, 1),
    "box": lambda random: _box(random, 1, 0.9, 0.8),
    "stick": lambda random: _box(random, 1, 0.15, 0.15),
    "plate": lambda random: _box(random, 1, 0.9, 0.1),
    "egg": lambda random: _ball(random, 1, 0.6, 0.6),
    "ring": _ring,
    "cone": _cone,
}


def split(classes: Sequence[str], each: int, key: str, noise: float = 0.1) -> Split:
    """``each`` clouds of each class, a pure function of the arguments; classes take turns."""
    clouds, labels, names = [], [], []
    for row in range(each):
        for label, name in enumerate(classes):
            random = generator("pico", key, name, row)
            clouds.append(SOLIDS[name](random) + noise * random.normal(size=(POINTS, 3)))
            labels.append(label)
            names.append(f"{key}/{name}/{row}.ply")
    return Split(normalise(np.stack(clouds).astype(np.float32)), np.array(labels, np.int64), tuple(names))


def data(
    name: str = "solids", classes: Sequence[str] = ("ball", "box", "stick", "plate"), train: int = 9, val: int = 6, test: int = 6
) -> Data:
    """A task; ``val=0`` has none."""
    parts = {
        key: split(classes, each, f"{name} {key}", 0.25) if each else no_clouds()
        for key, each in (("train", train), ("val", val), ("test", test))
    }
    return Data(name, tuple(classes), parts["train"], parts["val"], parts["test"], {"made": "by pico.py"})


def probe() -> Data:
    """Another task; only "ball" is a class of both."""
    return data("others", ("ball", "ring", "cone", "egg"), train=8, val=5, test=5)


def no_clouds() -> Split:
    """A split without clouds."""
    return Split(np.zeros((0, POINTS, 3), np.float32), np.zeros(0, np.int64), ())


TASKS: dict[str, Callable[[], Data]] = {
    "solids": data,
    "others": probe,
    "solids,val=0": lambda: data(val=0),
    "solids,test=0": lambda: data(test=0),
    "neither": lambda: data(val=0, test=0),
}


def task(text: str, points: int) -> Data:
    """A loader of tasks as a job takes it."""
    assert points == POINTS
    return TASKS[text]()


DENSE = 96
POOLED = dataclasses.replace(FIT, epochs=1, pool=80, pool_of=DENSE)


def denser(text: str, points: int) -> Data:
    """A loader of tasks whose train clouds have more points where more are asked for."""
    made = TASKS[text]()
    if points == POINTS:
        return made
    assert points == DENSE
    more = np.concatenate([made.train.points, made.train.points[:, :32] * np.float32(0.9)], axis=1)
    return dataclasses.replace(made, train=dataclasses.replace(made.train, points=more), protocol={"repeated": 3})


def backbone(spec: PointMAESpec = SPEC, seed: int = 0) -> PointMAE:
    """A backbone whose weights are a pure function of the seed; its BatchNorms have seen clouds."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of("pico", seed))
        made = spec.build()
        made.train()
        with torch.no_grad():
            for _ in range(3):
                made(torch.randn(8, POINTS, 3))
    return made.eval()


def builder(root: Path, *tasks: Data, spec: PointMAESpec = SPEC, meter: Any = None) -> Builder:
    """A builder over a store at ``root``, with these tasks (both of ours when none are given)."""
    known = {one.training_digest: one for one in tasks or (data(), probe())}
    store = Store(root, tell=lambda _: None)
    keep_start(store, Start(spec, "random:0"), backbone(spec))
    return Builder(store, known.__getitem__, FeatureBank(CPU), meter or Silent())


def setting(**options: Any) -> Setting:
    """What a story is told about."""
    given = {
        "start": START,
        "task": "0123456789abcdef",
        "head": LinearHead(),
        "fit": FIT,
        "gentle_fit": GENTLE,
        "head_fit": HEAD_FIT,
        "seed": 0,
    }
    return Setting(**(given | options))


def job(story: Any, **options: Any) -> Job:
    """A job on our tasks, with a probe of fixed C."""
    given = {
        "start": START,
        "on": "solids",
        "measures": (Svm("others", "0.01"),),
        "head": LinearHead(),
        "fit": FIT,
        "gentle_fit": GENTLE,
        "head_fit": HEAD_FIT,
        "corruption": None,
    }
    return Job(story, **(given | options))


def experiment(story: Any, load: Callable[[str, int], Data] = task, meter: Any = None, **options: Any) -> Experiment:
    """Such a job over our tasks, or over what ``load`` makes."""
    return Experiment(job(story, **options), load, (meter or Silent()).tell)


def runner(root: Path, story: Any, meter: Any = None, load: Callable[[str, int], Data] = task, **options: Any) -> Runner:
    """A runner of such a job over a store at ``root``."""
    store = Store(root, tell=lambda _: None)
    keep_start(store, START, backbone())
    return Runner(experiment(story, load, meter, **options), store, CPU, meter or Silent())


class Counting(Silent):
    """A meter that adds up, each kind of work by itself."""

    def __init__(self) -> None:
        self.done, self.said = Counter[str](), list[str]()

    def advance(self, clouds: float, kind: str) -> None:
        self.done[kind] += clouds

    def stage(self, text: str) -> None:
        self.said.append(text)


def bits(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """Every tensor's bytes by name: equal values of other sign or another NaN differ."""
    return {name: value.detach().cpu().contiguous().numpy().tobytes() for name, value in state.items()}


def timeless(results: Results) -> Results:
    """Results without what differs from run to run: how long it took, and a training step, and what was there already."""
    costs = {name: dataclasses.replace(cost, step_seconds=None) for name, cost in results.costs.items()}
    return dataclasses.replace(results, study=dataclasses.replace(results.study, seconds=None, found=0), costs=costs)


def tuning(name: str) -> Tuning:
    """A tuning of the catalog, no wider than ``SPEC``."""
    kind = TUNINGS.entry(name)
    return kind(**({"rank": 4} if "rank" in {field.name for field in dataclasses.fields(kind)} else {}))
