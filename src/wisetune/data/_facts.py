"""Numbers that ``check`` compares: of each file's shape its size, its box and its signature."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np
from jaxtyping import Float64

from wisetune.data.files import Item
from wisetune.data.findings import Known
from wisetune.data.formats import Cloud, Shape, places
from wisetune.points.content import distinct, signature

FAR = 10.0
"""A box this many times larger or smaller than usual is pointed out."""
_ENOUGH = 8
_AXES = "xyz"
_UNITS = {"mm and m": 1000.0, "cm and m": 100.0, "inch and mm": 25.4, "mm and cm": 10.0, "inch and m": 39.37}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Facts(Known):
    """What is kept of a file's shape. ``box`` and ``diagonal`` are in its unit.

    ``repeats`` counts the points of a cloud that are those of an earlier one; meshes have none.
    """

    is_cloud: bool
    count: int
    dropped: int
    nonfinite: int
    repeats: int
    box: Float64[np.ndarray, "3"]

    @property
    def diagonal(self) -> float:
        """Of the box."""
        return float(np.linalg.norm(self.box))


def facts_of(item: Item, shape: Shape) -> Facts:
    """Measure one shape; its signature is of its points, of a mesh of its vertices."""
    is_cloud = isinstance(shape, Cloud)
    points = places(shape)
    return Facts(
        name=item.name,
        label=item.label,
        group=item.group,
        part=item.part or "train",
        is_cloud=is_cloud,
        count=len(points),
        dropped=shape.dropped if isinstance(shape, Cloud) else 0,
        nonfinite=shape.nonfinite,
        repeats=len(points) - len(distinct(points)) if is_cloud else 0,
        box=np.ptp(points, axis=0),
        signature=signature(points),
    )


def scale_outliers(facts: list[Facts]) -> dict[str, list[Facts]]:
    """Shapes whose box is ``FAR`` times larger or smaller than is usual, by what is to be said of them.

    Usual is the median of the class where it has eight items or more, else of all; the distance is that of logarithms of the diagonal, and
    must also be five times the median distance, so that a class of very different sizes is left alone.
    """
    found: dict[str, list[Facts]] = defaultdict(list)
    for _, group in _by_class(facts, whole_if_small=True):
        sizes = np.log10([fact.diagonal for fact in group])
        usual = np.median(sizes)
        limit = max(np.log10(FAR), 5 * float(np.median(np.abs(sizes - usual))))
        for fact, size in zip(group, sizes, strict=True):
            if abs(size - usual) >= limit:
                found[_ratio(10 ** (size - usual), f"the usual {10**usual:.3g}")].append(fact)
    medians = {label: float(np.median([np.log10(fact.diagonal) for fact in group])) for label, group in _by_class(facts)}
    middle = float(np.median(list(medians.values()))) if len(medians) > 2 else 0.0  # of two, neither is the usual one
    for label, median in medians.items() if len(medians) > 2 else ():
        if abs(median - middle) >= 1.5:  # a ship is not a mug, but seldom is a class 30 times the middle one
            ratio = _ratio(10 ** (median - middle), f"that of the middle class, for all of class '{label}'")
            found[ratio] += [fact for fact in facts if fact.label == label]
    return dict(found)


def axes_swapped(facts: list[Facts], up: str) -> dict[tuple[str, str], list[Facts]]:
    """Shapes whose box fits the median box of their class much better with the axis ``up`` and another swapped, by class and axes.

    The two others swapped are a turn about the upright axis, which says nothing of what is up. Boxes are compared by the mean absolute difference
    of the logarithms of their sides over the longest. Modest: only classes of eight or more in which the median difference is below 0.25, and only
    shapes that lie 0.35 off and come three times as close when swapped.
    """
    found: dict[tuple[str, str], list[Facts]] = defaultdict(list)
    for label, group in _by_class(facts):
        if len(group) < _ENOUGH:
            continue
        sides = np.stack([np.log(np.maximum(fact.box / fact.box.max(), 1e-3)) for fact in group])
        usual = np.median(sides, axis=0)
        off = np.abs(sides - usual).mean(axis=1)
        if np.median(off) > 0.25:
            continue
        for other in _AXES.replace(up, ""):
            swap = [_AXES.index({up: other, other: up}.get(axis, axis)) for axis in _AXES]
            swapped = np.abs(sides[:, swap] - usual).mean(axis=1)
            for at in np.flatnonzero((off > 0.35) & (swapped < off / 3)):
                found[label, " and ".join(sorted((other, up)))].append(group[at])
    return dict(found)


def _by_class(facts: list[Facts], whole_if_small: bool = False) -> list[tuple[str, list[Facts]]]:
    by_class: dict[str, list[Facts]] = defaultdict(list)
    for fact in facts:
        by_class[fact.label].append(fact)
    if not whole_if_small:
        return sorted(by_class.items())
    large = [(label, group) for label, group in sorted(by_class.items()) if len(group) >= _ENOUGH]
    small = [fact for _, group in sorted(by_class.items()) if len(group) < _ENOUGH for fact in group]
    return [*large, ("", small)] if len(small) >= _ENOUGH else large


def _ratio(ratio: float, usual: str) -> str:
    factor = max(ratio, 1 / ratio)
    units = [(names, exact) for names, exact in _UNITS.items() if abs(np.log10(factor / exact)) < 0.15]
    names, factor = min(units, key=lambda unit: abs(np.log10(factor / unit[1]))) if units else ("", float(f"{factor:.2g}"))
    hint = f" (like {names})" if names else ""
    return f"about {factor:,g} times {'larger' if ratio > 1 else 'smaller'} than {usual}{hint}"
