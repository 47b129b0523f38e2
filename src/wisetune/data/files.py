"""What ``folder`` and ``npz`` share: their options, and the way from labelled clouds to ``Data``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Float64

from wisetune.data.formats import TOO_FEW, Cloud, Shape, places, points_of
from wisetune.data.splits import Part, assign, at_most_per_class, draw, numbered
from wisetune.data.task import Data, Split, SplitName, Task
from wisetune.errors import BadFile, DataError, UsageError, WisetuneError, counted
from wisetune.points.content import signature
from wisetune.points.normalise import Frame, normalise
from wisetune.runtime import generator
from wisetune.spec import option

_FEWEST = 16
"""A cloud with fewer points than this has no shape to learn."""
_SHOWN = 10
PARTS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Item:
    """One labelled cloud before it is read. ``group`` is what it is a scan of; ``part`` is given by the data set, or None.

    ``folder`` is that of its file inside the folder of its class, empty if it lies there itself.
    """

    name: str
    label: str
    part: Part
    group: str
    folder: str = ""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A data set's items, sorted by name, and how to read one; ``read`` raises a ``WisetuneError`` for a bad one."""

    items: tuple[Item, ...]
    read: Callable[[Item], Shape]


@dataclasses.dataclass(frozen=True)
class FileTask(Task):
    """Options of tasks that are read from files.

    ``per_class`` is the most clouds of each class and given part that are read at all; ``labelled`` the most of each class that are left to
    train on, with val and test as they are: what would be learnt from fewer scans?
    ``nonfinite=drop`` reads a cloud without its points that are not finite, if enough remain; it is refused otherwise.
    """

    name: ClassVar[str] = ""
    fewest_classes: ClassVar[int] = 2
    path: str = option(means="the folder or file to read")
    seed: int = option(0, means="draws the parts, and the points of each cloud")
    val: float = option(0.2, least=0, below=1, means="share of train, by class, held out for validation, unless the data have such a part")
    test: float = option(0.2, least=0, below=1, means="share of all, by class, held out for the test, unless the data have such a part")
    normalise: Frame = option(
        "sphere", means="sphere: centred, the farthest point at 1; centre: centred, units kept; none: as in the files"
    )
    up: Literal["z", "y", "x"] = option("z", means="the axis that points up in the files; clouds are turned until it is z")
    skip_bad: bool = option(False, means="leave out files that cannot be read, and say so, instead of refusing all")
    per_class: int | None = option(
        None, least=1, means="read at most so many clouds of each class and given part, drawn by seed; none: all"
    )
    labelled: int | None = option(
        None, least=1, means="train on at most so many clouds of each class, with validation and test whole; none: all"
    )
    nonfinite: Literal["refuse", "drop"] = option(
        "refuse", absent="refuse", means="of points that are not finite: refuse their cloud, or drop them"
    )

    def open(self) -> Opened:
        """All items, before ``per_class`` and before any cloud is looked at.

        Raises:
            DataError: the folder or file is not laid out as it should be.
        """
        raise NotImplementedError(f"{type(self).__name__} must define open")

    @property
    def see_all(self) -> str:
        """How to see all that is wrong, for an error that names what it met first."""
        return f"All that is wrong at once: wisetune data check {shlex.quote(str(self))}"

    def chosen(self, items: Sequence[Item]) -> list[Item]:
        """At most ``per_class`` of each class and given part, drawn by seed, in their order."""
        if self.per_class is None:
            return list(items)
        kinds, names = [(item.label, item.part) for item in items], [item.name for item in items]
        return [items[at] for at in draw(kinds, names, self.per_class, self.seed, "per-class")]

    def split(self, items: Sequence[Item]) -> list[SplitName]:
        """The part of each item."""
        _, labels = numbered([item.label for item in items])
        names, groups, given = zip(*[(item.name, item.group, item.part) for item in items], strict=True) if items else ((), (), ())
        return assign(labels, names, groups, given, self.val, self.test, self.seed)

    def frame(self, shape: Shape, points: int, name: str) -> Float32[np.ndarray, "{points} 3"]:
        """One shape as the cloud that is trained on: drawn by seed and name, turned so that its up axis is z, normalised."""
        return self.placed(self.drawn(shape, points, name))

    def drawn(self, shape: Shape, points: int, name: str) -> Float64[np.ndarray, "{points} 3"]:
        """The points of that cloud where they are in the file."""
        return points_of(shape, points, generator(self.seed, "sample", name))

    def placed(self, points: Float64[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        """Points as they are in a file, turned and normalised."""
        return normalise(_turned(points, self.up), self.normalise)

    def look(self, opened: Opened, item: Item) -> Shape | WisetuneError:
        """One item's shape, or what is wrong with it."""
        try:
            shape = opened.read(item)
        except WisetuneError as error:
            return error
        return too_few(shape, item.name, "remove it, or export it again") or shape

    def looked(self, opened: Opened) -> Iterator[tuple[Item, Shape | WisetuneError]]:
        """The chosen items, each with its shape or with what is wrong with it."""
        for item in self.chosen(opened.items):
            yield item, self.look(opened, item)

    def load(self, points: int) -> Data:
        """Read, draw ``points`` points of each, normalise and split.

        Raises:
            DataError: the layout, a class or a file is not as it should be; all are counted, and up to ten files named.
            UsageError: fewer than one point asked for.
        """
        return self.loaded(self.open(), points)

    def loaded(self, opened: Opened, points: int) -> Data:
        """As ``load``, of a data set that is open already."""
        if points < 1:
            raise UsageError(f"clouds of {points} points were asked for; ask for at least 1.")
        kept: list[Item] = []
        clouds: list[Float32[np.ndarray, "p 3"]] = []
        marks: list[Float64[np.ndarray, " s"]] = []
        bad: list[WisetuneError] = []
        skipped: list[str] = []
        repeated = gone = 0
        for item, shape in self.looked(opened):
            if isinstance(shape, WisetuneError):
                bad.append(shape)
                # By name: a report says nothing of the machine that it was made on.
                skipped.append(f"{item.name}: {shape.wrong if isinstance(shape, BadFile) else shape}")
            elif self.skip_bad or not bad:
                kept.append(item)
                clouds.append(self.frame(shape, points, item.name))
                marks.append(signature(places(shape)))
                repeated += isinstance(shape, Cloud) and len(shape.points) < points
                gone += shape.nonfinite
        if bad and not self.skip_bad:
            _refuse(bad, self.see_all)
        protocol = {"points": points, "repeated": repeated, "skipped": skipped, "nonfinite": self.nonfinite, "nonfinite_points": gone}
        return self._data(kept, clouds, marks, protocol)

    def _data(
        self,
        items: list[Item],
        clouds: list[Float32[np.ndarray, "p 3"]],
        marks: list[Float64[np.ndarray, " s"]],
        protocol: dict[str, Any],
    ) -> Data:
        classes, labels = numbered([item.label for item in items])
        if len(classes) < self.fewest_classes:
            there = f"only the class '{classes[0]}'" if classes else "no class"
            raise DataError(f"{self.path} has {there} with files that can be read; classifying needs two or more. {self.see_all}")
        parts = self.split(items)
        untaught = sorted(set(classes) - {item.label for item, part in zip(items, parts, strict=True) if part == "train"})
        if untaught:
            raise DataError(
                f"{self.path}: {counted(len(untaught), 'class', 'has', 'have')} items in val or test but none in train: "
                f"{', '.join(untaught[:_SHOWN])}. Add some to train, remove the class, or have everything split anew (npz: resplit=true). "
                f"{self.see_all}"
            )
        groups = tuple(item.group for item in items)
        known = groups if len(set(groups)) < len(groups) else None
        every = Split(np.stack(clouds), labels, tuple(item.name for item in items), known, np.stack(marks))
        splits = {part: every.take(np.flatnonzero(np.array(parts) == part)) for part in PARTS}
        splits["train"] = at_most_per_class(splits["train"], self.labelled, self.seed)
        given = {item.part for item in items}
        protocol |= {
            "task": self.name,
            "normalise": self.normalise,
            "up": self.up,
            "seed": self.seed,
            "val": "given" if "val" in given else f"{self.val} of train, by class",
            "test": "given" if "test" in given else f"{self.test} of all, by class",
            "groups": len(set(groups)),
            "per_class": self.per_class,
            "labelled": self.labelled,
            "counts": {part: np.bincount(splits[part].labels, minlength=len(classes)).tolist() for part in PARTS},
        }
        name = f"{self.name}:{Path(self.path).name}"
        if gone := protocol["nonfinite_points"]:
            protocol["warnings"] = [
                f"{name}: {counted(gone, 'point', 'was', 'were')} dropped that {'is' if gone == 1 else 'are'} not finite (nonfinite=drop)."
            ]
        return Data(name, classes, splits["train"], splits["val"], splits["test"], protocol)


def too_few(shape: Shape, name: str, to_do: str) -> BadFile | None:
    """What is wrong with a cloud of too few points to have a shape, in training as in prediction; None if it has enough."""
    if isinstance(shape, Cloud) and len(shape.points) < _FEWEST:
        beside = f" beside {shape.nonfinite:,} that {'is' if shape.nonfinite == 1 else 'are'} not finite" if shape.nonfinite else ""
        return BadFile(name, f"holds {counted(len(shape.points), 'point')}{beside}; a shape needs at least {_FEWEST}", to_do, TOO_FEW)
    return None


def _refuse(bad: list[WisetuneError], see_all: str) -> None:
    if len(bad) == 1:
        raise bad[0]
    lines = "\n  ".join(map(str, bad[:_SHOWN]))
    more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    raise DataError(f"{len(bad)} files cannot be used:\n  {lines}{more}\nRemove or repair them, or set skip-bad=true. {see_all}")


def _turned(points: Float64[np.ndarray, "n 3"], up: Literal["z", "y", "x"]) -> Float64[np.ndarray, "n 3"]:
    """Turn by a quarter so that ``up`` becomes z."""
    x, y, z = points.T
    return np.stack({"z": (x, y, z), "y": (x, -z, y), "x": (-z, y, x)}[up], axis=1)
