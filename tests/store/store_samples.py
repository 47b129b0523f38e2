"""What the store's tests keep in stores, a training in miniature, and the faults that are put under it."""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from wisetune.recipe import Start, Tune, digest
from wisetune.records import Record
from wisetune.spec import Spec
from wisetune.store import Store, clean, write_text


@dataclasses.dataclass(frozen=True)
class Part(Spec):
    name = "part"
    size: int = 3


START = Start(Part(), "random:0")
RECIPE = Tune(START, Part(4), Part(), "0123456789abcdef", Part())
DIGEST = digest(RECIPE)
KEY = "feedfeedfeedfeed"
LOG = [{"epoch": 0, "loss": 0.1 + 0.2}, {"epoch": 1, "loss": float("inf"), "note": "Größe"}]
EXTRA = {"classes": ["chair", "table"], "seed": 2**80}
RECORDS = [
    Record(DIGEST, "accuracy", "scans", "0123", "val", name, 0.1 * n, n, 0.0, 1.0, {"confusion": [[n, 0], [0, 1]]})
    for n, name in enumerate(["balanced", "plain"])
]
STEPS = 4
CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "ftruncate", "close")
Tree = dict[str, bytes | None]


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Small weights with what is awkward to keep."""
    random = torch.Generator().manual_seed(seed)
    return {"b.weight": torch.randn(3, 2, generator=random), "a.count": torch.tensor(seed), "empty": torch.zeros(0, 5)}


def ignore(_: object) -> None:
    """For news that a test does not look at."""


def run(root: Path, saved: Callable[[int], object] = ignore) -> list[int]:
    """What `wisetune tune` does, in miniature; returns the steps done, and calls ``saved`` after each save."""
    clean(root.parent)
    store, done = Store(root, tell=ignore), []
    with store.lock(DIGEST):
        if store.load(DIGEST) is None:
            found = store.load_state(DIGEST)
            state, meta = found if found is not None else ({"w": torch.zeros(5, dtype=torch.float64)}, {"step": 0, "log": []})
            for step in range(meta["step"] + 1, STEPS + 1):
                state = {"w": torch.sin(state["w"] + step)}
                meta = {"step": step, "log": [*meta["log"], {"step": step, "loss": float(state["w"].sum())}]}
                done.append(step)
                if step < STEPS:
                    store.save_state(DIGEST, state, meta)
                    saved(step)
            store.commit(RECIPE, state, meta["log"], {"steps": STEPS})
            saved(STEPS)
        if store.get_records(DIGEST, KEY) is None:
            store.put_records(DIGEST, KEY, RECORDS)
        write_text(root.parent / "report.html", "new")
    return done


def tree(root: Path) -> Tree:
    """Every file with its bytes and every folder (None), hidden ones too, but for what is in quarantine and for lock files."""
    found = {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}
    return {path: data for path, data in found.items() if not path.startswith(("quarantine", "locks"))}


def damage(path: Path, at: int = -1) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


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
