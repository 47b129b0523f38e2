"""Everything that is wrong or suspicious about a data set's files, found without training; a bad file is a finding, never an exception."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from pathlib import Path

from wisetune.data._facts import Facts, axes_swapped, facts_of, scale_outliers
from wisetune.data._overview import Overview
from wisetune.data.files import FileTask, Item, Opened
from wisetune.data.findings import Finding, class_sizes, duplicates, scattered
from wisetune.data.folder import Folder
from wisetune.data.formats.base import NO_AREA, NOT_FINITE, ONE_PLACE, TOO_FEW
from wisetune.data.splits import draw
from wisetune.data.task import Task
from wisetune.data.tasks import parse_task
from wisetune.errors import UNREADABLE, BadFile, DataError, UsageError, WisetuneError, counted

IMBALANCE = 10
"""So many times more items in the largest class than in the smallest are pointed out."""

REPEATS = 0.1
"""Clouds of whose points a larger share are repeats are pointed out: few scanners measure one place twice, many programs pad."""
_OF_ONE_FILE = (UNREADABLE, TOO_FEW, NOT_FINITE, ONE_PLACE, NO_AREA)
_LAID_OUT = "docs/data.md, 'Your data', shows how data are laid out"
_NUMBER = re.compile(r"\d[\d.,]*")


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a data set holds (None where it could not be opened), and all findings, errors first."""

    overview: Overview | None
    findings: list[Finding]

    def lines(self) -> list[str]:
        """The findings for a person: those that differ in files and numbers only are one line."""
        same: dict[tuple[str, str, str, str], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            # Elsewhere a number may be part of a class's name.
            message = _NUMBER.sub("#", finding.message) if finding.kind in _OF_ONE_FILE else finding.message
            same[finding.severity, finding.kind, finding.do, message].append(finding)
        return [_together(group) for group in same.values()]


def _together(group: list[Finding]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    what = "files" if all(len(finding.files) == 1 for finding in group) else "times"
    numbers = "" if all(finding.message == first.message for finding in group) else " (these numbers are the first one's)"
    # Files of one finding belong together, as two of one shape do.
    names = [" = ".join(finding.files[:3]) + (" ..." if len(finding.files) > 3 else "") for finding in group]
    return first.line(f"{len(group)} {what}: {first.message}{numbers}", [name for name in names if name])


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
        overview = Overview.of(kinds, good, [fact.part for fact in _taken(task, good)])
        found += (
            unreadable
            + _points(good, points)
            + _classes(task, good)
            + duplicates(good)
            + _scale(task, good)
            + _axes(task, good)
            + scattered(good)
        )
    except DataError as error:
        wrong, do = (error.wrong, error.do) if isinstance(error, BadFile) else (str(error), _LAID_OUT)
        found.append(Finding("error", "layout", (), wrong, do))
    return Survey(overview, sorted(found, key=lambda finding: (finding.severity, finding.kind, finding.files)))


def _opened(task: FileTask, found: list[Finding]) -> Opened:
    if not isinstance(task, Folder):
        return task.open()
    listing = task.listing()
    message, do = "holds no file of a known kind", "add files, remove it, or set skip-bad=true"
    found += [Finding("error", "empty class", (folder,), message, do) for folder in listing.empty]
    if listing.ignored:
        message = f"{counted(len(listing.ignored), 'file', 'is', 'are')} of no known kind and passed over"
        found.append(Finding("warning", "ignored", listing.ignored, message, "nothing, if they are no data"))
    if listing.nested and task.group == "file":
        message = "files lie in sub-folders of class folders; if each is one object, scans of it may end up in train and in test"
        found.append(Finding("warning", "nested", (), message, "set group=folder if a sub-folder is one object"))
    return dataclasses.replace(task, skip_bad=True).opened(listing)


def _read(task: FileTask, opened: Opened) -> tuple[list[Facts], list[Finding]]:
    found: list[Finding] = []
    items: list[Item] = []
    good: list[Facts] = []
    for item, shape in task.looked(opened):
        if isinstance(shape, WisetuneError):
            bad = shape if isinstance(shape, BadFile) else BadFile(item.name, str(shape), "install it")
            found.append(Finding("error", bad.kind, (item.name,), bad.wrong, bad.do))
        else:
            items.append(item)
            good.append(facts_of(item, shape))
    parts = task.split(items)
    return [dataclasses.replace(fact, part=part) for fact, part in zip(good, parts, strict=True)], found


def _taken(task: FileTask, good: list[Facts]) -> list[Facts]:
    """What the task has in its parts: of train, as ``labelled`` says, not all."""
    if task.labelled is None:
        return good
    train = [fact for fact in good if fact.part == "train"]
    rows = draw([fact.label for fact in train], [fact.name for fact in train], task.labelled, task.seed, "labelled")
    return [train[row] for row in rows] + [fact for fact in good if fact.part != "train"]


def _points(good: list[Facts], points: int) -> list[Finding]:
    found: list[Finding] = []
    few = [fact for fact in good if fact.is_cloud and fact.count < points]
    if few:
        fewest = min(fact.count for fact in few)
        message = f"{counted(len(few), 'cloud', 'has', 'have')} fewer than the {points} points asked for (the fewest {fewest}); points will be repeated"
        found.append(
            Finding("warning", "few points", tuple(fact.name for fact in few), message, "scan more densely or ask for fewer points")
        )
    padded = [fact for fact in good if fact.repeats > REPEATS * fact.count]
    if padded:
        worst = max(padded, key=lambda fact: fact.repeats / fact.count)
        message = (
            f"{counted(len(padded), 'cloud', 'holds', 'hold')} the same points again: "
            f"{worst.name} has {counted(worst.repeats, 'repeat')} among {worst.count:,} points"
        )
        do = "if they were padded to one number of points, export them as they were: repeats weigh as points"
        found.append(Finding("warning", "repeats", tuple(fact.name for fact in padded), message, do))
    broken = [fact for fact in good if fact.nonfinite]
    if broken:
        points_gone = sum(fact.nonfinite for fact in broken)
        message = f"{counted(points_gone, 'point')} of {counted(len(broken), 'file')} {'is' if points_gone == 1 else 'are'} not finite and dropped"
        found.append(Finding("warning", "not finite", tuple(fact.name for fact in broken), message, "nothing, if that is as it should be"))
    dropped = [fact for fact in good if fact.dropped]
    if dropped:
        message = f"{counted(sum(fact.dropped for fact in dropped), 'pixel')} of organised clouds measured nothing: dropped"
        found.append(
            Finding("warning", "no measurement", tuple(fact.name for fact in dropped), message, "nothing, if that is as it should be")
        )
    return found


def _classes(task: FileTask, good: list[Facts]) -> list[Finding]:
    found: list[Finding] = []
    counts = Counter(fact.label for fact in good)
    if len(counts) < 2:
        there = f"only '{next(iter(counts))}'" if counts else "none"
        found.append(Finding("error", "one class", (), f"classes with readable items: {there}; classifying needs two", "add a class"))
    if len(counts) > 1 and max(counts.values()) > IMBALANCE * min(counts.values()):
        (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
        message = f"'{most}' has {high} items, '{least}' {low}; plain accuracy will mostly measure the large classes"
        found.append(Finding("warning", "imbalance", (), message, "look at the mean over classes, or set per-class"))
    return found + class_sizes(good, {"val": task.val, "test": task.test})


def _scale(task: FileTask, good: list[Facts]) -> list[Finding]:
    harm = "harmless, as clouds are scaled to the unit sphere" if task.normalise == "sphere" else "bring all to one unit"
    return [
        Finding("warning", "scale", tuple(fact.name for fact in facts), f"the box's diagonal is {what}", f"check the unit; {harm}")
        for what, facts in scale_outliers(good).items()
    ]


def _axes(task: FileTask, good: list[Facts]) -> list[Finding]:
    return [
        Finding(
            "warning",
            "up axis",
            tuple(fact.name for fact in facts),
            f"in class '{label}' the box fits the class's median box only with {swap} swapped",
            "look at these files; the task's option 'up' turns a whole set",
        )
        for (label, swap), facts in axes_swapped(good, task.up).items()
    ]
