"""The store: a folder that holds what was built, under the digests of the recipes.

    store.json                                        the format
    objects/<digest>/weights.safetensors, recipe.json, log.jsonl, manifest.json
    states/<digest>/<number>/                         a training in progress: the newest state and the one before
    records/<digest>/<key>.json                       what was measured
    locks/<name>.lock                                 who works on what
    quarantine/                                       objects that were found damaged

Nothing but the locks and the stamps (with which versions, on which device: in manifests and records) depends on the time or the machine:
equal weights, logs, records and stamps give an equal folder, byte for byte.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wisetune.errors import Busy, StorageError, UsageError
from wisetune.files import atomic
from wisetune.recipe import Recipe
from wisetune.recipe import digest as digest_of_recipe
from wisetune.store import locks, measured, objects, states
from wisetune.store.locks import Tell
from wisetune.store.measured import Records
from wisetune.store.objects import Log, Stored, Summary
from wisetune.store.root import open_root

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KINDS = {"objects": objects.problems, "states": states.problems, "records": measured.problems}
_warn = logging.getLogger(__name__).warning


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing in the store that is not as it was written."""

    path: Path
    wrong: str


@dataclasses.dataclass(frozen=True)
class Left:
    """What there is of some weights: those that are ``done``, and of trainings that are ``begun`` how many epochs."""

    done: frozenset[str]
    begun: dict[str, int]


