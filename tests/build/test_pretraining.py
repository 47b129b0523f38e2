from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pico
from wisetune.build.meter import Silent
from wisetune.build.pretraining import _shapes, held_out, run_pretraining
from wisetune.data.formats import write
from wisetune.data.tasks import parse_task
from wisetune.errors import DataError, UsageError
from wisetune.fit.pretrain import Pretrain
from wisetune.nets.files.save import read_card

SIZE = 130
"""Points of a file: enough for the pool that views are drawn from."""


def cloud(key: int) -> np.ndarray:
    """Every key is another shape."""
    random = np.random.default_rng(key)
    return (random.normal(size=(SIZE, 3)) * random.uniform(0.2, 1, 3) + random.uniform(-1, 1, (1, 3))).astype(np.float32)


def folder(root: Path, train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> str:
    """A task of two classes; files are named as given."""
    for part, files in (("train", train), ("test", test)):
        for row, (name, points) in enumerate(files.items()):
            file = root / part / f"class{row % 2}" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file, points)
    return f"folder:[{root}],val=0"


def archive(file: Path, train: list[np.ndarray], test: list[np.ndarray], ids: list[str] | None = None) -> str:
    points = np.stack([*train, *test])
    given = {"is_test": np.arange(len(points)) >= len(train)} | ({} if ids is None else {"ids": np.array(ids)})
    np.savez(file, points=points, labels=np.arange(len(points)) % 2, class_names=np.array(["a", "b"]), **given)
    return f"npz:[{file}],val=0"


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, text: str) -> None:
        self.lines.append(text)


def used(*tasks: str) -> list[int]:
    """How many shapes of each task are learnt from, and the rest is said to be left out."""
    told = Told()
    shapes, facts = _shapes([(task, "z") for task in tasks], pico.POINTS, told)
    assert [len(source.points) for source in shapes] == [entry["used"] for entry in facts]
    counts = dict.fromkeys(tasks, 0) | {entry["name"]: entry["used"] for entry in facts}
    found = [counts[parse_task(task).load(pico.POINTS).name] for task in tasks]
    for task, count, line in zip(tasks, found, told.lines, strict=True):
        left_out = len(parse_task(task).load(pico.POINTS).train) - count
        assert f"{count} shapes" in line
        assert (f", {left_out} left out" in line) == (left_out > 0)
    return found


def test_what_a_later_task_holds_out_is_left_out_too(tmp_path):
    one = folder(tmp_path / "one", {f"{key}.ply": cloud(key) for key in range(6)}, {"x.ply": cloud(10), "y.ply": cloud(11)})
    # The same shapes under other names, in another format, moved, larger and in another order.
    same = {"p.xyz": cloud(0) * 3 + 7, "q.npy": cloud(1)[::-1].copy()}
    other = folder(tmp_path / "other", {f"{key}.ply": cloud(key) for key in range(20, 24)}, same)
    assert used(one, other) == [4, 4]
    assert used(other, one) == [4, 4]


def test_each_shape_is_learnt_from_once(tmp_path):
    one = folder(tmp_path / "one", {f"{key}.ply": cloud(key) for key in range(4)}, {})
    two = folder(tmp_path / "two", {f"other {key}.ply": cloud(key) for key in range(2, 8)}, {})
    assert used(f"{one},test=0", f"{two},test=0") == [4, 4]


def test_equal_paths_in_two_folders_are_not_one_shape(tmp_path):
    tasks = [
        folder(
            tmp_path / name, {f"{row}.ply": cloud(first + row) for row in range(4)}, {f"{row}.ply": cloud(first + row) for row in (8, 9)}
        )
        for name, first in (("one", 0), ("two", 100))
    ]
    assert used(*tasks) == [4, 4]


