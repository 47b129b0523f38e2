"""The root folder of a store: whether it is one, in which format, and what dead processes left in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from wisetune.errors import BadFile, UsageError, first_of
from wisetune.files import atomic, tmp

FORMAT = 1
"""Version of the store's layout on disk; raised when an older wisetune would misread it."""

VERSION_FILE = "store.json"
_SHOWN = 3


def open_root(root: Path, create: bool) -> None:
    """Make sure that ``root`` is a store of this format, making it one when it is missing or empty and ``create`` is set.

    Raises:
        UsageError: it is something else, of a newer format, or missing without ``create``.
        BadFile: its version file is damaged.
        StorageError: it cannot be written.
    """
    version = root / VERSION_FILE
    with atomic.refusing(root, "opened"):
        if not version.is_file():
            _refuse_other(root, version)
            if not create:
                raise UsageError(f"there is no wisetune store at {root}. Give the folder of an earlier run with --out.")
            atomic.write_json(version, {"kind": "wisetune store", "format": FORMAT})
    _check_format(version)
    _clean(root)


def _refuse_other(root: Path, version: Path) -> None:
    if not root.exists():
        return
    if not root.is_dir():
        raise UsageError(f"{root} is a file, and a store is a folder. Choose another --out.")
    others = sorted(name for name in os.listdir(root) if not tmp.is_tmp(name))
    # Looked for again: another process may have made it a store a moment ago.
    if others and not version.is_file():
        raise UsageError(
            f"{root} holds other files ({first_of(others, _SHOWN)}) and no wisetune store. Choose a new or an empty folder with --out."
        )


def _check_format(version: Path) -> None:
    mend = f'if this is a wisetune store, write {{"kind": "wisetune store", "format": {FORMAT}}} into it'
    try:
        value = json.loads(version.read_bytes())
        found = value["format"] if value["kind"] == "wisetune store" else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadFile(version, f"it does not say which format this store has: {error!r}", mend) from None
    if not isinstance(found, int) or found < 1:
        raise BadFile(version, f"it does not say which format this store has: {value}", mend)
    if found > FORMAT:
        raise UsageError(
            f"the store at {version.parent} has format {found}, and this wisetune reads format {FORMAT}. "
            "Update it with: pip install -U wisetune, or choose another --out."
        )


def _clean(root: Path) -> None:
    """Remove what killed processes left, wherever this package makes temporary names."""
    for folder in (root, *root.glob("*/"), *root.glob("states/*/"), *root.glob("records/*/")):
        tmp.clean(folder)
