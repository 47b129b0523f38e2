"""A made-up study with plausible numbers (those of a small Point-MAE on simulated scans): the same at every call."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from wisetune.records import Record, Role, wilson
from wisetune.report import page
from wisetune.results import Chosen, Cloud, Cost, DataSet, Results, Row, Step, Study, Variant
from wisetune.stories.compare import Compare
from wisetune.stories.story import WORDS
from wisetune.stories.wise_ft_lp import WiseFtLp

BEST = 0.4
CLASSES = ("bag", "bin", "bookshelf", "cabinet", "chair", "desk", "display", "door", "pillow", "shelf", "sink", "sofa", "table", "toilet")
KINDS = ("add_global", "add_local", "drop_global", "drop_local", "jitter", "rotate", "scale")
ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))
TEST, VAL = 804, 200
OBJECTS, SHAPES = "demo:objects", "folder:shapes"
ROLES: dict[str, Role] = {
    "accuracy": "accuracy",
    "class-mean accuracy": "class-mean",
    "probe accuracy": "robustness",
    "corrupted accuracy": "corruption",
    "transfer accuracy": "transfer",
    "voted accuracy": "voting",
}
_KEPT = (32.8, 41.0, 52.3, 62.1, 68.4, 71.9, 73.7, 74.8, 75.6, 75.9, 76.0)
_TRAINED = (75.3, 76.4, 76.9, 77.2, 77.0, 76.6, 76.3, 76.1, 75.9, 75.7, 75.5)
_PROBES = {
    OBJECTS: (89.8, 89.9, 90.0, 89.9, 89.7, 89.5, 89.4, 89.2, 89.0, 88.7, 88.5),
    SHAPES: (56.6, 56.9, 56.5, 56.2, 55.8, 55.3, 54.2, 53.0, 52.4, 51.7, 51.1),
}
_BASELINES = {"lp-ft": (76.3, 88.9, 52.2), "ft-low-lr": (76.8, 89.2, 53.4)}


def record(
    name: str, value: float, n: int, split: str = "test", measure: str = "accuracy", data: str = "demo:scans", **detail: Any
) -> Record:
    """A record of about this accuracy, with a Wilson interval."""
    right = round(value * n)
    place = ("w" + measure[:2], measure, data, f"digest of {data}", split)
    return Record(*place, name, right / n, n, *wilson(right, n), detail, role=ROLES.get(name, ""))


def placed(method: str, alpha: float | None, seed: int, found: Record) -> Row:
    """A record of a model in its place, with weights as a real job names them: one backbone for both methods, baselines at their ends."""
    place = {("wise-ft-lp", 0.0): "lp None", ("wise-ft", 1.0): "ft None"}.get((method, alpha), f"{method} {alpha}")
    if found.name == "probe accuracy":
        place = {"lp": "wise 0.0", "ft": "wise 1.0"}.get(method, f"wise {alpha}" if alpha is not None else method)
    return Row(method, alpha, seed, dataclasses.replace(found, weights=f"{place} {seed}"))


def study(
    seeds: Sequence[int] = (0, 1, 2),
    *,
    probes: bool = True,
    corruptions: bool = True,
    clouds: bool = True,
    classes: Sequence[str] = CLASSES,
) -> Results:
    """A whole study, or one with pieces missing."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    chosen: list[Chosen] = []
    for seed in seeds:
        wobble = rng.normal(0, 0.007, 4)
        chosen += _choices(seed, (0.4, 0.3, 0.4)[seed % 3])
        for split, n in (("test", TEST), ("val", VAL)):
            for at, alpha in enumerate(ALPHAS):
                moved = wobble * (0.4 + 0.6 * alpha)
                for method, curve, shift in (("wise-ft-lp", _TRAINED, moved[0]), ("wise-ft", _KEPT, moved[1])):
                    detail = {}
                    if split == "test" and alpha in (BEST, 1.0):
                        detail = _confusion(rng, classes, curve[at] / 100 + shift)
                    rows.append(placed(method, alpha, seed, record("accuracy", curve[at] / 100 + shift, n, split, **detail)))
                    rows.append(placed(method, alpha, seed, record("class-mean accuracy", curve[at] / 100 + shift - 0.021, n, split)))
                    rows += _probe_rows(method, alpha, seed, split, [_PROBES[key][at] for key in _PROBES], moved[2:]) if probes else []
            for method, (accuracy, *probed) in _BASELINES.items():
                rows.append(placed(method, None, seed, record("accuracy", accuracy / 100 + wobble[1], n, split)))
                rows += _probe_rows(method, None, seed, split, probed, wobble[2:]) if probes else []
            for method, at, accuracy in (("lp", 0, _TRAINED[0] / 100 + wobble[0]), ("ft", -1, _KEPT[-1] / 100 + wobble[1])):
                moved = wobble * (1.0 if at else 0.4)
                rows.append(placed(method, None, seed, record("accuracy", accuracy, n, split)))
                rows += _probe_rows(method, None, seed, split, [_PROBES[key][at] for key in _PROBES], moved[2:]) if probes else []
        if corruptions:
            rows += _corrupted(rng, "wise-ft-lp", BEST, seed, 0.772) + _corrupted(rng, "ft", None, seed, 0.760)
            rows.append(placed("ft", None, seed, record("transfer accuracy", 0.41, 300, data=OBJECTS)))
            rows.append(placed("wise-ft-lp", BEST, seed, record("transfer accuracy", 0.45, 300, data=OBJECTS)))
    if len(seeds) > 1:
        chosen += [dataclasses.replace(choice, seed=-1) for choice in chosen[:4] if choice.rule == "greedy"]
    audit = [
        {"audit": "keys", "ok": True, "shared": 112, "not_in_all": [[], []], "copied_integers": [], "left_out": [], "from_nowhere": []},
        *(
            {
                "audit": "distance",
                "ok": True,
                "part": 1,
                "block": block,
                "distance": 4.2,
                "relative": relative,
                "position": 0.4,
                "deviation": 1e-7,
            }
            for block, relative in (("all", 0.084), ("encoder", 0.031), ("blocks.0", 0.052), ("blocks.5", 0.127))
        ),
        {"audit": "finite", "ok": True, "parts": [[], []], "merged": []},
    ]
    log = {
        f"{method} seed {seed}": [
            {
                "epoch": epoch + 1,
                "loss": 2.4 * math.exp(-epoch / 6) + 0.2,
                "lr": 3e-3 * (1 + math.cos(math.pi * epoch / 20)) / 2,
                "val accuracy": 0.4 + 0.018 * epoch,
            }
            for epoch in range(20)
        ]
        for seed in seeds
        for method in ("ft", "lp-ft")
    }
    stamp = {
        "wisetune": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "device": "cpu",
        "threads": 1,
        "torch": "2.13.0",
        "numpy": "2.3.5",
    }
    return Results(
        study=_protocol(seeds, probes, classes),
        stamp=stamp,
        rows=rows,
        chosen=chosen,
        clouds=_clouds(rng, classes) if clouds else [],
        audits={"alpha 0.5, seed 0 (3f9a0c1122334455)": audit},
        log=log,
    )


