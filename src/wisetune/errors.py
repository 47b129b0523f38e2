"""Everything that can go wrong by a user's hand, as one tree.

    WisetuneError                 exit code
    ├── UsageError                2    a spec, option or name that does not exist or does not fit
    ├── DataError                 65   a file or folder that cannot be used as data
    │   └── BadFile               65   one file: which, what is wrong, what to do
    ├── WeightsError              65   a checkpoint that does not fit, or cannot be trusted
    ├── MissingExtra              69   an optional library is not installed
    ├── TrainingError             70   a loss or gradient that is not finite
    ├── StorageError              73   the store or an output file or folder cannot be written, read or moved
    └── Busy                      75   another process holds this run

Each message says what was asked, what is there, and what to do. Exit codes follow BSD sysexits; 130 is ctrl-C,
143 SIGTERM: 128 and the signal's number, as shells have it.
"""

from __future__ import annotations

import contextlib
import contextvars
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

UNREADABLE = "unreadable"
"""The kind of a file that could not be read at all."""


class WisetuneError(Exception):
    """A mistake that the user can mend; the command line prints its message without a traceback."""

    exit_code = 1


class UsageError(WisetuneError):
    """A spec, option or name that does not exist or does not fit."""

    exit_code = 2


class DataError(WisetuneError):
    """Data that cannot be used as asked."""

    exit_code = 65


class BadFile(DataError):
    """One file that cannot be read as what it claims to be, or was read and cannot be used: ``kind`` is a word for which."""

    def __init__(self, path: str | Path, wrong: str, do: str = "", kind: str = UNREADABLE) -> None:
        self.path = str(path)
        self.wrong = wrong
        self.do = do
        self.kind = kind
        super().__init__(f"{self.path}: {wrong}" + (f" ({do})" if do else ""))

    def __reduce__(self) -> tuple[type[BadFile], tuple[str, str, str, str]]:
        return type(self), (self.path, self.wrong, self.do, self.kind)


class WeightsError(WisetuneError):
    """A checkpoint that does not fit the model, or that cannot be trusted."""

    exit_code = 65


class MissingExtra(WisetuneError):
    """An optional library is needed and not installed."""

    exit_code = 69

    @classmethod
    def of(cls, library: str, extra: str, why: str) -> MissingExtra:
        """The standard message: which library, for what, and the command that installs it."""
        return cls(f"{why} needs the library '{library}', which is not installed. Install it with: pip install 'wisetune[{extra}]'")


class TrainingError(WisetuneError):
    """Training met a loss or gradient that is not finite."""

    exit_code = 70


class StorageError(WisetuneError):
    """The disk, or who may use it, refuses: something cannot be written, and in a store read or moved."""

    exit_code = 73


class Busy(WisetuneError):
    """Another process is working on the same thing."""

    exit_code = 75


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Let an error that is met inside begin with what brought it: ``--probe folder:nowhere: there is no folder ...``; nothing with ''."""
    try:
        yield
    except WisetuneError as error:
        if what:
            error.args = (f"{what}: {error}",)
        raise


def counted(n: int, noun: str, one: str = "", several: str = "") -> str:
    """A count with its noun, and with a verb where one is given: ``1 seed``, ``12 classes``; ``1 file is``, ``3 files are``."""
    said = f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"
    return f"{said} {one if n == 1 else several}".rstrip()


def part_of(n: int, total: int, noun: str, one: str, several: str) -> str:
    """So many of all, with a verb: ``1 of 4 epochs was``, ``3 of 4 epochs were``, ``0 of 1 model is``."""
    return f"{n:,} of {counted(total, noun)} {one if 1 in (n, total) else several}"


def first_of(items: Iterable[object], most: int = 4) -> str:
    """The first ``most`` by name and how many more there are: ``a, b, c, d and 2 more``."""
    names = list(map(str, items))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def an(noun: str) -> str:
    """A noun with its article: ``an act``, ``a recon``."""
    return f"{'an' if noun[:1] in 'aeio' else 'a'} {noun}"


def did_you_mean(word: str, among: Iterable[str]) -> str:
    """The sentence that asks whether the nearest of these was meant, with the space before it; nothing where none is near.

    Capitals and underscores make no difference, and what begins with the word is near to it.
    """

    def plain(text: str) -> str:
        return text.casefold().replace("_", "-")

    there = {plain(name): name for name in among}
    meant = plain(word)
    near = difflib.get_close_matches(meant, there, 1) or sorted(
        (name for name in there if name.startswith(meant) and len(meant) > 2), key=len
    )
    return f" Did you mean '{there[near[0]]}'?" if near else ""


_TYPED = contextvars.ContextVar("typed", default=False)


@contextlib.contextmanager
def as_typed() -> Iterator[None]:
    """What is asked for inside was typed on the command line, and messages spell options as they are typed there."""
    token = _TYPED.set(True)
    try:
        yield
    finally:
        _TYPED.reset(token)


def spelled(option: str, value: str = "") -> str:
    """An option as it is given: ``family='recon'`` in Python, ``--family recon`` on the command line; without a value its name alone."""
    if _TYPED.get():
        return f"--{option.replace('_', '-')} {value}".rstrip()
    return f"{option}='{value}'" if value else f"{option}="
