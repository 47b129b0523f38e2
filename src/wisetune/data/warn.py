"""What shows in data that are loaded already, for whoever reads numbers on them; ``check`` looks at files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from wisetune.data.files import PARTS
from wisetune.data.findings import Finding, Known, class_sizes, duplicates, scattered
from wisetune.data.task import Data, SplitName
from wisetune.errors import counted
from wisetune.points.content import alike


def warned(data: Data) -> list[str]:
    """What whoever reads numbers on these data should know, worst first and each kind once; what their task warned of is among it."""
    known = [cloud for part in PARTS for cloud in _known(data, part)]
    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in (*duplicates(known), *scattered(known), *class_sizes(known, {})):
        kinds[finding.kind, "" if finding.kind in ("two labels", "duplicate") else finding.message].append(finding)
    # A test part that training has seen is worse than a val part.
    found = sorted(
        kinds.values(),
        key=lambda same: (same[0].kind != "leak", not {"train", "test"} <= set(same[0].parts), same[0].severity, same[0].kind),
    )
    skipped = [str(text) for text in data.protocol.get("skipped", ())]
    gone = f"{data.name}: {counted(len(skipped), 'file', 'was', 'were')} left out that could not be used: {_first(skipped, '; ')}."
    left_out = [gone] if skipped else []
    return [*(_summed(data, same) for same in found), *left_out, *map(str, data.protocol.get("warnings", ()))]


def shared(data: Data, other: Data) -> int:
    """How many clouds of ``other`` are in ``data`` too, whatever they are called and in whichever part."""
    ours, theirs = (np.concatenate([part.signatures for part in map(one.split, PARTS) if len(part)]) for one in (data, other))
    groups = alike(np.concatenate([ours, theirs]))
    return sum(sum(row >= len(ours) for row in group) for group in groups if min(group) < len(ours))


def _known(data: Data, part: SplitName) -> list[Known]:
    split = data.split(part)
    groups = split.names if split.groups is None else split.groups
    return [
        Known(name=name, label=data.classes[label], group=group, signature=mark, part=part)
        for name, label, group, mark in zip(split.names, split.labels.tolist(), groups, split.signatures, strict=True)
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
