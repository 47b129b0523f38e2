"""Files and folders as a whole or not at all, in the order that a power cut needs, and what the dead leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wisetune.errors import StorageError
from wisetune.files import atomic, clean, tmp, write_bytes, write_json, write_text


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that fills with the names of the calls that change the disk, and of what they act on: file or folder."""
    calls: list[str] = []

    def watched(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            on = os.fstat(arguments[0]).st_ino if name in ("write", "fsync") else None
            calls.append(name if on is None else f"{name} {on}")
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "replace", "rename"):
        watched(name)
    return calls


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot force a folder to the disk")
def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watch(monkeypatch)
    write_bytes(tmp_path / "a", b"data")
    file, folder = (tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino
    assert calls == [f"write {file}", f"fsync {file}", "replace", f"fsync {folder}"]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot force a folder to the disk")
def test_a_folder_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watch(monkeypatch)
    with atomic.tmp_folder(tmp_path) as folder:
        atomic.write_synced(folder / "a", b"data")
        assert atomic.commit_folder(folder, tmp_path / "final")
    file, inner = (tmp_path / "final" / "a").stat().st_ino, (tmp_path / "final").stat().st_ino
    assert calls == [f"write {file}", f"fsync {file}", f"fsync {inner}", "rename", f"fsync {tmp_path.stat().st_ino}"]


def test_files_are_replaced_and_missing_folders_made(tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "a.txt"
    write_text(path, "old\n")
    write_text(path, "Größe\r\n")
    assert path.read_bytes() == "Größe\r\n".encode()
    write_json(path, {"b": [1], "a": "ü"})
    assert json.loads(path.read_bytes()) == {"b": [1], "a": "ü"}
    assert list(json.loads(path.read_bytes())) == ["b", "a"]
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_users_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_large_file_may_arrive_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:1000]))
    data = os.urandom(5500)
    write_bytes(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == data


def test_a_missing_folder_may_be_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a\.txt: cannot be written: No such .* There is no folder .*nowhere: make it, or"):
        write_bytes(tmp_path / "nowhere" / "a.txt", b"", make_folders=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match=r"out.*: cannot be written: .*another folder"):
        write_text(tmp_path / "out" / "deeper" / "a.txt", "")
    assert (tmp_path / "out").read_text() == "a file"


def test_a_folder_keeps_what_was_there_first(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with atomic.tmp_folder(tmp_path) as folder:
            (folder / "a").write_text(word)
            assert atomic.commit_folder(folder, tmp_path / "final") == (word == "first")
    assert (tmp_path / "final" / "a").read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["final"]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic.tmp_folder(tmp_path) as folder:
            (folder / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_discard_says_what_it_freed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"12345")
    assert atomic.discard(tmp_path / "a") == 5
    assert atomic.discard(tmp_path / "a") == 0
    assert list(tmp_path.iterdir()) == []


LEAVE = """
import os, sys
from pathlib import Path
from wisetune.files import atomic
with atomic.tmp_folder(Path(sys.argv[1])) as folder:
    atomic.write_synced(folder / "a", b"half")
    if sys.argv[2] == "die":
        os._exit(1)
    print("here", flush=True)
    sys.stdin.read()
"""


def test_what_the_dead_left_is_removed_and_what_the_living_write_stays(tmp_path: Path) -> None:
    (tmp_path / ".wisetune-theirs.tmp").write_text("not one of ours")
    subprocess.run([sys.executable, "-c", LEAVE, tmp_path, "die"], check=False)
    with subprocess.Popen([sys.executable, "-c", LEAVE, tmp_path, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive:
        assert alive.stdout is not None
        alive.stdout.readline()
        with atomic.tmp_folder(tmp_path) as ours:
            assert len(list(tmp_path.iterdir())) == 4
            clean(tmp_path)
            left = {entry.name for entry in tmp_path.iterdir()}
            assert left > {".wisetune-theirs.tmp", ours.name}
            assert [name for name in left if f"-{alive.pid}-" in name]
            assert len(left) == 3
        alive.communicate(b"")
    assert [entry.name for entry in tmp_path.iterdir()] == [".wisetune-theirs.tmp"]


def test_a_dead_process_of_our_own_pid_is_told_from_us(tmp_path: Path) -> None:
    # A container's first process has the same pid at every start.
    with tmp.tmp_name(tmp_path) as ours:
        earlier = tmp_path / f"{ours.name[:-16]}{'0' * 12}.tmp"
        for path in (ours, earlier):
            path.write_text("half")
        clean(tmp_path)
        assert list(tmp_path.iterdir()) == [ours]


def test_another_machines_leftovers_go_when_they_are_old(tmp_path: Path) -> None:
    new, old = (tmp_path / f".wisetune-{'0' * 8}-{pid}-{'0' * 12}.tmp" for pid in (99999998, 99999999))
    for path in (new, old):
        path.mkdir()
    an_age_ago = time.time() - tmp.OLD_S - 60
    os.utime(old, (an_age_ago, an_age_ago))
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_cleaning_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    clean(tmp_path / "nowhere")
