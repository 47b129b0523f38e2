"""A folder of shapes whose classes do not matter: what pre-training takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from wisetune.data.files import Item
from wisetune.data.folder import Folder, Listing, visible
from wisetune.data.formats import read_suffixes


@dataclasses.dataclass(frozen=True)
class Unlabelled(Folder):
    """As ``folder``, where files may lie in the folder itself, and where one class is enough."""

    name: ClassVar[str] = Folder.name
    fewest_classes: ClassVar[int] = 1

    @classmethod
    def of(cls, folder: Folder) -> Unlabelled:
        """The same folder without its classes."""
        return cls(**{field.name: getattr(folder, field.name) for field in dataclasses.fields(folder)})

    def listing(self) -> Listing:
        """Everything in the folder, unread; of a flat one its files, which are of one class.

        Raises:
            DataError: as of a folder with classes.
        """
        root = Path(self.path).expanduser()
        there = visible(root) if root.is_dir() else []
        files = [entry.name for entry in there if not entry.is_dir()]
        shapes = [name for name in files if Path(name).suffix.lower() in read_suffixes()]
        if not shapes or len(files) < len(there):
            return super().listing()
        items = tuple(Item(name, "shape", None, name) for name in shapes)
        return Listing(items, tuple(sorted(set(files) - set(shapes))), (), nested=False)
