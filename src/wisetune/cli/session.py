"""``OUT/run.json``: which command works in a folder, what it is to leave there and how long it took: ``doctor`` says how far it is."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wisetune.build.watch import NOTHING, Spent
from wisetune.errors import BadFile, part_of
from wisetune.plain import from_plain, to_plain

if TYPE_CHECKING:
    from wisetune.store.store import Store

_FILE = "run.json"
_BACKBONE = "backbone.safetensors"
LOCKS = ("run", "pretrain")
"""Of which a working command holds one."""


@dataclasses.dataclass(frozen=True)
class Session:
    """A command and what it builds: ``models`` are digests; ``trainings`` are the epochs of those that it runs.

    A pre-training has one of those, and no models. ``spent`` is the time of all calls that built these models. ``names`` are what tables call
    models, by digest, those of earlier commands in the folder too.
    """

    command: str
    models: list[str] = dataclasses.field(default_factory=list)
    trainings: dict[str, int] = dataclasses.field(default_factory=dict)
    finished: bool = False
    spent: Spent = NOTHING
    names: dict[str, str] = dataclasses.field(default_factory=dict)

    def write(self, out: Path) -> None:
        """Keep it in a folder.

        Raises:
            StorageError: it cannot be written.
        """
        from wisetune.files import write_json

        write_json(out / _FILE, to_plain(self))

    @classmethod
    def read(cls, out: Path) -> Session | None:
        """That of a folder; None where nothing says what was begun there.

        Raises:
            BadFile: the file is damaged.
        """
        try:
            return from_plain(cls, json.loads((out / _FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise BadFile(out / _FILE, f"cannot be read ({error})", "run the run's command again, which writes it anew") from None

    @classmethod
    def read_sound(cls, out: Path) -> Session | None:
        """As ``read``; None too where it is damaged."""
        try:
            return cls.read(out)
        except BadFile:
            return None

    @classmethod
    def why_not(cls, out: Path) -> str:
        """Why a folder has no results and no model, and what to do, in sentences; empty where it is not that of a run."""
        if (out / _BACKBONE).is_file():
            return f"It is that of a pre-training, with a backbone to begin with: wisetune run wise-ft-lp --from {out / _BACKBONE} ..."
        found = cls.read_sound(out)
        if found is None and not (out / "store").is_dir():
            return ""
        begun = (found.command if found else "") or "the command that began it"
        if found and found.finished:
            return f"The run there was finished, and this has been removed since; its command writes it again: {begun}"
        return (
            f"The run there is not finished: it works, or was stopped. wisetune doctor {shlex.quote(str(out))} says which, and how far it is; "
            f"a stopped one goes on with: {begun}"
        )

    def replaces(self, out: Path, verb: Literal["are", "would be"]) -> str:
        """What to tell whoever has finished another command in this folder; empty where nothing is replaced."""
        found = Session.read(out)
        if found is None or not found.finished or set(found.models) <= set(self.models):
            return ""
        return (
            f"The report and the model in {out} {verb} replaced; the models of the command before stay in its store. "
            f"That was: {found.command}"
        )

    def after(self, out: Path) -> Session:
        """This one with what calls before it left in the folder: what they called their models, and the time that the same models took."""
        earlier = Session.read_sound(out)
        if earlier is None:
            return self
        spent = earlier.spent if set(earlier.models) == set(self.models) else NOTHING
        return dataclasses.replace(self, spent=spent, names=earlier.names | self.names)

    def left(self, store: Store) -> str:
        """How far it is, in words; empty when it is done."""
        if self.finished:
            return ""
        left, far = store.left([*self.models, *self.trainings]), list[str]()
        if self.models:
            built = len(left.done.intersection(self.models))
            far.append(f"{part_of(built, len(self.models), 'model', 'is', 'are')} built")
            far += ["what is left is measuring and the report"] if built == len(self.models) else []
        for name, epochs in self.trainings.items():
            if not self.models or name in left.begun:
                done, which = left.begun.get(name, 0), "of a training in progress " if self.models else ""
                far.append(f"{which}{part_of(done, epochs, 'epoch', 'is', 'are')} done")
        said = ", and ".join(far)
        if any(map(store.held, LOCKS)):
            return f"running: {said}"
        return f"half done: {said}. Go on with: {self.command or 'the same command'}"
