from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from wisetune.data.folder import Folder
from wisetune.data.task import Data, Split
from wisetune.data.write import write_folder
from wisetune.errors import StorageError, UsageError


def made(classes=("bed", "Night Stand/2", "con"), each=4):
    chance = np.random.default_rng(0)

    def split(part):
        count = each * len(classes)
        points = chance.normal(size=(count, 32, 3)).astype(np.float32)
        return Split(points, np.arange(count) % len(classes), tuple(f"{part}/x/{at}.ply" for at in range(count)))

    return Data("made", classes, split("train"), split("val"), split("test"), {})


def test_what_is_written_is_loaded_again_bit_by_bit(tmp_path):
    data = made()
    assert write_folder(data, tmp_path / "out", formats=("ply", "xyz", ".npy", "off", "pcd", "obj")) == 36
    back = Folder(str(tmp_path / "out"), normalise="none").load(32)
    assert back.classes == ("Night Stand_2", "_con", "bed")
    for part in ("train", "val", "test"):
        was, now = data.split(part), back.split(part)
        order = np.argsort([int(name.rsplit("/", 1)[1][:5]) for name in now.names])
        np.testing.assert_array_equal(now.points[order], was.points)
        assert [back.classes[label] for label in now.labels[order]] == [("bed", "Night Stand_2", "_con")[label] for label in was.labels]
    suffixes = {path.suffix for path in (tmp_path / "out").rglob("*.*")}
    assert suffixes == {".ply", ".xyz", ".npy", ".off", ".pcd", ".obj"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled_and_a_full_one_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    write_folder(made(), tmp_path / "out")
    with pytest.raises(StorageError, match="is there and not empty"):
        write_folder(made(), tmp_path / "out")


def test_a_part_without_items_is_left_out(tmp_path):
    data = made()
    write_folder(dataclasses.replace(data, val=data.val.take(np.empty(0, np.int64))), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test", "train"]


@pytest.mark.parametrize("kinds", [("ply", "step"), (), ("npz",)])
def test_formats_that_cannot_be_written(kinds, tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .* There are: .*\.ply"):
        write_folder(made(), tmp_path / "out", formats=kinds)


def test_classes_that_would_share_a_folder(tmp_path):
    with pytest.raises(StorageError, match="cannot be told apart"):
        write_folder(made(classes=("Chair", "chair")), tmp_path / "out")


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    calls = []

    def fail(path, points):
        calls.append(path)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        path.write_bytes(points.tobytes())

    monkeypatch.setattr("wisetune.data.write.write", fail)
    with pytest.raises(StorageError, match="No space left on device"):
        write_folder(made(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write_folder(made(), tmp_path / "file" / "out")
