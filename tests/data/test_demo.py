import importlib.resources
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wisetune.data.demo import LICENCES, POINTS, STEPS, Demo
from wisetune.data.tasks import parse_task
from wisetune.errors import DataError

PARTS = ("scans", "objects")
BUNDLED = Path(str(importlib.resources.files("wisetune.data"))) / "bundled"


@pytest.fixture(scope="module")
def stored() -> dict[str, dict[str, np.ndarray]]:
    files = {}
    for part in PARTS:
        with np.load(BUNDLED / f"demo_{part}.npz") as file:
            files[part] = {name: file[name] for name in file.files}
    return files


def owners(names: tuple[str, ...]) -> set[str]:
    return {name.rpartition("/")[0] for name in names}


@pytest.mark.parametrize("part", PARTS)
def test_no_object_is_in_two_splits(part: str) -> None:
    data = Demo(part).load()
    parts = [owners(data.split(name).names) for name in ("train", "val", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert data.protocol["objects"] == dict(zip(("train", "val", "test"), map(len, parts), strict=True))
    names = [name for split in (data.train, data.val, data.test) for name in split.names]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("part", PARTS)
def test_every_split_has_every_class(part: str) -> None:
    data = Demo(part).load(64)
    for name in ("train", "val", "test"):
        assert sorted(set(data.split(name).labels.tolist())) == list(range(len(data.classes)))


@pytest.mark.parametrize("part", PARTS)
def test_clouds_are_centred_and_within_the_unit_sphere(part: str) -> None:
    points = Demo(part).load().test.points
    assert points.dtype == np.float32
    assert points.shape[1:] == (POINTS, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=2).max(1), 1, atol=1.5 / STEPS)
    np.testing.assert_allclose(points.mean(1), 0, atol=1 / STEPS)


def test_fewer_points_are_a_subset_in_random_order_and_more_are_refused() -> None:
    whole, part = Demo().load().train, Demo().load(100).train
    np.testing.assert_array_equal(part.points, whole.points[:, :100])
    assert not np.array_equal(part.points, Demo(seed=1).load(100).train.points[: len(part)])
    # A random subset reaches as far as the whole; the first points of a sorted cloud would not.
    assert np.median(part.points[..., 0].max(1) - part.points[..., 0].min(1)) > 0.8 * np.median(np.ptp(whole.points[..., 0], axis=1))
    for points in (POINTS + 1, 0):
        with pytest.raises(DataError, match="Ask for 1 to 1024"):
            Demo().load(points)


def test_val_is_drawn_by_seed_and_test_stays() -> None:
    first, again, other = Demo().load(8), Demo().load(8), Demo(seed=1).load(8)
    assert first.digest == again.digest
    assert first.val.names == again.val.names != other.val.names
    assert first.test.names == other.test.names
    assert len(Demo(val=0.0).load(8).val) == 0
    share = len(first.val) / (len(first.val) + len(first.train))
    assert 0.12 < share < 0.28


def test_labelled_thins_out_the_train_part_alone() -> None:
    whole, thin = Demo().load(8), Demo(labelled=5).load(8)
    assert np.bincount(thin.train.labels).tolist() == [5] * 9
    assert set(thin.train.names) < set(whole.train.names)
    assert (thin.val.digest, thin.test.digest) == (whole.val.digest, whole.test.digest)


@pytest.mark.parametrize(("part", "least", "most"), [("scans", 0.12, 0.28), ("objects", 0.4, 0.6)])
def test_of_the_objects_half_is_held_out_because_alpha_is_chosen_on_them(part: str, least: float, most: float) -> None:
    data = Demo(part).load(8)
    assert least < len(data.val) / (len(data.val) + len(data.train)) < most
    assert Demo(part, val=0.2).load(8).protocol["val"] == "0.2 of train, by class and object"


@pytest.mark.parametrize("part", PARTS)
def test_scans_of_one_object_are_known_as_such(part: str) -> None:
    test = Demo(part).load(8).test
    assert test.groups == tuple(name.rpartition("/")[0] for name in test.names)
    assert test.objects is not None
    assert len(set(test.objects.tolist())) == Demo(part).load(8).protocol["objects"]["test"]


def test_the_spelling_names_the_part() -> None:
    assert parse_task("demo") == Demo()
    assert parse_task("demo:objects,seed=3") == Demo("objects", seed=3)


def test_a_folder_called_demo_is_not_taken_for_the_demo_nor_the_demo_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert parse_task("demo").path == "demo"
    for task in (Demo(), Demo("objects"), Demo(seed=3)):
        assert parse_task(str(task)) == task


def test_enough_scans_of_enough_objects() -> None:
    scans, objects = Demo("scans").load(8), Demo("objects").load(8)
    assert len(scans.train) + len(scans.val) >= 1000
    assert len(scans.test) >= 500
    assert sum(objects.protocol["objects"].values()) >= 200
    assert not set(scans.classes) & set(objects.classes)


def test_no_object_is_in_both_parts(stored: dict[str, dict[str, np.ndarray]]) -> None:
    assert not set(stored["scans"]["ids"].tolist()) & set(stored["objects"]["ids"].tolist())


@pytest.mark.parametrize("part", PARTS)
def test_every_item_may_be_redistributed_and_is_attributed(part: str, stored: dict[str, dict[str, np.ndarray]]) -> None:
    arrays = stored[part]
    assert set(arrays["licences"].tolist()) <= set(LICENCES) == {"CC0", "CC-BY-3.0", "CC-BY-3.0-US"}
    assert len(arrays["ids"]) == len(arrays["licences"]) == len(arrays["names"]) == arrays["object_id"].max() + 1
    text = (BUNDLED / "ATTRIBUTION.md").read_text(encoding="utf-8")
    section = re.search(rf"^## demo_{part}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section[1].splitlines() if line.startswith("| ")][1:]
    listed = {(row[4].replace(": `", "|").rstrip("`"), row[1], row[3]) for row in rows}
    assert listed == {tuple(map(str, item)) for item in zip(arrays["ids"], arrays["names"], arrays["licences"], strict=True)}
    assert all(row[2] for row in rows)


def test_the_bundled_files_are_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) <= 5_000_000


@pytest.mark.slow
def test_the_script_makes_the_bundled_bytes(shared: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "make_demo_data.py"
    subprocess.run([sys.executable, str(script), "--shared", str(shared / "data"), "--out", str(tmp_path)], check=True, capture_output=True)
    assert (tmp_path / "ATTRIBUTION.md").read_bytes() == (BUNDLED / "ATTRIBUTION.md").read_bytes()
    for part in PARTS:
        with np.load(tmp_path / f"demo_{part}.npz") as made, np.load(BUNDLED / f"demo_{part}.npz") as kept:
            assert made.files == kept.files
            for name in kept.files:
                if name == "steps":  # another processor may round a coordinate to the next step
                    assert (made[name] == kept[name]).mean() > 0.999
                else:
                    np.testing.assert_array_equal(made[name], kept[name])


@pytest.mark.parametrize("part", PARTS)
def test_the_page_gives_the_counts(part: str, stored: dict[str, dict[str, np.ndarray]]) -> None:
    page = Path(__file__).parents[2] / "docs" / "demo-data.md"
    section = page.read_text(encoding="utf-8").partition(f"## demo_{part}\n")[2].partition("\n## ")[0]
    rows = {
        cells[0]: list(map(int, cells[1:])) for cells in re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", section, re.M)
    }
    arrays = stored[part]
    for label, name in [*enumerate(arrays["class_names"]), (None, "all")]:
        of_class = np.ones(len(arrays["labels"]), bool) if label is None else arrays["labels"] == label
        clouds = [of_class & (arrays["is_test"] == test) for test in (False, True)]
        objects = [len(np.unique(arrays["object_id"][which])) for which in clouds]
        assert rows.pop(str(name)) == [*objects, *(int(which.sum()) for which in clouds)]
    assert not rows
