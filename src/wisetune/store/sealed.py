"""Bytes that know whether they are still what was written: JSON with a checksum inside, and folders with a sealed manifest.

    seal(value) / unseal(bytes)                       one JSON file
    write_folder(final, ...) / read_folder(folder)    several files and a manifest.json with the sha256 of each

One changed bit anywhere in a sealed file, the manifest included, is noticed.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wisetune.files import atomic

MANIFEST = "manifest.json"
_BROKEN = {errno.EISDIR, errno.ENOTDIR, errno.EIO}
"""Reasons not to read a file that mean that the file, not the reader's rights or the process, is at fault."""


class Damaged(Exception):
    """What lies on the disk is not what was written. Never leaves the store."""


def encode(value: Any) -> bytes:
    """One line of JSON that reads back as the same value.

    Raises:
        TypeError: JSON would read it back as something else (a key that is not text) or cannot hold it.
    """
    _check_keys(value)
    return (json.dumps(value) + "\n").encode("ascii")


def seal(value: dict[str, Any]) -> bytes:
    """One line of JSON with the checksum of itself."""
    return encode({**value, "sha256": hashlib.sha256(encode(value)).hexdigest()})


def unseal(data: bytes) -> dict[str, Any]:
    """The inverse of ``seal``.

    Raises:
        Damaged: not what ``seal`` made.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Damaged("it is not JSON") from None
    if not isinstance(value, dict):
        raise Damaged("it is not a JSON object")
    value.pop("sha256", None)
    # Comparing the bytes, not only the checksum, also finds a flip that reads as the same JSON.
    if seal(value) != data:
        raise Damaged("its checksum does not match")
    return value


def write_folder(final: Path, name: str, files: dict[str, bytes], about: dict[str, Any]) -> bool:
    """Write a folder as a whole. False when there is something at ``final`` already, which then stays as it is.

    The manifest holds nothing that depends on the time or the machine: equal arguments give equal bytes.

    Raises:
        StorageError: it could not be written.
    """
    listed = {file: _fingerprint(data) for file, data in files.items()}
    manifest = seal({"name": name, "about": about, "files": listed})
    with atomic.tmp_folder(final.parent) as tmp:
        for file, data in {**files, MANIFEST: manifest}.items():
            with atomic.refusing(final / file, need=len(data)):
                atomic.write_synced(tmp / file, data)
        return atomic.commit_folder(tmp, final)


def read_manifest(folder: Path, name: str) -> dict[str, Any]:
    """The manifest of a folder: ``name``, ``about`` and ``files``.

    Raises:
        FileNotFoundError: there is no such folder.
        Damaged: there is, without a sound manifest of that name.
        StorageError: it may not be read.
    """
    manifest = unseal(_member(folder, MANIFEST))
    if manifest.get("name") != name:
        raise Damaged(f"it holds '{manifest.get('name')}'")
    return manifest


def read_folder(folder: Path, name: str, wanted: tuple[str, ...]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The wanted files of a folder and what was said about them, every byte checked.

    Raises:
        FileNotFoundError: there is no such folder.
        Damaged: there is, and it is not as it was written.
        StorageError: it may not be read.
    """
    manifest = read_manifest(folder, name)
    files = {file: _member(folder, file) for file in wanted}
    for file, data in files.items():
        if manifest["files"].get(file) != _fingerprint(data):
            raise Damaged(f"{file} does not match its checksum")
    return files, manifest["about"]


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        FileNotFoundError: there is no such file.
        Damaged: there is something that cannot be read as a file.
        StorageError: it may not be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _BROKEN:
            raise Damaged(f"{path.name} cannot be read: {error.strerror}") from None
        with atomic.refusing(path, "read"):
            raise


def wrong(read: Callable[[], object]) -> str | None:
    """What is wrong with what ``read`` reads; None when it is sound, or gone (another process may remove it at any time).

    Raises:
        StorageError: it may not be read.
    """
    try:
        read()
    except FileNotFoundError:
        return None
    except Damaged as damage:
        return str(damage)
    return None


def _fingerprint(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _member(folder: Path, file: str) -> bytes:
    try:
        return read_file(folder / file)
    except FileNotFoundError:
        if not folder.is_dir():
            raise
        raise Damaged(f"{file} is missing") from None


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text, and JSON would read it back as text")
            _check_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_keys(item)
