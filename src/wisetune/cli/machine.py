"""What the commands that work share: their own line, threads, and the folder that they work in."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from wisetune.errors import StorageError, UsageError


def command_line() -> str:
    """The command as it was typed, to be shown and to be typed again."""
    return shlex.join(["wisetune", *sys.argv[1:]])


def set_threads(threads: int | None) -> None:
    """Take ``--threads``; None leaves torch's own.

    Raises:
        UsageError: fewer than one.
    """
    import torch

    if threads is None:
        return
    if threads < 1:
        raise UsageError(f"--threads is {threads}; it must be at least 1.")
    torch.set_num_threads(threads)


def folder_for(what: str, out: Path) -> None:
    """Refuse an ``--out`` that is a file.

    Raises:
        StorageError: it is one.
    """
    if out.exists() and not out.is_dir():
        raise StorageError(f"--out {out} is a file, and {what} needs a folder. Choose another --out.")
