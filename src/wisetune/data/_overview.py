"""What a data set holds, in numbers, and findings in as few lines as say them. Used by ``check``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wisetune.data._facts import Facts
from wisetune.data.task import SplitName
from wisetune.errors import counted

_MOST_CLASSES = 40


@dataclasses.dataclass(frozen=True)
class Spread:
    """Least, middle and largest of some numbers."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread | None:
        """None of none."""
        return cls(float(min(numbers)), float(np.median(numbers)), float(max(numbers))) if numbers else None

    def __str__(self) -> str:
        return ", ".join(f"{word} {_number(value)}" for word, value in (("min", self.least), ("median", self.median), ("max", self.most)))


@dataclasses.dataclass(frozen=True)
class Overview:
    """What was read: ``kinds`` counts all clouds by the suffix of their files, ``parts`` those that the task takes, all else those that can be read.

    ``points`` are those of clouds, ``vertices`` those of meshes; ``extent`` is the diagonal of the box, in the files' own unit.
    """

    kinds: dict[str, int]
    readable: int
    classes: dict[str, int]
    parts: dict[str, int]
    points: Spread | None
    vertices: Spread | None
    extent: Spread | None

    @classmethod
    def of(cls, kinds: Iterable[str], good: Sequence[Facts], taken: Iterable[SplitName]) -> Overview:
        """From the kind of every file, the facts of those that can be read, and the part of each cloud that the task takes."""
        parts = Counter(taken)
        return cls(
            kinds=dict(sorted(Counter(kinds).items())),
            readable=len(good),
            classes=dict(sorted(Counter(fact.label for fact in good).items())),
            parts={part: parts[part] for part in ("train", "val", "test")},
            points=Spread.of([fact.count for fact in good if fact.is_cloud]),
            vertices=Spread.of([fact.count for fact in good if not fact.is_cloud]),
            extent=Spread.of([fact.diagonal for fact in good]),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """For a person."""
        count = sum(self.kinds.values())
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.kinds.items())
        read = "all can be used" if self.readable == count else f"{self.readable:,} can be used"
        classes = [f"{name} {number:,}" for name, number in self.classes.items()]
        if len(classes) > _MOST_CLASSES:
            classes[_MOST_CLASSES:] = [f"and {len(classes) - _MOST_CLASSES} more"]
        said = {
            "clouds": f"{count:,} ({kinds}); {read}" if count else "none",
            counted(len(self.classes), "class"): ", ".join(classes),
            "parts": ", ".join(f"{part} {number:,}" for part, number in self.parts.items()),
            "points": str(self.points or ""),
            "vertices": f"{self.vertices} (of meshes, which are sampled)" if self.vertices else "",
            "extent": f"{self.extent} (diagonal of the box, in the files' own unit)" if self.extent else "",
        }
        return [f"{word:<11} {text}" for word, text in said.items() if text]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
