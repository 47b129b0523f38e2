from __future__ import annotations

import dataclasses

import numpy as np

from wisetune.data.folder import Folder
from wisetune.data.npz import Npz
from wisetune.data.task import Data, Split


def split(groups: tuple[str, ...] | None, n: int = 4) -> Split:
    return Split(np.arange(3 * n, dtype=np.float32).reshape(n, 1, 3), np.arange(n) % 2, tuple(map(str, range(n))), groups)


def test_clouds_keep_their_objects_when_some_are_taken():
    every = split(("b", "a", "b", "c"))
    assert every.objects is not None
    assert every.objects.tolist() == [0, 1, 0, 2]
    part = every.take(np.array([3, 2, 0]))
    assert part.groups == ("c", "b", "b")
    assert part.objects is not None
    assert part.objects.tolist() == [0, 1, 1]
    # One cloud of each object: they are as good as clouds without.
    assert every.take(np.array([0, 1, 3])).objects is None
    assert split(None).objects is None


def test_objects_change_what_is_measured_and_not_what_is_trained():
    alone, some = (Data("x", ("a", "b"), split(None), split(None), split(groups), {}) for groups in (None, ("o", "o", "p", "p")))
    other = dataclasses.replace(some, test=split(("q", "q", "r", "r")))
    assert alone.digest == some.digest == other.digest
    assert alone.grouping != some.grouping == other.grouping


def test_a_folder_and_an_archive_say_what_is_of_one_object(tmp_path):
    points = np.random.Generator(np.random.PCG64(0)).normal(size=(24, 32, 3)).astype(np.float32)
    for row in range(24):
        path = tmp_path / "folder" / f"class {row % 2}" / f"object {row % 8}" / f"{row}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, points[row])
    owner, classes = np.arange(24) % 8, np.array(["a", "b"])
    np.savez(tmp_path / "with.npz", points=points, labels=np.arange(24) % 2, class_names=classes, object_id=owner)
    np.savez(tmp_path / "without.npz", points=points, labels=np.arange(24) % 2, class_names=classes)
    for task in (Folder(str(tmp_path / "folder"), group="folder"), Npz(str(tmp_path / "with.npz"))):
        data = task.load(32)
        for part in (data.train, data.val, data.test):
            assert part.objects is not None
            assert len(part) == 3 * len(set(part.objects.tolist()))
    for task in (Folder(str(tmp_path / "folder")), Npz(str(tmp_path / "without.npz"))):
        assert task.load(32).train.groups is None


def test_the_training_digest_is_of_what_is_trained_and_selected_on():
    import pico

    data, more = pico.data(), pico.data("more")
    assert dataclasses.replace(data, test=more.test).training_digest == data.training_digest
    assert dataclasses.replace(data, test=more.test).digest != data.digest
    others = [dataclasses.replace(data, **{name: value}) for name, value in (("train", more.train), ("val", more.val), ("classes", "abcd"))]
    assert len({one.training_digest for one in (data, *others)}) == 4


def test_digests_are_computed_once(monkeypatch):
    import pico
    from wisetune.data import task

    data, hashed = pico.data(), []
    sha256 = task.hashlib.sha256
    monkeypatch.setattr(task.hashlib, "sha256", lambda *given: hashed.append(1) or sha256(*given))
    first, again = ([data.digest, data.training_digest, data.grouping, data.train.digest] for _ in range(2))
    assert first == again
    assert len(hashed) == 6
