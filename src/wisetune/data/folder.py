"""``folder:DIR``: one sub-folder a class, with scans or meshes in it.

Three layouts are known: ``DIR/chair/a.ply``; ``DIR/train/chair/a.ply`` with ``val`` and ``test`` beside ``train``; and ModelNet's
``DIR/chair/train/a.off``. Class folders are searched to any depth. Hidden files and ``__MACOSX`` are passed over.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from wisetune.data.files import PARTS, FileTask, Item, Opened
from wisetune.data.formats import read, read_suffixes
from wisetune.data.splits import Part, parted
from wisetune.data.task import Data
from wisetune.errors import DataError, counted
from wisetune.spec import option

_PARTS: dict[str, Part] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_LAYOUT = "Lay it out as DIR/class/file, or DIR/train/class/file with val/ and test/ beside train/."


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds: items sorted by name, files that are no data, and class folders without any data."""

    items: tuple[Item, ...]
    ignored: tuple[str, ...]
    empty: tuple[str, ...]
    nested: bool


@dataclasses.dataclass(frozen=True)
class Folder(FileTask):
    """A folder of files.

    ``group=folder`` says that the sub-folders of a class folder are objects, of which each file is a scan: an object is never parted.
    """

    name: ClassVar[str] = "folder"
    group: Literal["file", "folder"] = option(
        "file", means="never parted between train, val and test: one file, or all in one sub-folder of a class"
    )

    def listing(self) -> Listing:
        """Everything in the folder, unread.

        Raises:
            DataError: the folder is not there, or not laid out as it should be.
        """
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise DataError(f"there is no folder '{self.path}'. Name a folder with one sub-folder a class.")
        items: list[Item] = []
        ignored = [entry.name for entry in visible(root) if not entry.is_dir()]
        empty: list[str] = []
        nested = False
        for folder, label, part in _class_folders(root):
            found = list(files_below(folder))
            data = [path for path in found if path.suffix.lower() in read_suffixes()]
            ignored += [path.relative_to(root).as_posix() for path in found if path.suffix.lower() not in read_suffixes()]
            if not data:
                empty.append(folder.relative_to(root).as_posix())
            for path in data:
                name = path.relative_to(root).as_posix()
                inner = path.parent.relative_to(root).as_posix() if path.parent != folder else ""
                nested |= bool(inner)
                items.append(Item(name, label, part, inner if inner and self.group == "folder" else name, inner))
        return Listing(tuple(sorted(items, key=lambda item: item.name)), tuple(sorted(ignored)), tuple(sorted(empty)), nested)

    def open(self) -> Opened:
        """All files of known kinds; a class folder without any is refused, because a class would go missing without a word.

        Raises:
            DataError: as ``listing``, or an empty class folder where ``skip_bad`` is not set.
        """
        return self.opened(self.listing())

    def opened(self, listing: Listing) -> Opened:
        """As ``open``, of what is listed already: a folder may be large, and change between two walks."""
        root = Path(self.path).expanduser()
        if listing.empty and not self.skip_bad:
            raise DataError(
                f"{self.path}: no files that can be read in {', '.join(listing.empty[:10])}. Remove such a folder, add files "
                f"({' '.join(read_suffixes())}), or set skip-bad=true. {self.see_all}"
            )
        return Opened(listing.items, lambda item: read(root / item.name, nonfinite=self.nonfinite))

    def load(self, points: int) -> Data:
        """As every task from files; the protocol's ``warnings`` say which files were passed over, and where scans of one object may be parted."""
        listing = self.listing()
        data = self.loaded(self.opened(listing), points)
        warnings: list[str] = [*data.protocol.get("warnings", ())]
        if listing.ignored:
            shown = ", ".join(listing.ignored[:3]) + (" ..." if len(listing.ignored) > 3 else "")
            warnings.append(f"{data.name}: {counted(len(listing.ignored), 'file', 'was', 'were')} passed over, of no known kind ({shown}).")
        if folders := self._parted(listing, data):
            shown = ", ".join(folders[:3]) + (" ..." if len(folders) > 3 else "")
            warnings.append(
                f"{data.name}: inside class folders {counted(len(folders), 'folder', 'has', 'have')} files in more than one of train, val and test "
                f"({shown}). If the files of such a folder are scans of one object, models are judged on objects that they were trained on, and the "
                "numbers are too good: set group=folder, as in folder:DIR,group=folder."
            )
        return dataclasses.replace(data, protocol={**data.protocol, "warnings": warnings}) if warnings else data

    def _parted(self, listing: Listing, data: Data) -> list[str]:
        """Folders inside class folders whose files are in more than one part."""
        if self.group == "folder":
            return []
        folder_of = {item.name: item.folder or item.name for item in listing.items}
        return list(parted((folder_of[name], part) for part in PARTS for name in data.split(part).names))


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"folder '{folder}' cannot be listed: {error.strerror}. Check its permissions.") from None
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in visible(folder) if entry.is_dir()]


def _class_folders(root: Path) -> list[tuple[Path, str, Part]]:
    """Folder, class name and given part of each."""
    tops = _folders(root)
    if not tops:
        raise DataError(f"'{root}' has no sub-folders; each class needs one. {_LAYOUT}")
    parts = [_PARTS.get(top.name.lower()) for top in tops]
    if all(parts):
        if "train" not in parts:
            raise DataError(f"'{root}' has {', '.join(top.name for top in tops)} but no train. {_LAYOUT}")
        return [(folder, folder.name, part) for top, part in zip(tops, parts, strict=True) for folder in _classes(top)]
    mixed = [top for top, part in zip(tops, parts, strict=True) if part and _folders(top)]
    if mixed:
        other = next(top.name for top, part in zip(tops, parts, strict=True) if not part)
        raise DataError(f"'{root}' has '{mixed[0].name}' with folders in it beside '{other}': is it a part or a class? {_LAYOUT}")
    inner = {top: _folders(top) for top in tops}
    if all(folders and all(folder.name.lower() in _PARTS for folder in folders) for folders in inner.values()):
        return [(folder, top.name, _PARTS[folder.name.lower()]) for top, folders in inner.items() for folder in folders]
    return [(top, top.name, None) for top in tops]


def _classes(top: Path) -> list[Path]:
    folders = _folders(top)
    if not folders:
        raise DataError(f"'{top}' has no sub-folders; each class needs one. {_LAYOUT}")
    return folders


def files_below(folder: Path) -> Iterator[Path]:
    """All visible files below, links to folders not followed (they may run in circles).

    Raises:
        DataError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"folder '{error.filename}' cannot be listed: {error.strerror}. Check its permissions.")

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name)
