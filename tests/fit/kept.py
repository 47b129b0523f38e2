"""A place for a training's state that kills: the process dies right after the n-th save."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from wisetune.fit import loop
from wisetune.store.tensors import pack, unpack


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library may catch it."""


class Kept:
    """What is on the disk: bytes, as the store writes them. ``kill_after`` counts saves of this process."""

    def __init__(self) -> None:
        self.bytes: tuple[bytes, str] | None = None
        self.saves, self.loads, self.kill_after = 0, list[int](), 0

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        self.saves = 0
        if self.bytes is None:
            return None
        meta = json.loads(self.bytes[1])
        self.loads.append(meta["epoch"])
        return unpack(self.bytes[0]), meta

    def save(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        self.bytes = pack(tensors), json.dumps(meta)
        self.saves += 1
        if self.saves == self.kill_after:
            raise Killed


def save_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour pass whenever the loop looks at the clock."""
    hours = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: 3600.0 * next(hours))


def until_done(run: Callable[[Kept], Any], kept: Kept, kill_after: int, kills: int) -> Any:
    """Start ``run`` again after each kill, at most ``kills`` of which happen; the result of the last start."""
    for start in itertools.count():
        kept.kill_after = kill_after if start < kills else 0
        torch.manual_seed(start)  # a new process knows nothing of the global state of the one before
        try:
            return run(kept)
        except Killed:
            continue
    raise AssertionError
