import os
from pathlib import Path

import numpy as np
import pytest
import trimesh

from wisetune.data.folder import Folder
from wisetune.data.npz import Npz
from wisetune.data.scanner import Scanner
from wisetune.data.simulate import save_npz, simulate, simulate_task
from wisetune.errors import BadFile, DataError, StorageError, UsageError
from wisetune.runtime import generator

SMALL = Scanner("obj_bg", width=64, height=48)
NAMES = ("box", "ball")


def objects(count: int = 6) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    clouds = []
    for index in range(count):
        random = generator("object", index)
        cloud = random.normal(size=(512, 3))
        cloud /= (np.abs(cloud).max(1) if index % 2 == 0 else np.linalg.norm(cloud, axis=1))[:, None]
        clouds.append(cloud * [1, 1, 1 + index / 10])
    return clouds, np.arange(count) % 2, [f"o{index}" for index in range(count)]


def test_scans_belong_to_their_objects() -> None:
    clouds, labels, ids = objects()
    is_test = np.array([False, False, False, False, True, True])
    scans = simulate(clouds, labels, NAMES, ids, is_test, SMALL, np.array([1, 2, 3, 1, 2, 3]), 100, seed=1)
    assert scans.points.shape == (12, 100, 3)
    assert scans.points.dtype == np.float16
    assert np.bincount(scans.object_id).tolist() == [1, 2, 3, 1, 2, 3]
    np.testing.assert_array_equal(scans.labels, labels[scans.object_id])
    np.testing.assert_array_equal(scans.is_test, is_test[scans.object_id])
    assert scans.ids[:3] == ("o0/0", "o1/0", "o1/1")
    radius = np.linalg.norm(scans.points.astype(float), axis=2).max(1)
    np.testing.assert_allclose(radius, 1, atol=2e-3)
    np.testing.assert_allclose(scans.points.astype(float).mean(1), 0, atol=2e-3)


def test_a_scan_depends_on_its_object_alone() -> None:
    clouds, labels, ids = objects()
    is_test = np.zeros(6, bool)
    all_of_them = simulate(clouds, labels, NAMES, ids, is_test, SMALL, 2, 64)
    only = simulate([clouds[3]], labels[3:4], NAMES, [ids[3]], is_test[:1], SMALL, 1, 64)
    np.testing.assert_array_equal(only.points[0], all_of_them.points[6])
    other = simulate([clouds[3]], labels[3:4], NAMES, [ids[3]], is_test[:1], SMALL, 1, 64, seed=1)
    assert not np.array_equal(other.points, only.points)


def test_bad_requests_are_refused() -> None:
    clouds, labels, ids = objects(2)
    none = np.zeros(2, bool)
    with pytest.raises(UsageError, match="must be 1 or more"):
        simulate(clouds, labels, NAMES, ids, none, SMALL, 0)
    with pytest.raises(UsageError, match="must be 1 or more"):
        simulate(clouds, labels, NAMES, ids, none, SMALL, 1, 0)
    with pytest.raises(DataError, match="2 objects have only 1 different ids"):
        simulate(clouds, labels, NAMES, ["a", "a"], none, SMALL)
    clouds[1][0] = np.nan
    with pytest.raises(DataError, match="object 'o1': a cloud to scan has points that are not finite"):
        simulate(clouds, labels, NAMES, ids, none, SMALL)


def write_meshes(root: Path) -> Path:
    for index in range(3):
        for name, mesh in (("box", trimesh.creation.box((1, 1, 1 + index / 4))), ("ball", trimesh.creation.icosphere(2, 1 + index))):
            (root / name).mkdir(parents=True, exist_ok=True)
            mesh.export(root / name / f"{index}.off")
    return root