def test_ids_name_an_object_whose_points_were_drawn_anew(tmp_path):
    one = archive(tmp_path / "one.npz", [cloud(key) for key in range(4)], [cloud(4), cloud(5)], ["m1", "m2", "m3", "m4", "m5", "m6"])
    two = archive(tmp_path / "two.npz", [cloud(key) for key in range(10, 14)], [cloud(14), cloud(15)], ["m5", "n1", "m2", "n3", "m1", "n6"])
    assert used(one, two) == [3, 2]  # one's m1 is held out by two; two's m5 by one, and its m2 was seen in one
    scans = archive(tmp_path / "scans.npz", [cloud(key) for key in range(20, 24)], [], ["m5/0", "m5/1", "k1/0", "k1/1"])
    assert used(one, f"{scans},test=0") == [4, 2]


def test_a_folder_without_classes_is_enough_and_what_it_holds_out_is_said(tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for key in range(10):
        write(flat / f"{key}.ply", cloud(key))
    (flat / "notes.txt.bak").touch()
    told = Told()
    shapes, (facts,) = _shapes([(f"folder:[{flat}]", "z")], pico.POINTS, told)
    assert (sum(len(source.points) for source in shapes), facts["name"]) == (6, "folder:flat")
    assert told.lines == [
        "folder:flat: 6 shapes, 4 held out (2 val, 2 test; val=0,test=0 behind the task holds out none)",
        "warning: folder:flat: 1 file was passed over, of no known kind (notes.txt.bak).",
    ]
    told = Told()
    assert len(_shapes([(f"folder:[{flat}],val=0,test=0", "z")], pico.POINTS, told)[0][0].points) == 10
    assert told.lines[0] == "folder:flat: 10 shapes"
    with pytest.raises(DataError, match="has no sub-folders; each class needs one"):
        parse_task(f"folder:[{flat}]").load(pico.POINTS)


def test_one_class_is_enough_and_parts_that_are_given_stay(tmp_path):
    for part, keys in (("train", range(4)), ("test", (7, 8))):
        for key in keys:
            (tmp_path / part / "thing").mkdir(parents=True, exist_ok=True)
            write(tmp_path / part / "thing" / f"{key}.ply", cloud(key))
    told = Told()
    assert len(_shapes([(f"folder:[{tmp_path}],val=0.25", "z")], pico.POINTS, told)[0][0].points) == 3
    assert told.lines == [f"folder:{tmp_path.name}: 3 shapes, 3 held out (1 val, 2 test; val=0 behind the task holds out none there)"]


def test_rows_are_no_ids(tmp_path):
    one = archive(tmp_path / "one.npz", [cloud(key) for key in range(4)], [cloud(4), cloud(5)])
    two = archive(tmp_path / "two.npz", [cloud(key) for key in range(10, 14)], [cloud(14), cloud(1)])
    assert used(one, two) == [3, 4]


def test_nothing_left_is_said(tmp_path):
    one = archive(tmp_path / "one.npz", [cloud(0), cloud(1)], [cloud(2), cloud(3)])
    two = archive(tmp_path / "two.npz", [cloud(2), cloud(3)], [cloud(0), cloud(1)])
    with pytest.raises(UsageError, match="fewer than two shapes that may be seen"):
        used(one, two)


def test_the_weights_file_says_what_was_used_and_held_out(tmp_path):
    one = archive(tmp_path / "one.npz", [cloud(key) for key in range(4)], [cloud(4), cloud(5)])
    two = archive(tmp_path / "two.npz", [cloud(key) for key in range(10, 14)], [cloud(14), cloud(1)])
    options = Pretrain(epochs=1, batch=4, contrast=0.0)
    file, log = run_pretraining(pico.SPEC, options, [(one, "z"), (two, "y")], tmp_path / "out", Silent(), pico.CPU)
    assert len(log) == 1
    about = read_card(file).about
    assert about["shapes"] == 7
    assert [(entry["used"], entry["left_out"], entry["up"]) for entry in about["data"]] == [(3, 1, "z"), (4, 0, "y")]
    assert about["data"][0]["held_out"] == held_out(parse_task(one).load(64))
    assert json.loads((tmp_path / "out/about.json").read_text())["shapes"] == 7
