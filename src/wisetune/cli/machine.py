"""What the commands that work share: their own line, threads, the folder that they work in, and what an interrupt leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclopts import Parameter

from wisetune.cli.kinds import CountOrNone, Word
from wisetune.errors import StorageError, UsageError


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Machine:
    """Where to work, and whether to tell how far it is."""

    device: Word = "auto"
    """auto, cpu, cuda or mps."""
    threads: CountOrNone = None
    """CPU threads; part of what makes results on a CPU bit-identical. Default: torch's."""
    quiet: bool = False
    """No progress."""


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Working(Machine):
    """Where to work, how much of it, and what to print."""

    json: bool = False
    """The summary as JSON on stdout."""
    dry_run: bool = False
    """Say what would be done, how large it is and about how long it takes; train nothing."""


ANYWHERE, HERE = Machine(), Working()
GOES_ON = "; the same command goes on from here"
NOT_BEGUN = " before the work began; the same command starts it"
DRY = "; a dry run leaves nothing to go on with"


@dataclasses.dataclass
class Leaves:
    """What an interrupt would leave just now, in words."""

    said: str


@contextlib.contextmanager
def if_stopped(said: str) -> Iterator[Leaves]:
    """Let an interrupt that is met inside say what it leaves: this, or what was put in its place since.

    Raises:
        KeyboardInterrupt: it was met.
    """
    leaves = Leaves(said)
    try:
        yield leaves
    except KeyboardInterrupt as stopped:
        stopped.args = (leaves.said,)
        raise


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
