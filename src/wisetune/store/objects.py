"""Finished weights: sealed folders named by the digests of their recipes."""

from __future__ import annotations

import dataclasses
import functools
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wisetune.files import atomic
from wisetune.recipe import Recipe, describe, in_words, made_in_words, to_json
from wisetune.store import locks, sealed
from wisetune.store.locks import Tell
from wisetune.store.tensors import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor

Log = list[dict[str, Any]]
WEIGHTS, RECIPE, LOG = FILES = ("weights.safetensors", "recipe.json", "log.jsonl")


@dataclasses.dataclass(frozen=True)
class Stored:
    """What one object holds: the weights, one dict a line of the training's log, and whatever else the builder said of it.

    ``stamp`` says with which versions and on which device it was built; empty where nobody said.
    """

    tensors: dict[str, Tensor]
    log: Log
    extra: dict[str, Any]
    stamp: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One line of a listing: in words its ``name`` and how it was ``made``; ``size`` is in bytes, ``created`` in seconds since 1970."""

    digest: str
    name: str
    made: str
    recipe: str
    size: int
    created: float


def has(folder: Path) -> bool:
    """Whether there is an object; whether it is sound shows only when it is read.

    Raises:
        StorageError: it may not be looked for.
    """
    with atomic.refusing(folder, "read"):
        return (folder / sealed.MANIFEST).is_file()


def commit(folder: Path, aside: Path, recipe: Recipe, stored: Stored, tell: Tell) -> bool:
    """Write an object. False when a sound one was there already, which stays; a damaged one is moved into ``aside``.

    Raises:
        StorageError: it could not be written; what was there before still is.
        TypeError: the log or the rest is not plain JSON.
    """
    files = {
        WEIGHTS: pack(stored.tensors),
        RECIPE: (json.dumps(to_json(recipe), indent=2, sort_keys=True) + "\n").encode("ascii"),
        LOG: b"".join(map(sealed.encode, stored.log)),
    }
    about = {"recipe": describe(recipe), "extra": stored.extra, "stamp": stored.stamp}
    while not sealed.write_folder(folder, folder.name, files, about):
        if (there := _sound(folder, aside, tell)) is not None:
            if there[0].get(WEIGHTS) != files[WEIGHTS]:
                tell(f"{folder.name} was built twice with different bits (another device, thread count or library); the first one stays.")
            return False
    return True


def load(folder: Path, aside: Path, tell: Tell) -> Stored | None:
    """An object, every byte checked; None when it is missing. A damaged one is moved into ``aside``, and so is missing.

    Raises:
        StorageError: it may not be read, or a damaged one not be moved.
    """
    if (found := _sound(folder, aside, tell)) is None:
        return None
    files, about = found
    log = [json.loads(line) for line in files[LOG].splitlines()]
    return Stored(unpack(files[WEIGHTS]), log, about["extra"], about.get("stamp", {}))


def stamp(folder: Path) -> dict[str, Any]:
    """With what an object was built; empty when its manifest does not say, is damaged or gone.

    Raises:
        StorageError: it may not be read.
    """
    try:
        return sealed.read_manifest(folder, folder.name)["about"].get("stamp", {})
    except (FileNotFoundError, sealed.Damaged):
        return {}


def summary(folder: Path) -> Summary | None:
    """One line about an object; None when its manifest is damaged or gone.

    Raises:
        StorageError: it may not be read.
    """
    try:
        manifest = sealed.read_manifest(folder, folder.name)
        created = (folder / sealed.MANIFEST).stat().st_mtime
    except (FileNotFoundError, sealed.Damaged):
        return None
    said, plain = manifest["about"]["recipe"], recipe(folder)
    name, made = (said, said) if plain is None else (in_words(plain), made_in_words(plain))
    return Summary(folder.name, name, made, said, atomic.size(folder), created)


def recipe(folder: Path) -> dict[str, Any] | None:
    """An object's recipe as a file holds it; None when it is damaged or gone.

    Raises:
        StorageError: it may not be read.
    """
    try:
        files, _ = sealed.read_folder(folder, folder.name, (RECIPE,))
    except (FileNotFoundError, sealed.Damaged):
        return None
    return json.loads(files[RECIPE])


def problems(folder: Path) -> Iterator[tuple[Path, str]]:
    """The object's folder with what is wrong, if anything is; nothing is changed.

    Raises:
        StorageError: it may not be read.
    """
    if (wrong := sealed.wrong(functools.partial(sealed.read_folder, folder, folder.name, FILES))) is not None:
        yield folder, wrong


def _sound(folder: Path, aside: Path, tell: Tell) -> tuple[dict[str, bytes], dict[str, Any]] | None:
    """The checked files of an object and what was said of it; a damaged one is moved aside."""
    try:
        return sealed.read_folder(folder, folder.name, FILES)
    except FileNotFoundError:
        return None
    except sealed.Damaged:
        pass
    # Looked at again under a lock: another process may have moved it aside and built a sound one since.
    with locks.hold(aside.parent / "locks" / f".{aside.name}.lock", str(aside), wait=True):
        try:
            return sealed.read_folder(folder, folder.name, FILES)
        except FileNotFoundError:
            return None
        except sealed.Damaged as damage:
            to = aside / f"{folder.name}-{secrets.token_hex(4)}"
            atomic.move(folder, to)
            tell(f"the stored weights {folder.name} are damaged ({damage}); they were moved to {to} and will be built again.")
            return None
