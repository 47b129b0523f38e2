from __future__ import annotations

import json

import numpy as np
import pytest

from wisetune.data.npz import Npz
from wisetune.errors import BadFile, DataError

CHANCE = np.random.default_rng(0)
N = 60
POINTS = CHANCE.normal(size=(N, 40, 3)).astype(np.float16)
LABELS = np.arange(N, dtype=np.int16) % 3
CLASSES = np.array(["bed", "chair", "desk"])


def saved(folder, **changed):
    arrays = {"points": POINTS, "labels": LABELS, "class_names": CLASSES} | changed
    path = folder / "set.npz"
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


def test_without_anything_else(tmp_path):
    data = Npz(saved(tmp_path)).load(40)
    assert data.classes == ("bed", "chair", "desk")
    assert data.name == "npz:set.npz"
    assert data.protocol["counts"] == {"train": [13, 13, 13], "val": [3, 3, 3], "test": [4, 4, 4]}
    for part in (data.train, data.val, data.test):
        for cloud, label, name in zip(part.points, part.labels, part.names, strict=True):
            assert LABELS[int(name)] == label
            wanted = POINTS[int(name)].astype(np.float64)
            wanted -= wanted.mean(axis=0)
            np.testing.assert_allclose(cloud, wanted / np.linalg.norm(wanted, axis=1).max(), atol=1e-6)


def test_fewer_points_are_a_choice_among_them(tmp_path):
    data = Npz(saved(tmp_path), normalise="none").load(10)
    cloud, row = data.train.points[0], int(data.train.names[0])
    assert all((cloud[:, None] == POINTS[row].astype(np.float32)).all(axis=2).any(axis=1))
    assert len(np.unique(cloud, axis=0)) == 10


def test_is_test_is_honoured_and_may_be_passed_over(tmp_path):
    is_test = np.arange(N) >= 30
    path = saved(tmp_path, is_test=is_test)
    data = Npz(path).load(40)
    assert {int(name) for name in data.test.names} == set(range(30, 60))
    assert len(data.val) == 6
    anew = Npz(path, resplit=True).load(40)
    assert len(anew.test) == 12
    assert any(int(name) < 30 for name in anew.test.names)


def test_objects_are_not_parted(tmp_path):
    owners = np.arange(N) // 6 * 3 + LABELS
    data = Npz(saved(tmp_path, object_id=owners)).load(40)
    held = [{owners[int(name)] for name in data.split(part).names} for part in ("train", "val", "test")]
    assert all(held)
    assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]


def test_ids_are_names_if_they_differ(tmp_path):
    ids = np.array([f"m{at}" for at in range(N)])
    assert Npz(saved(tmp_path, ids=ids), val=0.0, test=0.0).load(40).train.names[0] == "m0"
    assert Npz(saved(tmp_path, ids=ids.astype("S")), val=0.0, test=0.0).load(40).train.names[0] == "m0"
    ids[1] = "m0"
    assert Npz(saved(tmp_path, ids=ids), val=0.0, test=0.0).load(40).train.names[0] == "00"


def test_other_labels(tmp_path):
    path = saved(tmp_path, coarse=LABELS // 2, coarse_names=np.array(["a", "b"]))
    assert Npz(path, labels="coarse", classes="coarse_names").load(40).classes == ("a", "b")


def test_classes_without_items_are_left_out(tmp_path):
    path = saved(tmp_path, class_names=np.array(["bed", "chair", "desk", "sofa"]))
    assert Npz(path).load(40).classes == ("bed", "chair", "desk")


def test_a_class_of_test_only(tmp_path):
    path = saved(tmp_path, is_test=LABELS == 1)
    with pytest.raises(DataError, match=r"none in train: chair.*resplit=true"):
        Npz(path).load(40)
    assert Npz(path, resplit=True).load(40).classes == ("bed", "chair", "desk")


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"points": None}, "holds no array points; there are labels, class_names"),
        ({"class_names": None}, "holds no array class_names"),
        ({"points": POINTS[0]}, r"points are float16 \[40, 3\]"),
        ({"points": POINTS[:, :, :2]}, r"\[60, 40, 2\]"),
        ({"points": POINTS > 0}, "points are bool"),
        ({"labels": LABELS[:-1]}, r"'labels' has shape \[59\], but there are 60 clouds"),
        ({"labels": LABELS + 1}, "run from 1 to 3, but there are 3"),
        ({"labels": LABELS - 1}, "run from -1 to 1"),
        ({"labels": LABELS + 0.5}, "not whole"),
        ({"labels": LABELS.astype(object)}, "Python objects"),
        ({"class_names": np.array(["bed", "bed", "desk"])}, "different names"),
        ({"class_names": np.arange(3)}, "different names"),
        ({"is_test": np.zeros(3, bool)}, r"'is_test' has shape \[3\]"),
    ],
)
def test_arrays_that_do_not_fit(changed, wrong, tmp_path):
    path = saved(tmp_path, **changed)
    with pytest.raises(BadFile, match=wrong) as caught:
        Npz(path).load(40)
    assert caught.value.path == path


def test_files_that_are_no_archive(tmp_path):
    with pytest.raises(BadFile, match="No such file"):
        Npz(str(tmp_path / "none.npz")).load(40)
    (tmp_path / "set.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadFile, match=r"not an \.npz archive"):
        Npz(str(tmp_path / "set.npz")).load(40)


def test_bad_clouds_are_named_or_skipped(tmp_path):
    points = POINTS.copy()
    points[7, 3, 1] = np.nan
    points[9] = 1
    path = saved(tmp_path, points=points)
    with pytest.raises(
        DataError, match=r"set\.npz, cloud 07: 1 of 40 points are not finite(.|\n)*cloud 09: all of its 40 points are in one"
    ):
        Npz(path).load(40)
    data = Npz(path, skip_bad=True).load(40)
    assert len(data.train) + len(data.val) + len(data.test) == 58
    assert [problem.partition(": ")[0] for problem in data.protocol["skipped"]] == ["07", "09"]
    assert str(tmp_path) not in json.dumps(data.protocol)


def test_the_research_sets_load(shared):
    data = Npz(str(shared / "data" / "dales_objects.npz")).load(256)
    assert data.classes == ("building", "car", "fence", "pole", "tree")
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [279, 70, 150]
    with pytest.raises(BadFile, match="holds no array points, labels, class_names; there are image"):
        Npz(str(shared / "data" / "pacs32_mini.npz")).load(256)


def test_points_that_are_not_finite_may_be_dropped(tmp_path):
    points = POINTS.copy()
    points[7, :3, 1] = np.nan
    path = saved(tmp_path, points=points)
    with pytest.raises(BadFile, match=r"cloud 07: 3 of 40 points are not finite .*nonfinite=drop"):
        Npz(path).load(32)
    data = Npz(path, nonfinite="drop").load(32)
    assert (data.protocol["nonfinite_points"], sum(map(len, (data.train, data.val, data.test)))) == (3, N)
