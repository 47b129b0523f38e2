"""All tasks by name, and their spellings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wisetune.catalog import Catalog
from wisetune.data.folder import Folder
from wisetune.data.formats import read_suffixes
from wisetune.data.npz import Npz
from wisetune.data.task import Task
from wisetune.errors import DataError, UsageError
from wisetune.spelling import quote

MACHINERY = (
    *("check", "classmap", "files", "findings", "formats", "scanner", "simulate"),
    *("splits", "task", "tasks", "unlabelled", "warn", "write"),
)
TASKS = Catalog("task", "wisetune.data", Task, machinery=MACHINERY)


def parse_task(text: str | Path, **otherwise: Any) -> Task:
    """A spec such as ``folder:scans,seed=3``, or just the path of a folder or an .npz file, with or without options after it.

    ``otherwise`` are options of which the text says nothing; a task that does not have them passes them over.

    Raises:
        DataError: neither a task nor a path that is there.
        UsageError: no text, an option that does not exist or fit, or a file that is no data set.
    """
    if not isinstance(text, (str, Path)):
        raise UsageError(f"a task is spelled, such as 'folder:scans' or 'scans.npz', but {type(text).__name__} was given.")
    text = str(text).strip()
    if path := _path_of(text):
        options = quote(path) + text[len(path) :]
        if Path(path).expanduser().is_dir():
            return Folder.from_options(options, otherwise=otherwise)
        if path.lower().endswith(".npz"):
            return Npz.from_options(options, otherwise=otherwise)
        if Path(path).suffix.lower() in read_suffixes():
            raise UsageError(f"'{path}' is a single cloud. Give the folder of all, with one sub-folder a class (DIR/class/file).")
        raise UsageError(
            f"'{path}' holds no data set. Give a folder of clouds, with one sub-folder a class, or an .npz of a whole data set."
        )
    name, _, value = text.partition(":")
    if ":" not in text and name not in TASKS.names():
        raise DataError(
            f"'{text}' is neither a path that is there nor a task. Tasks: {', '.join(TASKS.names())}; for example folder:scans."
        )
    try:
        return TASKS.parse(text, otherwise)
    except UsageError as error:
        if "," not in (path := _path_of(value)):
            raise
        raise UsageError(
            f"{error} Options begin at a comma, and the path '{path}' has one: give it without {name}:, or in brackets: {name}:{quote(path)}."
        ) from None


def _path_of(text: str) -> str:
    """The longest beginning of a text, up to a comma or its end, that is a path that is there; empty where none is."""
    parts = text.split(",")
    paths = (",".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((path for path in paths if path and Path(path).expanduser().exists()), "")
