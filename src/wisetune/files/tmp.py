"""Temporary names that say whose they are, so that what a killed process leaves behind can be told from what is being written."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

OLD_S = 24 * 3600
"""Age in seconds at which a temporary name counts as left behind although its owner cannot be asked (another machine)."""

_TMP = re.compile(r"\.wisetune-([0-9a-f]{8})-(\d+)-[0-9a-f]{12}\.tmp")
_MINE: set[str] = set()
"""Temporary names in use by this process: another one with this pid in its name is of a dead process that had the same pid."""


@contextlib.contextmanager
def tmp_name(folder: Path) -> Iterator[Path]:
    """A fresh temporary name; whatever bears it at the end is removed."""
    name = f".wisetune-{_here()}-{os.getpid()}-{secrets.token_hex(6)}.tmp"
    _MINE.add(name)
    try:
        yield folder / name
    finally:
        # A failure to tidy up must not hide why the block failed; the next start tidies up again.
        with contextlib.suppress(OSError):
            remove(folder / name)
        _MINE.discard(name)


def clean(folder: Path) -> None:
    """Remove the temporary files and folders that dead processes left in ``folder`` (not deeper). Never raises: it can wait."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if _left_behind(entry):
                    remove(Path(entry.path))


def is_tmp(name: str) -> bool:
    """Whether a file name is one of the temporary names of this module."""
    return _TMP.fullmatch(name) is not None


def remove(path: Path) -> None:
    """Remove a file or folder, if it exists.

    Raises:
        OSError: it could not be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _left_behind(entry: os.DirEntry[str]) -> bool:
    match = _TMP.fullmatch(entry.name)
    if match is None:
        return False
    here, pid = match[1] == _here(), int(match[2])
    if here and pid == os.getpid():
        return entry.name not in _MINE
    if here and not _running(pid):
        return True
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD_S


@functools.cache
def _here() -> str:
    """Eight hex digits that name the space in which a pid means something: the machine, and the container in it."""
    space = platform.node()
    with contextlib.suppress(OSError):
        space += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(space.encode()).hexdigest()[:8]


def _running(pid: int) -> bool:
    if os.name == "nt":
        return True  # there os.kill(pid, 0) would end the process; the age decides
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
