"""Writes that happen as a whole or not at all, whenever the process dies and whenever the disk is full.

    write_bytes(path, data)                 a file
    with tmp_folder(parent) as tmp: ...     a folder, filled at leisure,
        commit_folder(tmp, final)           then named at once
    discard(path)                           the inverse: gone as a whole

What a killed process leaves has a temporary name, see tmp.py.
Every OSError becomes a StorageError that says what to do.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wisetune.errors import StorageError
from wisetune.files.tmp import remove, tmp_name

_RETRY = "the same command then goes on where it stopped, or starts again"
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def write_bytes(path: Path, data: bytes, *, make_folders: bool = True) -> None:
    """Write a file as a whole: at ``path`` is what was there before or all of ``data``, never a part.

    Missing folders are made; without ``make_folders`` they are an error, for a path whose folder somebody typed.

    Raises:
        StorageError: it could not be written; what was at ``path`` before is still there.
    """
    if make_folders:
        make_folder(path.parent)
    with refusing(path, need=len(data)), tmp_name(path.parent) as tmp:
        write_synced(tmp, data)
        os.replace(tmp, path)
        _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole, in UTF-8 with line ends as given.

    Raises:
        StorageError: it could not be written; what was at ``path`` before is still there.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as a whole, indented, with the keys in the order given.

    Raises:
        StorageError: it could not be written; what was at ``path`` before is still there.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet and force it to the disk. Not atomic by itself: for names that nobody looks at."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, and force their names to the disk.

    Raises:
        StorageError: it could not be made.
    """
    with refusing(path):
        if path.is_dir() or path == path.parent:
            return
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file of this name is in the way", str(path))
        _sync_folder(path.parent)


@contextlib.contextmanager
def tmp_folder(parent: Path) -> Iterator[Path]:
    """A new folder inside ``parent`` under a temporary name; removed at the end unless it was committed.

    Raises:
        StorageError: it could not be made, or an OSError came out of the block.
    """
    make_folder(parent)
    with refusing(parent), tmp_name(parent) as tmp:
        os.mkdir(tmp)
        yield tmp


def commit_folder(tmp: Path, final: Path) -> bool:
    """Give a finished folder its name. False when there is something of that name already, which then stays as it is.

    Raises:
        StorageError: it could not be renamed.
    """
    with refusing(final):
        _sync_folder(tmp)
        try:
            os.rename(tmp, final)
        except OSError:
            if os.path.lexists(final):
                return False
            raise
        _sync_folder(final.parent)
        return True


def move(path: Path, to: Path) -> None:
    """Rename within one file system. Nothing happens when ``path`` does not exist (any more).

    Raises:
        StorageError: it could not be moved.
    """
    make_folder(to.parent)
    with refusing(path, "moved"), contextlib.suppress(FileNotFoundError):
        os.rename(path, to)


def discard(path: Path) -> int:
    """Remove a file or folder so that no half of it is ever seen under its name; returns the bytes freed, 0 if it did not exist.

    Raises:
        StorageError: it could not be removed.
    """
    with refusing(path, "removed"), tmp_name(path.parent) as tmp:
        try:
            os.rename(path, tmp)
        except FileNotFoundError:
            return 0
        freed = size(tmp)
        remove(tmp)
        return freed


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder; what another process removes meanwhile counts nothing."""
    files = [path, *(Path(folder, file) for folder, _, names in os.walk(path) for file in names)]
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            status = file.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


@contextlib.contextmanager
def refusing(path: Path, done: str = "written", need: int = 0) -> Iterator[None]:
    """Turn every OSError inside into a StorageError about ``path``: what was wanted, the system's reason, what to do.

    Raises:
        StorageError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: cannot be {done}: {reason}. {_advice(path, error, need)}") from error


def _advice(path: Path, error: OSError, need: int) -> str:
    if error.errno in _FULL:
        wanted = f"{need / 1e6:,.1f} MB are needed here" if need else "space is needed here"
        with contextlib.suppress(OSError):
            wanted += f", {shutil.disk_usage(path.parent).free / 1e6:,.1f} MB are free"
        return f"{wanted}: free some space; {_RETRY}."
    if error.errno in _FORBIDDEN:
        return f"Choose a folder that you may write to, or change its permissions; {_RETRY}."
    if error.errno == errno.ENOENT and not path.parent.exists():
        return f"There is no folder {path.parent}: make it, or choose another place."
    return f"Check the disk and the path, or choose another folder; {_RETRY}."


def _sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk. Windows has no such call, and some network file systems refuse it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)
