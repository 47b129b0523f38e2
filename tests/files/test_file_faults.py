"""Whatever the disk says at whichever call: every function that writes for a user leaves the old or the new, and nothing beside it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pico
from faults import ERRORS, FULL, ONE_ERROR, READ_ONLY, Fault, Faults
from wisetune.data.simulate import save_npz
from wisetune.data.write import write_folder
from wisetune.errors import StorageError
from wisetune.files import clean, write_bytes, write_json
from wisetune.nets.files.save import save_backbone

WRITERS: dict[str, Callable[[Path, int], object]] = {
    "write_bytes": lambda path, number: write_bytes(path, bytes([number]) * 1000),
    "write_json": lambda path, number: write_json(path, {"a": number}),
    "save_npz": lambda path, number: save_npz(path, {"a": np.full(99, number)}),
    "save_backbone": lambda path, number: save_backbone(path, pico.backbone(seed=number)),
}


@pytest.mark.parametrize("fault", [FULL, ONE_ERROR, ERRORS, READ_ONLY], ids=lambda fault: fault.name)
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_failing_disk_at_every_call_leaves_the_old_file_or_the_new_one(
    write: Callable[[Path, int], object], fault: Fault, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(tmp_path / "old", 1)
    write(tmp_path / "new", 2)
    old, new = ((tmp_path / name).read_bytes() for name in ("old", "new"))
    assert old != new
    refused = 0
    for n in itertools.count(1):
        (folder / "it").write_bytes(old)
        done = True
        with Faults(n, fault) as faults:
            try:
                write(folder / "it", 2)
            except StorageError as error:
                done = False
                refused += str(folder / "it") in str(error)
        clean(folder)  # what could not be tidied up under the fault
        assert [path.name for path in folder.iterdir()] == ["it"]
        assert (folder / "it").read_bytes() in ((new,) if done else (old, new))
        if faults.count < n:
            break
    assert refused >= 2


def test_a_folder_of_files_is_whole_or_not_there(tmp_path: Path) -> None:
    data = pico.data()
    expected = write_folder(data, tmp_path / "whole")
    for n in itertools.count(1):
        with Faults(n, ONE_ERROR) as faults, contextlib.suppress(StorageError):
            write_folder(data, tmp_path / "out")
        clean(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} <= {"whole", "out"}
        if (tmp_path / "out").exists():
            assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == expected
            if faults.count < n:
                break
            (tmp_path / "out").rename(tmp_path / "whole" / str(n))
    assert n > 5


def test_a_full_disk_says_how_much_is_needed(tmp_path: Path) -> None:
    with Faults(1, FULL), pytest.raises(StorageError, match=r"a\.bin: .*No space left.* 2\.5 MB are needed .* are free"):
        write_bytes(tmp_path / "a.bin", b"x" * 2_500_000)
    assert list(tmp_path.iterdir()) == []
