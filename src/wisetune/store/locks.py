"""Locks between processes that vanish with their owner: the operating system holds them, not the existence of a file.

Safe between threads (each ``hold`` opens the file anew), over forks (a child closes its copy, so that a worker that outlives its
parent holds nothing), and with files that a dead process left (they are locked like new ones). The file says who holds it, for the
message only.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from wisetune.errors import Busy
from wisetune.files import atomic

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Tell = Callable[[str], None]
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK}
_FAR = 1 << 30
"""Windows locks a byte range, and what is locked cannot be read: one byte that is never written."""

_SHORTEST_S, _LONGEST_S = 0.01, 0.5

_OPEN: set[int] = set()
_FORKING = threading.RLock()


@contextlib.contextmanager
def hold(path: Path, what: str, wait: bool = False, tell: Tell | None = None) -> Iterator[None]:
    """Hold the lock at ``path`` for the block. ``what`` names it to a person.

    With ``wait``, ``tell`` is called once with who has it, and then the lock is waited for without end.

    Raises:
        Busy: somebody else has it (never with ``wait``).
        StorageError: the lock file cannot be made, or the file system has no locks.
    """
    atomic.make_folder(path.parent)
    pause, told = _SHORTEST_S, False
    while (handle := _try(path)) is None:
        message = f"{what} is in use by {_owner(path)}."
        if not wait:
            raise Busy(f"{message} Wait until it is done, or use another --out.")
        if tell is not None and not told:
            tell(f"{message} Waiting for it.")
            told = True
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_S)
    process = os.getpid()
    try:
        yield
    finally:
        # A forked child that leaves the block has closed its copy already, and the lock is its parent's.
        if os.getpid() == process:
            _release(handle, path)


def _try(path: Path) -> int | None:
    """The handle of the locked file, or None when somebody else has locked it."""
    with atomic.refusing(path, "locked"):
        while True:
            with _FORKING:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOINHERIT", 0), 0o666)
                _OPEN.add(handle)
            try:
                _lock(handle)
                if _is_at(handle, path):
                    _sign(handle)
                    return handle
                # The owner before us removed the file between our opening and our locking it: the lock is on a file without a name.
                _close(handle)
            except OSError as error:
                _close(handle)
                if error.errno in _TAKEN:
                    return None
                raise


def _release(handle: int, path: Path) -> None:
    # Removed while still locked, so that nobody can lock the name in between; Windows refuses, and the empty file stays.
    with contextlib.suppress(OSError):
        os.unlink(path)
    # Explicitly, because a child process just being started may hold a copy of the handle until it has started.
    with contextlib.suppress(OSError):
        _unlock(handle)
    _close(handle)


def _close(handle: int) -> None:
    with _FORKING:
        _OPEN.discard(handle)
        with contextlib.suppress(OSError):
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Write who has the lock. Failing to is no reason not to have it."""
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n{platform.node()}\n{since}\n".encode())


def _owner(path: Path) -> str:
    try:
        pid, host, since = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return "another process"
    where = "" if host == platform.node() else f" on {host}"
    return f"{'this process' if pid == str(os.getpid()) and not where else f'process {pid}'}{where} since {since}"


def _close_in_child() -> None:
    for handle in _OPEN:
        with contextlib.suppress(OSError):
            os.close(handle)
    _OPEN.clear()
    _FORKING.release()


if sys.platform == "win32":

    def _lock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)

    def _unlock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)

    os.register_at_fork(before=_FORKING.acquire, after_in_parent=_FORKING.release, after_in_child=_close_in_child)