def unswept(story: str, reference: str) -> Results:
    """A story without a sweep: its model, and the one that this is compared with."""
    made = study((0,))
    rows = [row for row in made.rows if row.method in (story, reference) and row.alpha is None]
    said = {"story": story, "headline": story, "sweeps": [], "reference": reference, "recommended": Variant(story, None)}
    return dataclasses.replace(made, study=dataclasses.replace(made.study, **said, selection="nothing"), rows=rows, chosen=[], audits={})


_COMPARED = {
    "ft": (0.556, 0.613, 1_242_505, 96.7, 1.0),
    "lp": (0.504, 0.630, 2_313, 45.0, 0.01),
    "adapter": (0.551, 0.629, 60_000, 46.1, 0.71),
    "adaptformer:rank=32,scale=0.5": (0.549, 0.628, 120_000, 46.9, 0.73),
    "bitfit": (0.545, 0.626, 8_457, 45.1, 0.59),
    "dapt": (0.552, 0.633, 124_175, 49.7, 0.8),
    "idpt": (0.548, 0.631, 152_073, 46.8, 0.9),
    "lora:rank=4": (0.553, 0.627, 14_601, 45.2, 0.66),
    "prefix": (0.541, 0.630, 90_000, 47.3, 0.7),
    "ssf": (0.554, 0.624, 9_000, 46.0, 0.68),
    "vpt": (0.540, 0.632, 18_000, 52.2, 0.8),
    "vpt:prompts=40,deep=false": (0.532, 0.633, 10_000, 50.2, 0.8),
}
"""Of each its accuracy, robustness, values that train, megabytes of a step, time of a step."""