class Store:
    """The store at ``root``, made if it is missing or empty and ``create`` is set; what killed processes left in it is removed.

    ``tell`` is called with one line whenever something was found damaged and will be built again; it logs a warning by default.

    Raises:
        UsageError: the folder is something else, a store of a newer format, or missing without ``create``.
        BadFile: the file that says the format is damaged.
        StorageError: it cannot be written.
    """

    def __init__(self, root: Path, *, create: bool = True, tell: Tell = _warn) -> None:
        self.root, self.tell = Path(root), tell
        open_root(self.root, create)
        for unfinished in self._named("states"):
            # Killed after the commit and before the state was dropped. A store that may only be read is still one to read.
            if self.has(unfinished.name):
                with suppress(StorageError):
                    atomic.discard(unfinished)

    def has(self, digest: str) -> bool:
        """Whether there is an object of this digest; whether it is sound shows only when it is loaded."""
        return objects.has(self._path("objects", digest))

    def commit(
        self, recipe: Recipe, tensors: dict[str, Tensor], log: Log, extra: dict[str, Any], stamp: dict[str, Any] | None = None
    ) -> bool:
        """Add the object of a recipe and drop the state of its training. False when it was there already, and stays as it was.

        ``stamp`` says with what it was built; it is kept beside the object and is no part of what the digest names.

        Raises:
            StorageError: it could not be written; what was there before still is.
            TypeError: ``log``, ``extra`` or ``stamp`` is not plain JSON.
        """
        digest = digest_of_recipe(recipe)
        ours = objects.commit(self._path("objects", digest), self._aside, recipe, Stored(tensors, log, extra, stamp or {}), self.tell)
        self.drop_state(digest)
        return ours

    def load(self, digest: str) -> Stored | None:
        """An object, every byte checked; None when it is missing. A damaged one is moved to quarantine/, and so is missing.

        Raises:
            StorageError: it may not be read, or a damaged one not be moved.
        """
        return objects.load(self._path("objects", digest), self._aside, self.tell)

    def save_state(self, digest: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Save how far a training is. The one saved before stays as well, in case this one is damaged later.

        Raises:
            StorageError: it could not be written; the earlier ones are still there.
            TypeError: ``meta`` is not plain JSON.
        """
        states.save(self._path("states", digest), tensors, meta)

    def load_state(self, digest: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest sound state of a training, bit for bit as it was saved; None when there is none.

        Raises:
            StorageError: it may not be read, or a damaged one not be removed.
        """
        return states.load(self._path("states", digest), self.tell)

    def left(self, digests: Iterable[str]) -> Left:
        """What earlier sessions left of these; no weights are read.

        Raises:
            StorageError: it may not be looked for.
        """
        wanted = dict.fromkeys(digests)
        done = frozenset(filter(self.has, wanted))
        states_of = {digest: states.meta(self._path("states", digest)) for digest in wanted if digest not in done}
        return Left(done, {digest: int(meta["epoch"]) for digest, meta in states_of.items() if meta is not None})

    def drop_state(self, digest: str) -> None:
        """Forget how far a training was, so that it starts over.

        Raises:
            StorageError: it could not be removed.
        """
        atomic.discard(self._path("states", digest))

    def put_records(self, digest: str, key: str, records: Records, stamp: dict[str, Any] | None = None) -> None:
        """Keep what was measured of the weights ``digest``; ``key`` names how and on which data. Replaces what was there.

        ``stamp`` says with what it was measured.

        Raises:
            StorageError: it could not be written; what was there still is.
            TypeError: a record could not be read back; the message names its measure and what of it.
        """
        measured.put(self._records(digest, key), records, stamp or {})

    def get_records(self, digest: str, key: str) -> Records | None:
        """What was measured; None when it was not, or when the file is damaged.

        Raises:
            StorageError: it may not be read.
        """
        return measured.get(self._records(digest, key), self.tell)

    def stamp(self, digest: str, key: str | None = None) -> dict[str, Any]:
        """With what an object was built, or with ``key`` its records measured; empty where that is not known.

        Raises:
            StorageError: it may not be read.
        """
        return objects.stamp(self._path("objects", digest)) if key is None else measured.stamp(self._records(digest, key))

    def recipe(self, digest: str) -> dict[str, Any] | None:
        """An object's recipe as ``wisetune.recipe.to_json`` made it; None when it is missing or damaged.

        Raises:
            StorageError: it may not be read.
        """
        return objects.recipe(self._path("objects", digest))

    def records_of(self, digest: str) -> Records:
        """Everything that was measured of the weights ``digest``; damaged files are left out (see ``verify``).

        Raises:
            StorageError: one may not be read.
        """
        return measured.every(self._path("records", digest))

    def lock(self, name: str, *, wait: bool = False, tell: Tell | None = None) -> AbstractContextManager[None]:
        """Hold a lock of this store for a ``with`` block. With ``wait``, ``tell`` hears once who has it, and then it is waited for.

        Raises:
            Busy: another process (or thread) has it.
            StorageError: the file system cannot hold it.
        """
        return locks.hold(self._path("locks", name + ".lock"), f"'{name}' in {self.root}", wait, tell)

    def held(self, name: str) -> bool:
        """Whether somebody has a lock of this store now. Where that cannot be seen, nobody is taken to have it."""
        path = self._path("locks", name + ".lock")
        try:
            with locks.hold(path, name) if path.exists() else nullcontext():
                return False
        except Busy:
            return True
        except StorageError:
            return False

    def verify(self) -> Iterator[Problem]:
        """Everything that is not as it was written; nothing is changed.

        Raises:
            StorageError: something may not be read.
        """
        for kind, problems in _KINDS.items():
            for folder in self._named(kind):
                for path, wrong in problems(folder):
                    yield Problem(path, wrong)

    def gc(self, keep: set[str]) -> int:
        """Remove every object, state and record whose digest is not in ``keep``, and the quarantine; returns the bytes freed.

        A digest whose lock (``lock(digest)``) is held by anybody stays.

        Raises:
            StorageError: something could not be removed.
        """
        freed = 0
        for digest in sorted({folder.name for kind in _KINDS for folder in self._named(kind)} - keep):
            with suppress(Busy), self.lock(digest):
                freed += sum(atomic.discard(self._path(kind, digest)) for kind in _KINDS)
        return freed + atomic.discard(self._aside)

    def list(self) -> tuple[Summary, ...]:
        """All objects, oldest first. Those with a damaged manifest are left out (see ``verify``).

        Raises:
            StorageError: one may not be read.
        """
        found = filter(None, map(objects.summary, self._named("objects")))
        return tuple(sorted(found, key=lambda summary: (summary.created, summary.digest)))

    @property
    def _aside(self) -> Path:
        return self.root / "quarantine"

    def _path(self, kind: str, name: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise UsageError(f"'{name}' cannot name anything in a store: letters, digits, dots, dashes and underscores can.")
        return self.root / kind / name

    def _records(self, digest: str, key: str) -> Path:
        folder = self._path("records", digest)
        return folder / self._path("records", key + ".json").name

    def _named(self, kind: str) -> tuple[Path, ...]:
        return tuple(path for path in sorted((self.root / kind).glob("*")) if _NAME.fullmatch(path.name))
