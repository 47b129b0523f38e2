"""The state of a training in progress: numbered sealed folders, the newest and the one before it.

The one before is what a damaged newest falls back to: at most one save interval is redone.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wisetune.files import atomic
from wisetune.store import sealed
from wisetune.store.locks import Tell
from wisetune.store.tensors import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
_FILE = "state.safetensors"


def save(folder: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Add a state and drop all but the newest ``KEPT``.

    Raises:
        StorageError: it could not be written; the earlier states are still there.
        TypeError: ``meta`` is not plain JSON.
    """
    numbers = _numbers(folder)
    number = max(numbers, default=0) + 1
    while not sealed.write_folder(_slot(folder, number), _name(folder, number), {_FILE: pack(tensors)}, meta):
        number += 1
    for old in sorted(numbers, reverse=True)[KEPT - 1 :]:
        atomic.discard(_slot(folder, old))


def load(folder: Path, tell: Tell) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest sound state, or None. Damaged ones are removed, with a word to the user.

    Raises:
        StorageError: a state may not be read, or a damaged one not be removed.
    """
    for number in sorted(_numbers(folder), reverse=True):
        slot = _slot(folder, number)
        try:
            files, meta = sealed.read_folder(slot, _name(folder, number), (_FILE,))
        except FileNotFoundError:
            continue
        except sealed.Damaged as damage:
            atomic.discard(slot)
            then = "the one before it is used" if _numbers(folder) else "there is none before it: this training starts over"
            tell(f"the saved state {number} of {folder.name} is damaged ({damage}); {then}.")
            continue
        return unpack(files[_FILE]), meta
    return None


def meta(folder: Path) -> dict[str, Any] | None:
    """What was said of the newest state, without its tensors: whether those are sound shows when it is loaded; None where there is none.

    Raises:
        StorageError: it may not be read.
    """
    for number in sorted(_numbers(folder), reverse=True):
        with contextlib.suppress(FileNotFoundError, sealed.Damaged):
            return sealed.read_manifest(_slot(folder, number), _name(folder, number))["about"]
    return None


def problems(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every damaged state with what is wrong; nothing is changed.

    Raises:
        StorageError: one may not be read.
    """
    for number in sorted(_numbers(folder)):
        slot, name = _slot(folder, number), _name(folder, number)
        if (wrong := sealed.wrong(functools.partial(sealed.read_folder, slot, name, (_FILE,)))) is not None:
            yield slot, wrong


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]
    except FileNotFoundError:
        return []


def _slot(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}"


def _name(folder: Path, number: int) -> str:
    return f"state {number} of {folder.name}"
