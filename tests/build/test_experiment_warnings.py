from __future__ import annotations

import dataclasses

import numpy as np

import pico
from wisetune.build.meter import Silent
from wisetune.build.study import study_of
from wisetune.data.folder import Folder
from wisetune.data.task import Data, Split
from wisetune.data.warn import shared, warned
from wisetune.measure.svm import Svm
from wisetune.stories.ft import Ft
from wisetune.stories.lp import Lp


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, text: str) -> None:
        self.lines.append(text)


def load(text: str, points: int) -> Data:
    data = pico.task(text, points)
    return dataclasses.replace(data, protocol={**data.protocol, "warnings": [f"{text} may leak"]}) if text == "solids" else data


def test_what_a_task_warns_of_is_told_and_stands_in_the_study():
    meter = Told()
    experiment = pico.experiment(Ft(), load, meter, warnings=("no probe",))
    experiment.task("solids")
    assert meter.lines == ["warning: solids may leak"]
    assert study_of(experiment).warnings == ["no probe", "solids may leak"]


def told(monkeypatch, **tasks: Data) -> list[str]:
    """What a run of ``lp`` on the task ``on``, with a probe on the task ``probe``, warns of before anything is trained."""
    known = {"on": pico.data(), "probe": pico.probe()} | tasks
    monkeypatch.setattr(pico, "TASKS", {name: lambda data=data: data for name, data in known.items()})
    meter = Told()
    experiment = pico.experiment(Lp(), meter=meter, on="on", measures=(Svm("probe", "0.01"),))
    assert [f"warning: {warning}" for warning in experiment.warnings] == meter.lines
    return meter.lines


def same(data: Data, where: str, rows: list[int], source: str, at: list[int], labels: bool = False) -> Data:
    """Clouds of one part again in another: moved, scaled, in another order and under another name."""
    part, other = data.split(where), data.split(source)
    points = part.points.copy()
    points[rows] = 3 * other.points[at][:, ::-1] + 1
    given = part.labels.copy()
    if not labels:
        given[rows] = other.labels[at]
    return dataclasses.replace(data, **{where: Split(points, given, part.names)})


def test_sound_data_and_another_probe_warn_of_nothing(monkeypatch):
    assert told(monkeypatch) == []


def test_a_shape_in_train_and_test_is_a_leak_told_first(monkeypatch):
    leaking = same(pico.data(), "test", [0, 5], "train", [0, 9])
    small = dataclasses.replace(leaking, protocol={"skipped": ["a.ply: is cut off"], "warnings": ["of the task"]})
    first, second, third = told(monkeypatch, on=small)
    assert first.startswith("warning: solids: LEAK: the same shape is in test and train: results on it would be remembered, not learned [")
    assert "and 1 more like it" in first
    assert small.test.names[0] in first
    assert second == "warning: solids: 1 file was left out that could not be used: a.ply: is cut off."
    assert third == "warning: of the task"


def test_a_leak_into_the_test_part_is_told_before_one_into_val(monkeypatch):
    first, second = told(monkeypatch, on=same(same(pico.data(), "val", [0], "train", [4]), "test", [0], "train", [0]))
    assert "LEAK: the same shape is in test and train" in first
    assert "LEAK: the same shape is in train and val" in second


def test_scans_of_one_object_in_train_and_test_are_told_before_a_shape_in_val():
    data = same(pico.data(), "val", [0], "train", [4])
    objects = {part: [f"{part} {row}" for row in range(len(data.split(part)))] for part in ("train", "val", "test")}
    objects["test"][1] = objects["train"][0] = "chair 7"
    objects["val"][1] = objects["train"][1] = "chair 8"
    parts = {part: dataclasses.replace(data.split(part), groups=tuple(names)) for part, names in objects.items()}
    first, *rest = warned(dataclasses.replace(data, **parts))
    assert "LEAK: 1 object has scans in test and train: chair 7 [" in first
    assert sorted(line.split("LEAK: ")[1].split(" [")[0] for line in rest) == [
        "1 object has scans in train and val: chair 8",
        "the same shape is in train and val: results on it would be remembered, not learned",
    ]


def test_a_shape_of_two_classes_and_a_class_of_few(monkeypatch):
    data = pico.data()
    doubtful = same(data, "train", [0], "train", [1], labels=True)
    (line,) = told(monkeypatch, on=doubtful)
    assert "two labels: the same shape is labelled ball and box" in line
    one = np.array([row for row in range(len(data.train)) if data.classes[data.train.labels[row]] != "plate" or row < 4])
    rest = {name: data.split(name).take(np.flatnonzero(data.split(name).labels != 3)) for name in ("val", "test")}
    lines = told(monkeypatch, on=dataclasses.replace(data, train=data.train.take(one), **rest))
    assert any("small class: classes with fewer than 5 items: plate (1)" in line for line in lines)
    assert any("1 class has no items in test: plate" in line for line in lines)


def test_a_probe_that_is_the_tasks_own_data_is_said_to_prove_nothing(monkeypatch):
    (line,) = told(monkeypatch, probe=pico.data())
    assert line.startswith("warning: 84 of the 84 clouds of solids (svm) are in the task solids too: robustness on it rises with")
    some = pico.probe()
    points = np.concatenate([pico.data().test.points[:3], some.val.points[3:]])
    some = dataclasses.replace(some, val=Split(points, some.val.labels, some.val.names))
    (line,) = told(monkeypatch, probe=some)
    assert line.startswith("warning: 3 of the 72 clouds of others (svm) are in the task solids too")


def test_the_same_file_drawn_anew_is_known_again(tmp_path):
    """Other points are drawn from a file of another name: it is the file that is compared."""
    for name, key in (("train/a/1", 0), ("train/a/2", 1), ("train/b/1", 2), ("train/b/2", 3), ("test/a/x", 1), ("test/b/y", 4)):
        file = tmp_path / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.random.default_rng(key).normal(size=(300, 3)))
    data = Folder(str(tmp_path), val=0).load(64)
    assert not np.array_equal(data.train.points[data.train.names.index("train/a/2.npy")], data.test.points[0])
    leak, *_ = warned(data)
    assert "LEAK: the same shape is in test and train" in leak
    assert "[test/a/x.npy, train/a/2.npy]" in leak
    assert shared(data, Folder(str(tmp_path), val=0, seed=5).load(64)) == 6
