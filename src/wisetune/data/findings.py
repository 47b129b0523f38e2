"""What is wrong with clouds by their names, labels, parts and shapes alone, be they files or loaded: see ``check`` and ``warn``."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64

from wisetune.data.classmap import plain
from wisetune.data.files import PARTS
from wisetune.data.splits import parted
from wisetune.data.task import SplitName
from wisetune.errors import counted, first_of
from wisetune.points.content import alike

FEW = 5
"""Classes with fewer items than this are pointed out."""
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong (``error``: loading is refused, or a measure would be false) or suspicious (``warning``).

    ``parts`` are those that it lies across.
    """

    severity: Literal["error", "warning"]
    kind: str
    files: tuple[str, ...]
    message: str
    do: str
    parts: tuple[SplitName, ...] = ()

    def __str__(self) -> str:
        return self.line(self.message, self.files)

    def line(self, message: str, names: Sequence[str]) -> str:
        """The finding in one line, in these words and with these names in place of its own."""
        shown = first_of(names, _SHOWN)
        return f"{self.severity}: {self.kind}: {message}" + (f" [{shown}]" if shown else "") + f" ({self.do})"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """One cloud by its name: its class, what it is a scan of, its part, and the signature by which the same shape is known again."""

    name: str
    label: str
    group: str
    signature: Float64[np.ndarray, " s"]
    part: SplitName = "train"


def twins(clouds: Sequence[Known]) -> list[list[Known]]:
    """Groups of two or more that are the same shape."""
    if not clouds:
        return []
    groups = alike(np.stack([cloud.signature for cloud in clouds]))
    return [sorted((clouds[row] for row in group), key=lambda cloud: cloud.name) for group in groups]


def duplicates(good: Sequence[Known]) -> list[Finding]:
    """Clouds that are one shape: with two labels, in two parts, or twice in one."""
    found: list[Finding] = []
    for group in twins(good):
        names = tuple(cloud.name for cloud in group)
        labels, parts = sorted({cloud.label for cloud in group}), tuple(sorted({cloud.part for cloud in group}))
        if len(labels) > 1:
            found.append(Finding("error", "two labels", names, f"the same shape is labelled {' and '.join(labels)}", "keep the right one"))
        if len(parts) > 1:
            message = f"the same shape is in {' and '.join(parts)}: results on it would be remembered, not learned"
            found.append(Finding("error", "leak", names, message, "keep it in one part", parts))
        if len(labels) == len(parts) == 1:
            found.append(Finding("warning", "duplicate", names, "the same shape, perhaps moved, scaled or in another order", "keep one"))
    return found


def scattered(good: Sequence[Known]) -> list[Finding]:
    """Objects whose scans are in more than one part, one finding for those in the same parts."""
    by_parts: dict[tuple[SplitName, ...], set[str]] = defaultdict(set)
    for group, parts in parted((cloud.group, cloud.part) for cloud in good).items():
        by_parts[parts].add(group)
    found: list[Finding] = []
    for parts, objects in sorted(by_parts.items()):
        message = f"{counted(len(objects), 'object', 'has', 'have')} scans in {' and '.join(parts)}: {', '.join(sorted(objects)[:5])}"
        names = tuple(cloud.name for cloud in good if cloud.group in objects)
        found.append(Finding("error", "leak", names, message, "keep each object in one part", parts))
    return found


def class_sizes(good: Sequence[Known], shares: Mapping[str, float]) -> list[Finding]:
    """Classes that are small, missing from a part (that has a share, or anything in it), or perhaps one."""
    found: list[Finding] = []
    counts = Counter(cloud.label for cloud in good)
    variants: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        variants[plain(name)].append(name)
    for names in variants.values():
        if len(names) > 1:
            message = f"class names differ only in case, spaces or dashes: {', '.join(map(repr, names))}"
            found.append(Finding("warning", "class variants", (), message, "put them together if they are one class"))
    small = [f"{name} ({counts[name]})" for name in sorted(counts) if counts[name] < FEW]
    if small:
        found.append(Finding("warning", "small class", (), f"classes with fewer than {FEW} items: {', '.join(small)}", "add items"))
    for part in PARTS:
        there = {cloud.label for cloud in good if cloud.part == part}
        missing = sorted(set(counts) - there)
        if missing and (part == "train" or shares.get(part, 0.0) > 0 or there):
            severity = "error" if part == "train" else "warning"
            message = f"{counted(len(missing), 'class', 'has', 'have')} no items in {part}: {', '.join(missing[:10])}"
            found.append(Finding(severity, "missing class", (), message, "add items, or have everything split anew"))
    return found