def comparison(seeds: Sequence[int] = (0, 1, 2), *, n: int = TEST) -> Results:
    """Ways to tune beside one another, with their costs."""
    rng, made = np.random.default_rng(3), study(seeds, corruptions=False, clouds=False)
    story = Compare(tuple(name for name in _COMPARED if name not in ("ft", "lp")))
    rows, shared = list[Row](), rng.random(n)
    for method, (accuracy, robustness, *_) in _COMPARED.items():
        for seed in seeds:
            for name, value, data in (("accuracy", accuracy, "demo:scans"), ("probe accuracy", robustness, OBJECTS)):
                # Most of the luck is that of the clouds, which all models share.
                luck = np.where(rng.random(n) < 0.15, rng.random(n), shared)
                right = "".join("1" if one < value else "0" for one in luck)
                measure = "accuracy" if name == "accuracy" else f"svm:on=[{OBJECTS}]"
                found = record(name, right.count("1") / n, n, measure=measure, data=data, right=right)
                rows.append(Row(method, None, seed, dataclasses.replace(found, weights=f"{method} {seed}")))
    said = {"story": str(story), "headline": "ft", "sweeps": [], "reference": "ft", "recommended": Variant("ft"), "selection": "nothing"}
    costs = {
        method: Cost(
            trains, min(1.0, trains / 1_242_505), 32, 4 * trains, 74_037_504, 63_584_512, round(1e6 * memory), 40_000_000, 0.41 * step
        )
        for method, (_, _, trains, memory, step) in _COMPARED.items()
    }
    protocol = dataclasses.replace(made.study, **said, methods=WORDS | story.words)
    return dataclasses.replace(made, study=protocol, rows=rows, chosen=[], audits={}, costs=costs)


def fold(
    number: int, right: Mapping[str, int], n: int = 20, *, of: str = "few-shot:on=demo:scans", robust: str = "", **said: Any
) -> Results:
    """One fold of a task: of each method how many of ``n`` test clouds it has right, and of all the marks of one probe."""
    made = comparison((0,), n=20)
    rows = [
        Row(method, None, 0, dataclasses.replace(record("accuracy", count / n, n, data=f"{of} {number}"), weights=f"{method} {number}"))
        for method, count in right.items()
    ]
    for method in right if robust else ():
        found = record("probe accuracy", robust.count("1") / len(robust), len(robust), measure="svm", data=OBJECTS, right=robust)
        rows.append(Row(method, None, 0, dataclasses.replace(found, weights=f"backbone of {method} {number}")))
    protocol = {"few-shot": "5 ways, 10 shots, 20 queries a class", "fold": number, "folds_of": of}
    task = dataclasses.replace(made.study.task, name=f"{of},fold={number}", digest=f"d{number}", protocol=protocol)
    command = f"wisetune compare --on 'few-shot:on=[demo:scans],fold={number}' --seeds 1 --out out/few-{number}"
    study = dataclasses.replace(made.study, **{"task": task, "command": command} | said)
    return dataclasses.replace(made, study=study, rows=rows)


def recommended(method: str, alpha: float, *, probes: bool = True) -> Results:
    """A sweep of which no alpha was chosen, and a place on it that is recommended."""
    made = study((0,), probes=probes)
    said = dataclasses.replace(made.study, headline=method, recommended=Variant(method, alpha), selection="nothing")
    return dataclasses.replace(made, study=said, chosen=[])


