"""What a checkpoint gave a model: told of every loading, and in words."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a checkpoint gave a model. ``coverage`` is the share of the backbone's pre-trainable values that the file had."""

    source: str
    layout: str
    prefix: str
    loaded: dict[str, str]
    """Name in the model: name in the file, without ``prefix``."""
    fresh: tuple[str, ...]
    ignored: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """Name in the model, shape in the file, shape in the model; only a head's can be here, which then is fresh as a whole."""
    coverage: float
    family: str = ""
    """Whose encoder it is, where that is another family's than the model's."""
    notes: tuple[str, ...] = ()
    """What these weights are not, in this model, and a head that was left out."""
    names: str = ""
    """Whose names the file has, where they are not the released ones."""
    mistyped: tuple[tuple[str, str, str], ...] = ()
    """Name in the model, type of its numbers in the file, type in the model; only a head's, as with ``mismatched``."""

    def __str__(self) -> str:
        of = f", names of {self.names}" if self.names else ""
        lines = [
            f"{self.source}: {percent(self.coverage)} of the backbone's values found (layout {self.layout}, prefix '{self.prefix}'{of})"
        ]
        for title, names in (("loaded", self.loaded), ("fresh", self.fresh), ("ignored", self.ignored)):
            lines.append(f"  {title:<10} {len(names):>4}  {by_part(names)}")
        for name, found, wanted in self.mismatched:
            lines.append(f"  {'other size':<10}       {name}: {dimensions(found)} in the file, {dimensions(wanted)} here")
        lines += [f"  {'other type':<10}       {name}: {found} in the file, {wanted} here" for name, found, wanted in self.mistyped]
        lines += [f"  {'note':<10}       {note}" for note in self.notes]
        return "\n".join(lines)


def by_part(names: Iterable[str]) -> str:
    """What names begin with, and how many of each; ``-`` of none."""
    parts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(part if count == 1 else f"{part} ({count})" for part, count in parts.items()) or "-"


def percent(part: float) -> str:
    """In percent; what is not all is never called 100."""
    return f"{math.floor(part * 1000) / 10:.1f}%"


def dimensions(shape: tuple[int, ...]) -> str:
    """A shape in words."""
    return "x".join(map(str, shape)) or "one number"
