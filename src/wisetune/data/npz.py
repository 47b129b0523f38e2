"""``npz:FILE``: a whole data set in one archive.

Arrays: ``points`` [n, p, 3 or more], ``labels`` [n] (rows of ``class_names`` [c]), and if they are there ``is_test`` [n], ``object_id`` [n]
(scans of one object are never parted) and ``ids`` [n]. Arrays of Python objects are refused.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Shaped

from wisetune.data.files import FileTask, Item, Opened
from wisetune.data.formats import Budget, Cloud, Shape, contents, guarded, npy
from wisetune.data.formats.base import MalformedError, sound, whole
from wisetune.data.splits import Part
from wisetune.errors import BadFile
from wisetune.spec import option

_OPTIONAL = ("is_test", "object_id", "ids")
_Arrays = dict[str, Shaped[np.ndarray, "..."]]


@dataclasses.dataclass(frozen=True)
class Npz(FileTask):
    """An archive of arrays.

    ``labels`` and ``classes`` name other arrays than ``labels`` and ``class_names``; ``resplit`` passes over ``is_test``.
    """

    name: ClassVar[str] = "npz"
    labels: str = option("labels", means="the array with the labels, which are rows of the class names")
    classes: str = option("class_names", means="the array with the class names")
    resplit: bool = option(False, means="draw the test part anew, whatever is_test says")

    def open(self) -> Opened:
        """One item a cloud, named by ``ids`` if those differ, else by its row.

        Raises:
            BadFile: the file cannot be read, or an array is missing or does not fit the others.
        """
        path, budget = Path(self.path).expanduser(), Budget()
        data = contents(path, budget)
        with guarded(path):
            there = npy.members(data, budget)
            optional = tuple(name for name in _OPTIONAL if name in there and not (name == "is_test" and self.resplit))
            held = npy.arrays(data, ("points", self.labels, self.classes, *optional), budget)
            items, points = self._items(held), held["points"]
        rows = {item.name: row for row, item in enumerate(items)}
        return Opened(tuple(sorted(items, key=lambda item: item.name)), lambda item: self._shape(item.name, points[rows[item.name]]))

    def _items(self, held: _Arrays) -> list[Item]:
        points, classes = held["points"], held[self.classes].astype("U").tolist()
        if points.ndim != 3 or points.shape[2] < 3 or points.dtype.kind not in "fiu":
            raise MalformedError(
                f"its points are {points.dtype} {list(points.shape)}; they must be numbers [n, p, 3 or more]", "save float32"
            )
        if held[self.classes].ndim != 1 or held[self.classes].dtype.kind not in "US" or len(set(classes)) < len(classes):
            raise MalformedError(f"its '{self.classes}' must be a list of different names", "save it as an array of strings")
        for name in (self.labels, *(name for name in _OPTIONAL if name in held)):
            if held[name].shape != points.shape[:1]:
                wrong = f"its '{name}' has shape {list(held[name].shape)}, but there are {len(points):,} clouds"
                raise MalformedError(wrong, "save one value a cloud")
        labels = whole(held[self.labels], f"'{self.labels}'")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            wrong = f"its '{self.labels}' run from {labels.min()} to {labels.max()}, but there are {len(classes)} class names"
            raise MalformedError(wrong, "labels are rows of the class names, from 0")
        given: list[Part] = [None] * len(labels)
        if "is_test" in held:
            given = ["test" if value else "train" for value in held["is_test"].tolist()]
        width = len(str(len(labels)))
        names = held["ids"].astype("U").tolist() if "ids" in held else []
        if len(set(names)) < len(labels):
            names = [f"{row:0{width}d}" for row in range(len(labels))]
        groups = [f"object {group}" for group in held["object_id"].tolist()] if "object_id" in held else names
        rows = zip(names, labels.tolist(), given, groups, strict=True)
        return [Item(name, classes[label], part, group) for name, label, part, group in rows]

    def _shape(self, name: str, points: Shaped[np.ndarray, "p c"]) -> Shape:
        try:
            return sound(Cloud(points[:, :3].astype(np.float64)), self.nonfinite)
        except MalformedError as error:
            raise BadFile(f"{self.path}, cloud {name}", error.wrong, error.do, error.kind) from None
