"""What was measured of one set of weights: one sealed file a question."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wisetune.files import atomic
from wisetune.records import Record
from wisetune.store import sealed
from wisetune.store.locks import Tell

Records = list[Record]


def put(path: Path, records: Records, stamp: dict[str, Any]) -> None:
    """Write records, replacing what was there. The folder names the weights, the file the question; ``stamp`` says with what it was measured.

    Raises:
        StorageError: they could not be written; what was there still is.
        TypeError: a record could not be read back: it is not plain JSON, or a value of it is of another type than ``Record`` says.
    """
    value = {"weights": path.parent.name, "key": path.stem, "records": list(map(_plain, records)), "stamp": stamp}
    atomic.write_bytes(path, sealed.seal(value))


def get(path: Path, tell: Tell) -> Records | None:
    """The records; None when there are none or they are damaged.

    Raises:
        StorageError: they may not be read.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except sealed.Damaged as damage:
        tell(f"{path} is damaged ({damage}) and will be measured again.")
        return None


def every(folder: Path) -> Records:
    """All sound records in a folder.

    Raises:
        StorageError: one may not be read.
    """
    found = (get(path, lambda _: None) for path in sorted(folder.glob("*.json")))
    return [record for records in found if records for record in records]


def stamp(path: Path) -> dict[str, Any]:
    """With what records were measured; empty when they do not say, are damaged or gone.

    Raises:
        StorageError: they may not be read.
    """
    try:
        return sealed.unseal(sealed.read_file(path)).get("stamp", {})
    except (FileNotFoundError, sealed.Damaged):
        return {}


def problems(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every damaged file of records in a folder with what is wrong; nothing is changed.

    Raises:
        StorageError: one may not be read.
    """
    for path in sorted(folder.glob("*.json")):
        if (wrong := sealed.wrong(functools.partial(_read, path))) is not None:
            yield path, wrong


def _plain(record: Record) -> dict[str, Any]:
    """Measures come from anywhere: what would not be read back is refused while it is known who made it, and not at every later run."""
    plain = record.to_json()
    try:
        Record.from_json(json.loads(sealed.encode(plain)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"the measure '{record.measure}' made a record '{record.name}' that cannot be kept: {error}") from None
    return plain


def _read(path: Path) -> Records:
    value = sealed.unseal(sealed.read_file(path))
    if (value.get("weights"), value.get("key")) != (path.parent.name, path.stem):
        raise sealed.Damaged("it holds other records than its name says")
    try:
        return [Record.from_json(record) for record in value["records"]]
    except (KeyError, TypeError, ValueError) as error:
        raise sealed.Damaged(f"its records are not of this version: {error}") from None
