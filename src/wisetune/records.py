"""A record is one measured number with everything a reader needs to judge it. Tables and pages are functions of records."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from wisetune.errors import UsageError
from wisetune.plain import from_plain, to_plain

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""
Z95_ONE_SIDED = 1.6448536269514722
"""One-sided 95 % quantile of the normal distribution (a two-sided 90 % interval)."""
LEAST_SEEDS = 3
"""Of fewer seeds no interval is computed: how far others would be from them is not known."""
_T95 = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
    *(2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963),
)
Role = Literal["accuracy", "class-mean", "robustness", "corruption", "transfer", "voting", ""]
"""What a record says of a model: its ``accuracy`` on the task it was tuned on and the mean of that over classes; its ``robustness`` (each
such record is one probe; their mean joins the choice of alpha); its accuracy under ``corruption``, as it is on another set, and by ``voting``. Records
without a role are kept and not shown."""
EDITION = 2
"""Counts changes of what measures measure and records hold: what a store holds of another edition is measured again."""


class Shown(TypedDict, total=False):
    """What pages look for in a record's ``detail``. A measure may keep anything else there, but by these names only this.

    ``right`` and ``objects`` as in ``Record``; ``kind`` and ``level`` of a corruption; ``confusion`` counts by true and answered class, whose
    names are ``classes``; ``class_intervals`` and ``class_objects`` are those of each class where items are scans of fewer objects.
    """

    right: str
    objects: list[int]
    kind: str
    level: int
    confusion: list[list[int]]
    classes: list[str]
    class_intervals: dict[str, list[float]]
    class_objects: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Record:
    """One number: ``value`` of ``name``, measured by ``measure`` on ``split`` of ``data`` with the weights ``weights``.

    ``low`` and ``high`` bound a 95 % interval over the ``n`` items measured (not over training seeds), or over the ``objects`` that these
    are scans of, where that is known. ``detail`` holds what else a page may show: a confusion matrix, the chosen C, the level of a
    corruption; and for comparisons item by item ``right`` (a mark an item, 0 or 1) and ``objects`` (the number of its object).
    """

    weights: str
    measure: str
    data: str
    data_digest: str
    split: str
    name: str
    value: float
    n: int
    low: float
    high: float
    detail: Annotated[dict[str, Any], Shown] = dataclasses.field(default_factory=dict)
    objects: int | None = None
    role: Role = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return to_plain(self)

    @classmethod
    def from_json(cls, values: Any) -> Record:
        """The inverse of ``to_json``.

        Raises:
            ValueError: the values are not those of a record; the message says which and why.
        """
        return from_plain(cls, values)

    @property
    def marks(self) -> list[float] | None:
        """Of each item whether it was right, where that is known."""
        right = self.detail.get("right")
        return [float(mark) for mark in right] if right else None

    @property
    def groups(self) -> list[int] | None:
        """Of each item the number of its object, where items are scans of fewer objects."""
        return self.detail.get("objects")


def wilson(right: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a proportion of ``right`` successes in ``n`` trials (Wilson 1927, eq. 2); 95 % unless ``z`` says else."""
    if n == 0:
        return 0.0, 1.0
    p, zz = right / n, z * z
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    # The bounds touch 0 and 1 exactly at the ends; rounding must not leave the value outside its own interval.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def class_mean_interval(right: Sequence[float], n: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the class-mean accuracy: the plain mean of ``right[c] / n[c]`` over the classes that have items.

    Adjusted Wald interval of a linear function of independent proportions (Price & Bonett 2004, Computational Statistics & Data
    Analysis 45:449): 2/m successes and 2/m failures are added to each of the m classes. One class gives Agresti and Coull's
    interval, two classes that of Agresti and Caffo. Where items are scans of fewer objects, give effective numbers (``effective_n``).

    Raises:
        UsageError: the two do not have the same length, or no class has items.
    """
    if len(right) != len(n):
        raise UsageError(f"class_mean_interval was given {len(right)} counts of right answers for {len(n)} classes.")
    classes = [(x, size) for x, size in zip(right, n, strict=True) if size > 0]
    if not classes:
        raise UsageError("class_mean_interval needs at least one class that has items; all counts are 0.")
    m = len(classes)
    smoothed = [((x + 2 / m) / (size + 4 / m), size + 4 / m) for x, size in classes]
    centre = sum(p for p, _ in smoothed) / m
    half = Z95 * math.sqrt(sum(p * (1 - p) / size for p, size in smoothed)) / m
    value = sum(x / size for x, size in classes) / m
    # Smoothing pulls the centre towards one half; the interval must still hold the value it is printed beside.
    return max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value))


def difference_interval(
    a: float, interval_a: tuple[float, float], b: float, interval_b: tuple[float, float], correlation: float = 0.0
) -> tuple[float, float]:
    """Interval of ``a - b`` from the intervals of a and b: square-and-add (Newcombe 1998, Stat. Med. 17:873, method 10).

    The level is that of the two intervals. With ``correlation`` 0 a and b are taken as independent, which is too wide when both were
    measured on the same items.
    """

    def spread(down: float, up: float) -> float:
        return math.sqrt(max(0.0, down * down - 2 * correlation * down * up + up * up))

    (low_a, high_a), (low_b, high_b) = interval_a, interval_b
    return a - b - spread(a - low_a, high_b - b), a - b + spread(high_a - a, b - low_b)


def mean_interval(marks: Sequence[float], groups: Sequence[int] | None = None, z: float = Z95) -> tuple[float, float]:
    """Interval of the mean of one mark an item, each between 0 and 1 (how often it was right); 95 % unless ``z`` says else.

    Wilson's with the effective number of items (see ``effective_n``). Without ``groups`` and with marks that are all 0 or 1 that number is
    the number of items. Otherwise it also pays for a variance that was estimated from few groups, by (z / t)² with Student's t of one
    degree of freedom fewer than there are groups (Korn & Graubard 1998, Survey Methodology 24:193).
    """
    if not marks:
        return 0.0, 1.0
    n = effective_n(marks, groups)
    if groups is not None or not _answers(marks):
        freedom = (len(marks) if groups is None else len(set(groups))) - 1
        n *= (z / student(freedom, z)) ** 2 if freedom > 0 else 0.0
    return wilson(math.fsum(marks) / len(marks) * n, n, z) if n > 0 else (0.0, 1.0)


def effective_n(marks: Sequence[float], groups: Sequence[int] | None = None) -> float:
    """How many independent answers of 0 or 1 would know the mean as well as these marks do: p (1 - p) over the variance of their mean.

    ``groups`` says of each item what it is a scan of. Items of one group may go together, so the variance is the cluster-robust one,
    with residuals summed group by group; that it comes out smaller than without groups is chance, and not believed. Where all marks are
    equal there is no variance to see: then each group counts once.
    """
    n = len(marks)
    p = math.fsum(marks) / n
    answers = _answers(marks)
    if groups is None and answers:
        return float(n)
    rests = _rests(marks, range(n) if groups is None else groups)
    apart = math.fsum((mark - p) ** 2 for mark in marks)
    if len(rests) < 2 or apart == 0:
        return float(len(rests))
    alone = n if answers else p * (1 - p) * n * (n - 1) / apart
    together = math.fsum(rest * rest for rest in rests.values()) * len(rests) / (len(rests) - 1)
    return min(alone, p * (1 - p) * n * n / together) if together > 0 else alone


def paired_difference(
    a: Sequence[float], b: Sequence[float], z: float = Z95, groups: Sequence[int] | None = None
) -> tuple[float, float, float]:
    """Accuracy of a minus accuracy of b on the *same* items, in the same order, with its interval: (difference, low, high).

    Square-and-add of two intervals with their correlation (Newcombe 1998, Stat. Med. 17:2635, method 10); 95 % two-sided unless ``z``
    says else. For answers, right or wrong, of independent items: Newcombe's, from two Wilson intervals, the correlation corrected for
    continuity. For marks in between (means over seeds or draws), and where ``groups`` says what each item is a scan of, from two
    ``mean_interval``s and the correlation of the residuals summed group by group, uncorrected.

    Raises:
        UsageError: no items, or lists of different length.
    """
    n = len(a)
    if n == 0 or n != len(b) or n != len(a if groups is None else groups):
        raise UsageError(f"paired_difference compares two models on the same items; it was given {n} and {len(b)}.")
    if groups is None and _answers(a) and _answers(b):
        return _newcombe(list(map(bool, a)), list(map(bool, b)), z)
    owners = range(n) if groups is None else groups
    rests_a, rests_b = _rests(a, owners), _rests(b, owners)
    spread = math.sqrt(math.fsum(x * x for x in rests_a.values()) * math.fsum(x * x for x in rests_b.values()))
    shared = math.fsum(rests_a[owner] * rests_b[owner] for owner in rests_a)
    # Rounding must not make equal models correlate by more than 1.
    correlation = max(-1.0, min(1.0, shared / spread)) if spread > 0 else 0.0
    value_a, value_b = math.fsum(a) / n, math.fsum(b) / n
    low, high = difference_interval(value_a, mean_interval(a, groups, z), value_b, mean_interval(b, groups, z), correlation)
    return value_a - value_b, low, high


def _newcombe(right_a: Sequence[bool], right_b: Sequence[bool], z: float) -> tuple[float, float, float]:
    n = len(right_a)
    both = sum(a and b for a, b in zip(right_a, right_b, strict=True))
    sum_a, sum_b = sum(right_a), sum(right_b)
    only_a, only_b = sum_a - both, sum_b - both
    excess = both * (n - both - only_a - only_b) - only_a * only_b
    if excess > 0:
        excess = max(excess - n / 2, 0)
    margins = sum_a * (n - sum_a) * sum_b * (n - sum_b)
    correlation = excess / math.sqrt(margins) if margins else 0.0
    low, high = difference_interval(sum_a / n, wilson(sum_a, n, z), sum_b / n, wilson(sum_b, n, z), correlation)
    return (sum_a - sum_b) / n, low, high


def _answers(marks: Sequence[float]) -> bool:
    return all(mark in (0, 1) for mark in marks)


def _rests(marks: Sequence[float], owners: Sequence[int]) -> dict[int, float]:
    """How far the marks of each owner are above their mean, summed."""
    mean = math.fsum(marks) / len(marks)
    found: dict[int, float] = defaultdict(float)
    for mark, owner in zip(marks, owners, strict=True):
        found[owner] += mark - mean
    return found


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) over training seeds.

    Raises:
        UsageError: fewer than two values, whose spread nobody can know, or one that is not finite.
    """
    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        raise UsageError(f"mean_over_seeds needs at least two finite values; it was given {list(values)}.")
    mean = math.fsum(values) / n
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))


def interval_over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % Student t interval of the mean over training seeds; None for fewer than ``LEAST_SEEDS``.

    Two values have one degree of freedom: the half width is six times their distance, so that two seeds that differ by
    ten points would give an interval from 0 to 100 %, and two that agree one of no width. Neither says anything of the spread.

    Raises:
        UsageError: fewer than two values, or one that is not finite.
    """
    mean, sd = mean_over_seeds(values)
    if len(values) < LEAST_SEEDS:
        return None
    half = t95(len(values) - 1) * sd / math.sqrt(len(values))
    return mean - half, mean + half


def t95(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t with ``freedom`` >= 1 degrees of freedom, right to 1e-6."""
    return student(freedom, Z95)


def student(freedom: int, z: float) -> float:
    """The quantile of Student's t at the level at which ``z`` is the normal distribution's.

    A table up to 20 degrees of freedom at 95 %, else the expansion in powers of 1/freedom (Abramowitz & Stegun 1964, 26.7.5): at
    one-sided 95 % right to 5 % for one degree, 0.3 % for two, 1e-4 from five on.
    """
    if z == Z95 and freedom <= len(_T95):
        return _T95[freedom - 1]
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))