def test_a_folder_of_meshes_becomes_an_npz_that_loads_split_by_object(tmp_path: Path) -> None:
    out = tmp_path / "scans.npz"
    scans, bad = simulate_task(Folder(str(write_meshes(tmp_path / "cad")), test=0.34), SMALL, 3, 128, 0, out)
    assert bad == []
    assert scans.class_names == ("ball", "box")
    assert np.bincount(scans.object_id).tolist() == [3] * 6
    data = Npz(str(out), val=0.5).load(128)
    assert (len(data.train), len(data.val), len(data.test)) == (6, 6, 6)
    objects_of = [{name.rpartition("/")[0] for name in data.split(part).names} for part in ("train", "val", "test")]
    assert [len(names) for names in objects_of] == [2, 2, 2]
    assert len(set.union(*objects_of)) == 6
    np.testing.assert_allclose(np.sort(data.test.points[0], axis=0), np.sort(normal(scans, data.test.names[0]), axis=0), atol=3e-3)


def normal(scans, name: str) -> np.ndarray:
    return scans.points[scans.ids.index(name)].astype(float)


def test_a_given_split_and_given_objects_stay(tmp_path: Path) -> None:
    clouds, labels, ids = objects()
    source = tmp_path / "clouds.npz"
    is_test = np.array([True, False, False, True, False, False])
    same = np.array([5, 6, 7, 8, 7, 9])  # the third and the fifth are one object
    save_npz(
        source,
        {
            "points": np.stack(clouds),
            "labels": labels,
            "class_names": np.array(NAMES),
            "is_test": is_test,
            "object_id": same,
            "ids": np.array(ids),
        },
    )
    scans, _ = simulate_task(Npz(str(source)), SMALL, 2, 64)
    by_object = {name.partition("/")[0]: test for name, test in zip(scans.ids, scans.is_test, strict=True)}
    assert by_object == dict(zip(ids, is_test, strict=True))
    owner = {name.partition("/")[0]: int(group) for name, group in zip(scans.ids, scans.object_id, strict=True)}
    assert owner["o2"] == owner["o4"]
    assert len(set(owner.values())) == 5


def test_up_says_which_axis_stands(tmp_path: Path) -> None:
    clouds, labels, ids = objects(2)
    plate = np.stack([cloud * [1, 1, 0.05] for cloud in clouds])  # lies flat if z is up, stands if y is
    files = {}
    for up in ("z", "y"):
        files[up] = tmp_path / f"{up}.npz"
        save_npz(files[up], {"points": plate, "labels": labels, "class_names": np.array(NAMES), "ids": np.array(ids)})
    only = Scanner("obj_only", near=1.0, far=1.2)
    flat, _ = simulate_task(Npz(str(files["z"]), up="z", test=0.0), only, 1, 64)
    standing, _ = simulate_task(Npz(str(files["y"]), up="y", test=0.0), only, 1, 64)
    heights = [np.ptp(scans.points.astype(float)[..., 2], axis=1).max() for scans in (flat, standing)]
    assert heights[0] < 0.4 < 0.8 < heights[1]


def test_a_bad_file_stops_unless_it_may_be_left_out(tmp_path: Path) -> None:
    root = write_meshes(tmp_path / "cad")
    (root / "box" / "1.off").write_text("OFF\n1 1 0\nnonsense")
    out = tmp_path / "out.npz"
    with pytest.raises(BadFile, match=r"1\.off"):
        simulate_task(Folder(str(root)), SMALL, 1, 64, 0, out)
    assert not out.exists()
    scans, bad = simulate_task(Folder(str(root), skip_bad=True), SMALL, 1, 64, 0, out)
    assert len(bad) == 1
    assert len(scans.labels) == 5
    assert out.exists()


def test_saving_is_whole_or_not_at_all_and_always_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, {"a": np.arange(5)})
    before = path.read_bytes()
    save_npz(tmp_path / "b.npz", {"a": np.arange(5)})
    assert (tmp_path / "b.npz").read_bytes() == before

    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        save_npz(path, {"a": np.arange(6)})
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    monkeypatch.undo()
    with pytest.raises(StorageError, match=r"nowhere.*cannot be written"):
        save_npz(tmp_path / "nowhere" / "a.npz", {"a": np.arange(5)})