def unchosen() -> Results:
    """A sweep of which no alpha could be chosen: its end is recommended."""
    return recommended("wise-ft-lp", 1.0, probes=False)


def hostile() -> Results:
    """A study whose class and file names try to become markup."""
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</script><b>bold", *CLASSES[3:]]
    made = study((0,), classes=names)
    clouds = [dataclasses.replace(cloud, name="</script><script>alert(3)</script>.ply") for cloud in made.clouds]
    return dataclasses.replace(made, clouds=clouds)


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """The pictures of a page are empty: to draw them takes most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wisetune.report.plots.svg", lambda *_: "<svg></svg>")
        yield


def plain_page(results: Results) -> str:
    """A page without pictures."""
    with undrawn():
        return page(results)


def _probe_rows(method: str, alpha: float | None, seed: int, split: str, values: Sequence[float], wobble: Sequence[float]) -> list[Row]:
    measures = [f"svm:on=[{data}],c=0.01" for data in _PROBES]
    found = zip(measures, _PROBES, values, wobble, strict=True)
    return [placed(method, alpha, seed, record("probe accuracy", v / 100 + w, 600, split, measure, data)) for measure, data, v, w in found]


def _choices(seed: int, alpha: float) -> list[Chosen]:
    made = []
    for method in ("wise-ft-lp", "wise-ft"):
        for rule, pick in (("greedy", alpha if method == "wise-ft-lp" else 0.9), ("interval", 0.2 if method == "wise-ft-lp" else 0.7)):
            tested = [a for a in reversed(ALPHAS[:-1]) if a >= round(pick - 0.1, 1)]
            steps = [
                _step(a, a >= pick, "accuracy +0.2 points against alpha 1, robustness +0.5 points against the alpha before") for a in tested
            ]
            if rule == "interval":
                steps = [dataclasses.replace(step, change_low=-2.1, change_high=1.4 if step.accepted else -0.1) for step in steps]
            why = f"Rule: {rule} from alpha 1 down.\nStopped because accuracy fell too far. Chosen: alpha {pick:g}."
            made.append(Chosen(method, rule, seed, pick, "accuracy", why, steps))
    return made


def _step(alpha: float, accepted: bool, why: str) -> Step:
    change = 0.3 if accepted else -1.5
    return Step(alpha, 0.755 + change / 100, 0.72 + 0.02 * (1 - alpha), change, 0.5, accepted, why)


def _confusion(rng: np.random.Generator, classes: Sequence[str], accuracy: float) -> dict[str, Any]:
    size = len(classes)
    chances = np.full((size, size), (1 - accuracy) / (3 * (size - 1)))
    for at in range(size):
        chances[at, (at + 1) % size] += (1 - accuracy) / 3
        chances[at, (at * 5 + 3) % size] += (1 - accuracy) / 3
        chances[at, at] += 1 - chances[at].sum()
    return {"confusion": [rng.multinomial(TEST // size, line).tolist() for line in chances], "classes": list(classes)}


def _corrupted(rng: np.random.Generator, method: str, alpha: float | None, seed: int, clean: float) -> list[Row]:
    harm = dict(zip(KINDS, (0.05, 0.06, 0.015, 0.05, 0.03, 0.11 if alpha is None else 0.09, 0.01), strict=True))
    rows = [placed(method, alpha, seed, record("corrupted accuracy", clean, TEST, measure="corruption", kind="clean", level=0))]
    for kind in KINDS:
        for level in range(1, 6):
            value = max(0.05, clean - harm[kind] * level + rng.normal(0, 0.008))
            found = record("corrupted accuracy", value, TEST, measure="corruption", kind=kind, level=level)
            rows.append(placed(method, alpha, seed, found))
    return rows


def _clouds(rng: np.random.Generator, classes: Sequence[str]) -> list[Cloud]:
    """Scans of simple furniture, seen from one side: a chair, a table, a shelf, a lamp."""

    def box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], n: int) -> np.ndarray:
        points = rng.uniform(0, 1, (n, 3))
        points[np.arange(n), rng.integers(0, 3, n)] = rng.integers(0, 2, n)
        low, high = np.array([x, y, z]).T
        return low + points * (high - low)

    legs = [(sx * 0.42, sy * 0.42) for sx in (-1, 1) for sy in (-1, 1)]
    feet = [box((x - 0.04, x + 0.04), (y - 0.04, y + 0.04), (-0.8, -0.1), 70) for x, y in legs]
    chair = [*feet, box((-0.48, 0.48), (-0.48, 0.48), (-0.1, 0.0), 380), box((-0.48, 0.48), (0.4, 0.48), (0.0, 0.9), 360)]
    table = [*feet, box((-0.8, 0.8), (-0.55, 0.55), (-0.1, 0.0), 740)]
    shelf = [box((-0.5, 0.5), (-0.2, 0.2), (z, z + 0.04), 180) for z in (-0.8, -0.4, 0.0, 0.4, 0.8)]
    shelf += [box((x, x + 0.03), (-0.2, 0.2), (-0.8, 0.84), 60) for x in (-0.5, 0.47)]
    turn = rng.uniform(0, 2 * np.pi, 500)
    lamp = [
        np.stack([0.3 * np.cos(turn), 0.3 * np.sin(turn), rng.uniform(0.4, 0.9, 500)], 1),
        box((-0.02, 0.02), (-0.02, 0.02), (-0.8, 0.4), 300),
    ]
    lamp.append(box((-0.25, 0.25), (-0.25, 0.25), (-0.85, -0.8), 224))
    clouds = []
    for number in range(12):
        points = np.concatenate([chair, table, shelf, lamp][number % 4])
        points += rng.normal(0, 0.008, points.shape)
        true, predicted = classes[(number * 5 + 4) % len(classes)], classes[(number * 3 + 1) % len(classes)]
        thousandths = np.round(1000 * points).astype(int).ravel().tolist()
        clouds.append(Cloud(f"scan_{number:04d}.ply", true, predicted, 0.98 - 0.03 * number, 0.001 * (number + 1), thousandths))
    return clouds


def bare(**said: Any) -> Study:
    """A protocol that says next to nothing."""
    empty = DataSet("", "", [], {}, {})
    plain = dict.fromkeys(("story", "start", "architecture", "start_weights", "head", "fit", "gentle_fit", "head_fit", "selection"), "")
    lists = {"sweeps": ["wise-ft-lp", "wise-ft"], "probes": [], "seeds": []}
    rest = {"headline": "wise-ft-lp", "reference": "ft", "task": empty, "rule": "greedy", "corruption": None}
    rest["methods"] = WORDS | WiseFtLp().words
    return Study(**plain | lists | rest | said)


def _protocol(seeds: Sequence[int], probes: bool, classes: Sequence[str]) -> Study:
    counts = {"train": dict.fromkeys(classes, 50), "val": dict.fromkeys(classes, 14), "test": dict.fromkeys(classes, 57)}
    few = {"train": {"a": 60, "b": 60}}
    return bare(
        story="wise-ft-lp",
        recommended=Variant("wise-ft-lp", BEST),
        start="bundled:point-mae-mini",
        architecture="point-mae:width=96,depth=6",
        task=DataSet("demo:scans", "d0", list(classes), counts, {"points": 1024, "split": "by object, seed 0"}),
        probes=[DataSet(data, "d1", ["a", "b"], few, {"up": "z"}, f"svm:on=[{data}],c=0.01") for data in _PROBES if probes],
        seeds=list(seeds),
        fit="adamw:lr=0.003,epochs=20,batch=32",
        head="linear",
        selection="alpha on the validation split (accuracy of the task, mean accuracy of the probes on their validation splits)",
        command="wisetune run demo:scans --seeds 3",
        reproduce=["pip install wisetune==0.1.0", "wisetune run demo:scans --seeds 3 --out demo-report"],
    )
