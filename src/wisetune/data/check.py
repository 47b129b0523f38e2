"""Everything that is wrong or suspicious about a data set, found without training; a bad file is a finding, never an exception.

``check`` looks at files. ``warned`` says what of it shows in data that are loaded already, for whoever reads numbers on them.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from wisetune.data._facts import Facts, axes_swapped, facts_of, scale_outliers, twins
from wisetune.data._overview import Overview
from wisetune.data.classmap import plain
from wisetune.data.files import PARTS, FileTask, Item, Opened
from wisetune.data.folder import Folder
from wisetune.data.splits import parted
from wisetune.data.task import Data, Split, SplitName, Task
from wisetune.data.tasks import parse_task
from wisetune.errors import BadFile, DataError, UsageError, WisetuneError
from wisetune.points.content import alike

FEW = 5
"""Classes with fewer items than this are pointed out."""
IMBALANCE = 10
"""So many times more items in the largest class than in the smallest are pointed out."""

REPEATS = 0.1
"""Clouds of whose points a larger share are repeats are pointed out: few scanners measure one place twice, many programs pad."""
_SHOWN = 5
_NUMBER = re.compile(r"\d[\d.,]*")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong (``error``: loading is refused, or a measure would be false) or suspicious (``warning``)."""

    severity: Literal["error", "warning"]
    kind: str
    files: tuple[str, ...]
    message: str
    do: str

    def __str__(self) -> str:
        return self._line(self.message, self.files)

    def _line(self, message: str, names: Sequence[str]) -> str:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        return f"{self.severity}: {self.kind}: {message}" + (f" [{shown}]" if shown else "") + f" ({self.do})"


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a data set holds (None where it could not be opened), and all findings, errors first."""

    overview: Overview | None
    findings: list[Finding]

    def lines(self) -> list[str]:
        """The findings for a person: those that differ in files and numbers only are one line."""
        alike: dict[tuple[str, str, str, str], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            # Elsewhere a number may be part of a class's name.
            message = _NUMBER.sub("#", finding.message) if finding.kind == "unreadable" else finding.message
            alike[finding.severity, finding.kind, finding.do, message].append(finding)
        return [_together(group) for group in alike.values()]


def _together(group: list[Finding]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    what = "files" if all(len(finding.files) == 1 for finding in group) else "times"
    numbers = "" if all(finding.message == first.message for finding in group) else " (these numbers are the first one's)"
    # Files of one finding belong together, as two of one shape do.
    names = [" = ".join(finding.files[:3]) + (" ..." if len(finding.files) > 3 else "") for finding in group]
    return first._line(f"{len(group)} {what}: {first.message}{numbers}", [name for name in names if name])


def check(task: Task | str | Path, points: int = 1024) -> list[Finding]:
    """All findings, errors first; arguments and errors as those of ``survey``."""
    return survey(task, points).findings


def survey(task: Task | str | Path, points: int = 1024) -> Survey:
    """Read everything and say what is there, and what is wrong or suspicious.

    Args:
        task: a folder or an .npz file, or the task that reads one.
        points: how many points a cloud the backbone takes.

    Raises:
        UsageError: no such task or path, or a task that is not read from files.
    """
    if not isinstance(task, Task):
        task = parse_task(str(task))
    if not isinstance(task, FileTask):
        raise UsageError(f"'{task}' is not read from files, so there is nothing to check. Give a folder or an .npz file.")
    found: list[Finding] = []
    overview = None
    try:
        opened = _opened(task, found)
        good, unreadable = _read(task, opened)
        kinds = [
            Path(item.name).suffix.lower() if isinstance(task, Folder) else Path(task.path).suffix for item in task.chosen(opened.items)
        ]
        overview = Overview.of(kinds, good)
        found += (
            unreadable + _points(good, points) + _classes(task, good) + _duplicates(good) + _scale(task, good) + _axes(good) + _groups(good)
        )
    except DataError as error:
        wrong, do = (error.wrong, error.do) if isinstance(error, BadFile) else (str(error), "see docs: data sets")
        found.append(Finding("error", "layout", (), wrong, do))
    return Survey(overview, sorted(found, key=lambda finding: (finding.severity, finding.kind, finding.files)))


def warned(data: Data) -> list[str]:
    """What whoever reads numbers on these data should know, worst first and each kind once; what their task warned of is among it."""
    facts = [fact for part in PARTS for fact in _loaded(data, part, data.split(part))]
    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in (*_duplicates(facts), *_groups(facts), *_class_sizes(facts, {})):
        kinds[finding.kind, "" if finding.kind in ("two labels", "duplicate") else finding.message].append(finding)
    # A test part that training has seen is worse than a val part.
    found = sorted(
        kinds.values(), key=lambda same: (same[0].kind != "leak", "test and train" not in same[0].message, same[0].severity, same[0].kind)
    )
    skipped = [str(text) for text in data.protocol.get("skipped", ())]
    left_out = [f"{data.name}: {len(skipped)} file(s) could not be used and were left out: {_first(skipped, '; ')}."] if skipped else []
    return [*(_summed(data, same) for same in found), *left_out, *map(str, data.protocol.get("warnings", ()))]


def shared(data: Data, other: Data) -> int:
    """How many clouds of ``other`` are in ``data`` too, whatever they are called and in whichever part."""
    ours, theirs = (np.concatenate([part.signatures for part in map(one.split, PARTS) if len(part)]) for one in (data, other))
    groups = alike(np.concatenate([ours, theirs]))
    return sum(sum(row >= len(ours) for row in group) for group in groups if min(group) < len(ours))


def _loaded(data: Data, part: SplitName, split: Split) -> list[Facts]:
    """Loaded clouds as ``check`` knows those of files."""
    groups = split.names if split.groups is None else split.groups
    rows = zip(split.names, split.labels.tolist(), groups, split.points, split.signatures, strict=True)
    return [
        Facts(
            item=Item(name, data.classes[label], part, group),
            is_cloud=True,
            count=len(points),
            dropped=0,
            nonfinite=0,
            repeats=0,
            box=np.ptp(points, axis=0).astype(np.float64),
            signature=mark,
            part=part,
        )
        for name, label, group, points, mark in rows
    ]


def _summed(data: Data, same: list[Finding]) -> str:
    """Findings of one kind in one line, the first of them by name."""
    first = same[0]
    files = f" [{_first(first.files)}]" if first.files else ""
    more = f" and {len(same) - 1} more like it" if len(same) > 1 else ""
    listed = "; wisetune data check lists all" if more and "task" in data.protocol else ""  # it takes files only
    kind = first.kind.upper() if first.kind == "leak" else first.kind
    return f"{data.name}: {kind}: {first.message}{files}{more} ({first.do}{listed})."


def _first(words: Sequence[str], between: str = ", ") -> str:
    return between.join(words[:3]) + (f"{between}and {len(words) - 3} more" if len(words) > 3 else "")


def _opened(task: FileTask, found: list[Finding]) -> Opened:
    if not isinstance(task, Folder):
        return task.open()
    listing = task.listing()
    message, do = "holds no file of a known kind", "add files, remove it, or set skip-bad=true"
    found += [Finding("error", "empty class", (folder,), message, do) for folder in listing.empty]
    if listing.ignored:
        message = f"{len(listing.ignored)} file(s) are of no known kind and are passed over"
        found.append(Finding("warning", "ignored", listing.ignored, message, "nothing, if they are no data"))
    if listing.nested and task.group == "file":
        message = "files lie in sub-folders of class folders; if each is one object, scans of it may end up in train and in test"
        found.append(Finding("warning", "nested", (), message, "set group=folder if a sub-folder is one object"))
    return dataclasses.replace(task, skip_bad=True).open()


def _read(task: FileTask, opened: Opened) -> tuple[list[Facts], list[Finding]]:
    found: list[Finding] = []
    good: list[Facts] = []
    for item, shape in task.looked(opened):
        if isinstance(shape, WisetuneError):
            wrong, do = (shape.wrong, shape.do) if isinstance(shape, BadFile) else (str(shape), "install it")
            found.append(Finding("error", "unreadable", (item.name,), wrong, do))
        else:
            good.append(facts_of(item, shape))
    parts = task.split([fact.item for fact in good])
    return [dataclasses.replace(fact, part=part) for fact, part in zip(good, parts, strict=True)], found


def _points(good: list[Facts], points: int) -> list[Finding]:
    found: list[Finding] = []
    few = [fact for fact in good if fact.is_cloud and fact.count < points]
    if few:
        fewest = min(fact.count for fact in few)
        message = f"{len(few)} cloud(s) have fewer than the {points} points asked for (the fewest {fewest}); points will be repeated"
        found.append(
            Finding("warning", "few points", tuple(fact.name for fact in few), message, "scan more densely or ask for fewer points")
        )
    padded = [fact for fact in good if fact.repeats > REPEATS * fact.count]
    if padded:
        worst = max(padded, key=lambda fact: fact.repeats / fact.count)
        message = (
            f"{len(padded)} cloud(s) hold the same points again: of {worst.name} {worst.repeats:,} of {worst.count:,} points are repeats"
        )
        do = "if they were padded to one number of points, export them as they were: repeats weigh as points"
        found.append(Finding("warning", "repeats", tuple(fact.name for fact in padded), message, do))
    broken = [fact for fact in good if fact.nonfinite]
    if broken:
        message = f"{sum(fact.nonfinite for fact in broken):,} points of {len(broken)} file(s) are not finite and are dropped"
        found.append(Finding("warning", "not finite", tuple(fact.name for fact in broken), message, "nothing, if that is as it should be"))
    dropped = [fact for fact in good if fact.dropped]
    if dropped:
        message = f"{sum(fact.dropped for fact in dropped):,} pixels of organised clouds measured nothing and are dropped"
        found.append(
            Finding("warning", "no measurement", tuple(fact.name for fact in dropped), message, "nothing, if that is as it should be")
        )
    return found


def _classes(task: FileTask, good: list[Facts]) -> list[Finding]:
    found: list[Finding] = []
    counts = Counter(fact.item.label for fact in good)
    if len(counts) < 2:
        there = f"only '{next(iter(counts))}'" if counts else "none"
        found.append(Finding("error", "one class", (), f"classes with readable items: {there}; classifying needs two", "add a class"))
    if len(counts) > 1 and max(counts.values()) > IMBALANCE * min(counts.values()):
        (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
        message = f"'{most}' has {high} items, '{least}' {low}; plain accuracy will mostly measure the large classes"
        found.append(Finding("warning", "imbalance", (), message, "look at the mean over classes, or set per-class"))
    return found + _class_sizes(good, {"val": task.val, "test": task.test})


def _class_sizes(good: list[Facts], shares: Mapping[str, float]) -> list[Finding]:
    """Classes that are small, missing from a part (that has a share, or anything in it), or perhaps one."""
    found: list[Finding] = []
    counts = Counter(fact.item.label for fact in good)
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
        there = {fact.item.label for fact in good if fact.part == part}
        missing = sorted(set(counts) - there)
        if missing and (part == "train" or shares.get(part, 0.0) > 0 or there):
            severity = "error" if part == "train" else "warning"
            message = f"{len(missing)} class(es) have no items in {part}: {', '.join(missing[:10])}"
            found.append(Finding(severity, "missing class", (), message, "add items, or have everything split anew"))
    return found


def _duplicates(good: list[Facts]) -> list[Finding]:
    found: list[Finding] = []
    for group in twins(good):
        names = tuple(fact.name for fact in group)
        labels, parts = sorted({fact.item.label for fact in group}), sorted({fact.part for fact in group})
        if len(labels) > 1:
            found.append(Finding("error", "two labels", names, f"the same shape is labelled {' and '.join(labels)}", "keep the right one"))
        if len(parts) > 1:
            message = f"the same shape is in {' and '.join(parts)}: results on it would be remembered, not learned"
            found.append(Finding("error", "leak", names, message, "keep it in one part"))
        if len(labels) == len(parts) == 1:
            found.append(Finding("warning", "duplicate", names, "the same shape, perhaps moved, scaled or in another order", "keep one"))
    return found


def _scale(task: FileTask, good: list[Facts]) -> list[Finding]:
    harm = "harmless, as clouds are scaled to the unit sphere" if task.normalise == "sphere" else "bring all to one unit"
    return [
        Finding("warning", "scale", tuple(fact.name for fact in facts), f"the box's diagonal is {what}", f"check the unit; {harm}")
        for what, facts in scale_outliers(good).items()
    ]


def _axes(good: list[Facts]) -> list[Finding]:
    return [
        Finding(
            "warning",
            "up axis",
            tuple(fact.name for fact in facts),
            f"in class '{label}' the box fits the class's median box only with {swap} swapped",
            "look at these files; the task's option 'up' turns a whole set",
        )
        for (label, swap), facts in axes_swapped(good).items()
    ]


def _groups(good: list[Facts]) -> list[Finding]:
    groups = parted((fact.item.group, fact.part) for fact in good)
    if not groups:
        return []
    message = f"{len(groups)} object(s) have scans in more than one part: {', '.join(groups[:5])}"
    names = tuple(fact.name for fact in good if fact.item.group in groups)
    return [Finding("error", "leak", names, message, "keep each object in one part")]
