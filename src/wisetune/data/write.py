"""A loaded data set as a folder of files, which ``folder:`` reads back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from wisetune.data.files import PARTS
from wisetune.data.formats import write, write_suffixes
from wisetune.data.task import Data
from wisetune.errors import StorageError, UsageError
from wisetune.files import atomic

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def write_folder(data: Data, directory: str | Path, formats: Sequence[str] = ("ply", "xyz", "npy")) -> int:
    """Write ``directory/train/<class>/<row>_<name>.ply`` and so on, going round the formats; returns the number of files.

    All is written to a folder beside it and then renamed, so a folder that is there is whole.

    Raises:
        UsageError: a format that cannot be written, or none.
        StorageError: the folder is there and not empty, class names cannot be told apart as folders, or the disk refuses.
    """
    suffixes = [f".{kind.lower().lstrip('.')}" for kind in formats]
    if not suffixes or (unknown := [suffix for suffix in suffixes if suffix not in write_suffixes()]):
        given = ", ".join(unknown) if suffixes else "no format"
        raise UsageError(f"cannot write {given}. There are: {' '.join(write_suffixes())}.")
    folders = [_safe(name) for name in data.classes]
    if len({folder.casefold() for folder in folders}) < len(folders):
        raise StorageError(f"the class names {', '.join(data.classes)} cannot be told apart as names of folders. Rename the classes.")
    directory = Path(directory)
    taken = StorageError(f"'{directory}' is there and not empty. Name a new folder, or remove this one.")
    with atomic.refusing(directory):
        if directory.exists() and any(directory.iterdir()):
            raise taken
    with atomic.tmp_folder(directory.parent) as tmp:
        with atomic.refusing(directory):
            count = _write(data, tmp, folders, suffixes)
            if directory.exists():
                directory.rmdir()
        if not atomic.commit_folder(tmp, directory):
            raise taken
    return count


def _write(data: Data, root: Path, folders: list[str], suffixes: list[str]) -> int:
    count = 0
    for part in PARTS:
        split = data.split(part)
        for row, (cloud, label, name) in enumerate(zip(split.points, split.labels.tolist(), split.names, strict=True)):
            folder = root / part / folders[label]
            folder.mkdir(parents=True, exist_ok=True)
            write(folder / f"{row:05d}_{_safe(Path(name).stem)}{suffixes[count % len(suffixes)]}", cloud)
            count += 1
    return count


def _safe(name: str) -> str:
    """A name that every file system takes and that no reader passes over as hidden."""
    name = re.sub(r"[^\w .+-]", "_", name)[:80].strip(" .") or "_"
    return f"_{name}" if _DEVICES.fullmatch(name) else name
