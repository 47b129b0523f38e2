"""A lock is held by one thread of one process, and by nobody once that is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wisetune.errors import Busy, StorageError
from wisetune.store import Store, locks

HOLD = """
import sys
from pathlib import Path
from wisetune.store import Store
with Store(Path(sys.argv[1])).lock("x"):
    print("held", flush=True)
    sys.stdin.read()
"""

HOLD_WITH_A_WORKER = """
import os, sys, time
from pathlib import Path
from wisetune.store import Store
with Store(Path(sys.argv[1])).lock("x"):
    worker = os.fork()
    if worker == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.read()
"""

LEAVE_IN_A_CHILD = """
import os, sys
from pathlib import Path
from wisetune.errors import Busy
from wisetune.store import Store
store = Store(Path(sys.argv[1]))
child = None
with store.lock("x"):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        try:
            with store.lock("x"):
                print("the child released its parent's lock")
        except Busy:
            print("held")
"""


def start(program: str, root: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that runs it, and the first line it says."""
    process = subprocess.Popen([sys.executable, "-c", program, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_lock_is_one_of_its_name_and_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    busy = pytest.raises(Busy, match=r"'x' in .*a is in use by this process since 2.*another --out")
    with store.lock("x"), store.lock("y"), Store(tmp_path / "b").lock("x"), busy, store.lock("x"):
        pass
    with store.lock("x"):
        pass
    assert list((tmp_path / "a" / "locks").iterdir()) == []


def test_the_busy_one_is_named_and_its_lock_dies_with_it(tmp_path: Path) -> None:
    process, said = start(HOLD, tmp_path)
    assert said == "held"
    store = Store(tmp_path)
    with pytest.raises(Busy, match=f"in use by process {process.pid} since ") as busy, store.lock("x"):
        pass
    assert busy.value.exit_code == 75
    end(process)
    assert (tmp_path / "locks" / "x.lock").exists(), "a stale file is no lock"
    with store.lock("x"):
        pass


def test_waiting_says_so_once_and_then_has_it(tmp_path: Path) -> None:
    process, _ = start(HOLD, tmp_path)
    told: list[str] = []
    threading.Timer(0.3, process.communicate).start()
    before = time.monotonic()
    with Store(tmp_path).lock("x", wait=True, tell=told.append):
        assert time.monotonic() - before > 0.2
    assert told == [told[0]]
    assert f"process {process.pid} since" in told[0]
    assert told[0].endswith("Waiting for it.")
    with Store(tmp_path).lock("x", wait=True, tell=told.append):
        assert len(told) == 1
    process.wait()


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    store, inside, most = Store(tmp_path), [], []

    def work() -> None:
        for _ in range(10):
            with store.lock("x", wait=True):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_worker_that_outlives_its_parent_holds_nothing(tmp_path: Path) -> None:
    process, worker = start(HOLD_WITH_A_WORKER, tmp_path)
    try:
        with pytest.raises(Busy), Store(tmp_path).lock("x"):
            pass
        process.kill()
        process.wait()
        os.kill(int(worker), 0)  # it lives
        with Store(tmp_path).lock("x"):
            pass
    finally:
        os.kill(int(worker), signal.SIGKILL)
        end(process)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_leaves_the_block_does_not_release(tmp_path: Path) -> None:
    process, said = start(LEAVE_IN_A_CHILD, tmp_path)
    process.communicate()
    assert said == "held"


def test_a_started_program_does_not_inherit(tmp_path: Path) -> None:
    with Store(tmp_path).lock("x"):
        handles = set(locks._OPEN)
        assert len(handles) == 1
        assert not any(os.get_inheritable(handle) for handle in handles)
    assert set() == locks._OPEN


@pytest.mark.parametrize("content", [b"", b"1", b"\xff\xfe", b"1\n2\n3\n4\n5\n", b"999999\nelsewhere\nlong ago\n"])
def test_a_stale_file_with_any_content_is_taken_over(content: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "x.lock").write_bytes(content)
    with store.lock("x"):
        pid, *_ = (tmp_path / "locks" / "x.lock").read_text().splitlines()
        assert int(pid) == os.getpid()
        (tmp_path / "locks" / "x.lock").write_bytes(content)
        owner = r"process 999999 on elsewhere since long ago\." if b"elsewhere" in content else r"another process\."
        with pytest.raises(Busy, match=f"in use by {owner}"), store.lock("x"):
            pass


def test_a_file_that_its_owner_removed_meanwhile_is_not_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, path, lock = Store(tmp_path), tmp_path / "locks" / "x.lock", locks._lock

    def released_first(handle: int) -> None:
        monkeypatch.setattr(locks, "_lock", lock)
        path.unlink()  # by the owner, between our opening and our locking
        lock(handle)

    monkeypatch.setattr(locks, "_lock", released_first)
    with store.lock("x"):
        assert path.exists()
        with pytest.raises(Busy), store.lock("x"):
            pass


def test_an_exception_releases(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.lock("x"):
        raise ZeroDivisionError
    with store.lock("x"):
        pass


def test_a_lock_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "locks" / "x.lock").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"x\.lock: cannot be locked"), store.lock("x"):
        pass
