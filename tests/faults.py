"""Faults that a disk can have, put under the calls that change it."""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import os
import signal
from typing import Any, NoReturn

CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate", "close")


def ignore(_: object) -> None:
    """For news that a test does not look at."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens at one of ``calls`` (``open`` here means an opening that makes a file): an errno, or None for being killed."""

    name: str
    code: int | None
    calls: tuple[str, ...] = CALLS
    onwards: bool = False

    def strike(self) -> NoReturn:
        """Let it happen."""
        if self.code is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.code, os.strerror(self.code or 0))


CHANGES = tuple(call for call in CALLS if call not in ("fsync", "close"))  # the calls whose effect another process can see
KILL = Fault("kill", None, CHANGES)
ONE_ERROR = Fault("one error", errno.EIO)
ERRORS = Fault("errors", errno.EIO, onwards=True)
FULL = Fault("full", errno.ENOSPC, ("open", "write", "fsync", "mkdir"), onwards=True)
READ_ONLY = Fault("read-only", errno.EROFS, CHANGES, onwards=True)


class Faults:
    """Stands under the calls that the fault can strike at, counts them, and lets it strike at the n-th (``onwards``: and later ones)."""

    def __init__(self, n: int, fault: Fault) -> None:
        self.n, self.fault, self.count = n, fault, 0
        self.before = {name: getattr(os, name) for name in CALLS}
        self.real = {**self.before, "fsync": ignore}  # slow, and without effect while the machine itself goes on

    def __enter__(self) -> Faults:
        for name in CALLS:
            setattr(os, name, functools.partial(self._call, name))
        io.open = self._no_writing  # what Path.write_bytes uses
        return self

    def __exit__(self, *_: object) -> None:
        for name, before in self.before.items():
            setattr(os, name, before)
        io.open = open

    def _no_writing(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        """Opens a file; a store's only for reading, since a write that is not counted is one that no fault has struck at."""
        assert "store" not in str(file).split(os.sep) or mode.strip("bt") == "r", f"{file} is written past the store's own functions"
        return open(file, mode, *arguments, **options)

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        if name not in self.fault.calls or (name == "open" and not arguments[1] & os.O_CREAT):
            return self.real[name](*arguments, **options)
        self.count += 1
        if self.count < self.n or (self.count > self.n and not self.fault.onwards):
            return self.real[name](*arguments, **options)
        if name == "close":  # whatever it says, the handle is gone
            self.real[name](*arguments)
        if name == "write":  # torn: half of it arrives
            self.real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
        return self.fault.strike()
