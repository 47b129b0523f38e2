"""Rows of records become estimates: one model's accuracy or robustness over seeds, or how far two models differ, with an interval.

Accuracy is measured on the task. Robustness is the mean accuracy of the probes: linear classifiers on sets the model was not tuned for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from wisetune.records import Record, Role, difference_interval, interval_over_seeds, mean_interval, mean_over_seeds, paired_difference
from wisetune.report import words
from wisetune.results import OVER_SEEDS, Chosen, Results, Row, Variant, Words

ACCURACY: Role = "accuracy"
CLASS_MEAN: Role = "class-mean"
ROBUSTNESS: Role = "robustness"
CORRUPTED: Role = "corruption"
TRANSFER: Role = "transfer"
VOTING: Role = "voting"
CLEAN = "clean"
"""Accuracy on the clouds that were corrupted, as they are: may be those of a part of the split."""
Quantity = str | tuple[str, str]
"""What a model has a mean of: ACCURACY, CLASS_MEAN, ROBUSTNESS, CORRUPTED (over all corruptions), CLEAN, or one of a board's ``probes``."""
CHOSEN = "chosen"
"""The name of the model that the report recommends, whose alpha may differ from seed to seed."""

Place = Mapping[int, Variant]
"""One model a seed."""
Bounds = tuple[float, float, float]
"""A value, the low and the high end of its interval."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    One seed: the interval is that of the ``n`` items measured, or of the ``objects`` that they are scans of; ``sd`` is None. Several: the
    mean over ``seeds``, their standard deviation, and the items' interval; from three seeds on the wider of that and Student's interval
    over the seeds, bound by bound: models of different seeds meet the same items, so more seeds say nothing about other items, and seeds
    that happen to agree must not look sure.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1
    sd: float | None = None
    objects: int | None = None

    @property
    def shown(self) -> int:
        """Of a difference: 1 where it is shown to be a gain, -1 where a loss, 0 where neither is."""
        return shown(self.value, self.low, self.high, self.sd, self.seeds)


def shown(value: float | None, low: float | None, high: float | None, sd: float | None, seeds: int) -> int:
    """Whether a difference is shown to be one, and its sign: words and colours of all pages follow it.

    Bounds count as they are spelled, with one decimal: one that reads 0.0 reaches zero. Two seeds that disagree in sign show nothing.
    """
    if value is None or low is None or high is None:
        return 0
    # Two values lie sd / sqrt(2) to either side of their mean.
    if seeds == 2 and sd is not None and abs(value) <= sd / math.sqrt(2):
        return 0
    return (round(100 * low, 1) > 0) - (round(100 * high, 1) < 0)


class Board:
    """An index of one job's rows that answers questions about them."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.seeds = sorted({row.seed for row in results.rows})
        # Probes have test parts of their own: what is shown is the split on which the task's own accuracy is known.
        of_task = [row for row in results.rows if row.record.role == ACCURACY] or results.rows
        self.split = "test" if any(row.record.split == "test" for row in of_task) else "val"
        self.probed = self._split_of_probes()
        self.rule, self.sweeps, self.reference = results.study.rule, results.study.sweeps, results.study.reference
        self._measured = dict.fromkeys(row.variant for row in results.rows)
        self._records: dict[tuple[str, Variant, int, str], dict[tuple[str, str], Record]] = {}
        self._weights: dict[tuple[Variant, int], str] = {}
        for row in results.rows:
            role, model = row.record.role, row.variant
            if role == ACCURACY:
                self._weights[model, row.seed] = row.record.weights
            if role in (ACCURACY, CLASS_MEAN, ROBUSTNESS):
                found = self._records.setdefault((role, model, row.seed, row.record.split), {})
                found.setdefault((row.record.measure, row.record.data), row.record)
            if role == CORRUPTED:
                kind, level = row.record.detail.get("kind"), row.record.detail.get("level")
                found = self._records.setdefault((CLEAN if kind == "clean" else role, model, row.seed, row.record.split), {})
                found.setdefault((row.record.measure, f"{row.record.data}, {kind} {level}"), row.record)
        self.probes = sorted({key for (role, *_), found in self._records.items() if role == ROBUSTNESS for key in found})

    def _split_of_probes(self) -> str:
        """The split of which robustness is shown: test where every probe has one, whatever the task has."""
        found: dict[tuple[str, str], set[str]] = {}
        for record in (row.record for row in self.results.rows if row.record.role == ROBUSTNESS):
            found.setdefault((record.measure, record.data), set()).add(record.split)
        if not found:
            return self.split
        return "test" if all("test" in splits for splits in found.values()) else "val"

    @property
    def where(self) -> str:
        """Of which splits accuracies and robustness are shown, in words."""
        task = f"{words.split(self.split)} split"
        return task if self.probed == self.split or not self.probes else f"{task}, robustness: {words.split(self.probed)} split"

    def shown(self, quantity: Quantity) -> str:
        """The split of which a quantity is shown: accuracies of the task on one, robustness on one."""
        return self.split if quantity in (ACCURACY, CLASS_MEAN, CORRUPTED, CLEAN) else self.probed

    @property
    def headline(self) -> str:
        """The method that the report recommends, or would."""
        said = self._recommended()
        return said[0] if said is not None else self.results.study.headline

    @property
    def chose(self) -> bool:
        """Whether an alpha was chosen for that method: a story may have no sweep, and a sweep no probe to choose by."""
        return bool(self.choices(self.headline, self.rule))

    def alphas(self, method: str) -> list[float]:
        """Every alpha measured for a swept method, ascending."""
        return sorted({row.alpha for row in self.results.rows if row.method == method and row.alpha is not None})

    def baselines(self) -> list[str]:
        """The methods without alpha that were measured; those whose costs were told as these are, the reference first."""
        names, told = dict.fromkeys(row.method for row in self.results.rows if row.alpha is None), list(self.results.costs)
        return sorted(names, key=lambda name: told.index(name) if name in told else len(told))

    @property
    def compares(self) -> bool:
        """Whether the study is about ways to tune beside one another, and recommends none of them."""
        return not self.sweeps and self.reference == self.results.study.headline and len(self.baselines()) > 1

    def words(self, method: str) -> Words:
        """What pages say of a method; one that nothing is said of is called by its own name."""
        return self.results.study.methods.get(method) or Words(method, "")

    def called(self, method: str, alpha: float | None = None) -> str:
        """A method's short name, with its alpha where it has one."""
        name = self.words(method).name
        return name if alpha is None else f"{name} at {words.equals(alpha)}"

    def named(self, place: Place) -> str:
        """A model, whose alpha may differ from seed to seed: its short name, with its alphas where it has any."""
        name = words.joined(dict.fromkeys(self.words(method).name for method, _ in place.values()))
        return f"{name} at {alpha_words(place)}" if any(alpha is not None for _, alpha in place.values()) else name

    def listed(self) -> list[Words]:
        """The words of the methods that were measured: those along alpha, then the others."""
        order = [*self.sweeps, *words.MARKS]
        known = [name for name in self.results.study.methods if any(method == name for method, _ in self._measured)]
        return [self.words(name) for name in sorted(known, key=lambda name: order.index(name) if name in order else len(order))]

    def same(self, one: Variant, other: Variant, seed: int) -> bool:
        """Whether two names mean one model: under both the same weights were measured, as at the ends of most curves."""
        return one == other or self._weights.get((one, seed), "one") == self._weights.get((other, seed), "other")

    def same_backbone(self, one: Place, other: Place) -> bool:
        """Whether the probes of two models looked at the same weights, in every seed."""
        seen = [[{record.weights for record in self._probes(place[seed], seed)} for seed in sorted(place)] for place in (one, other)]
        return all(seen[0]) and seen[0] == seen[1]

    def is_reference(self, place: Place) -> bool:
        """Whether a model is the one that all are compared with, by whatever name."""
        return self.is_model(place, self.reference)

    def is_model(self, place: Place, method: str) -> bool:
        """Whether a model is that of a method without alpha, by whatever name."""
        return bool(place) and all(self.same(model, Variant(method), seed) for seed, model in place.items())

    def gain(self, quantity: Quantity, place: Place, split: str | None = None, than: str | None = None) -> Estimate | None:
        """How far a model is above the reference, or the method ``than``.

        None where it is that one, and of robustness where the backbone is the same.
        """
        than = than or self.reference
        other = dict.fromkeys(place, Variant(than))
        if self.is_model(place, than) or (quantity == ROBUSTNESS and self.same_backbone(place, other)):
            return None
        return self.difference(quantity, place, other, split)

    def _probes(self, model: Variant, seed: int) -> list[Record]:
        return [record for split in ("test", "val") for record in self._records.get((ROBUSTNESS, model, seed, split), {}).values()]

    def fixed(self, method: str, alpha: float | None = None) -> Place:
        """The same model for every seed."""
        return dict.fromkeys(self.seeds, Variant(method, alpha))

    def choices(self, method: str, rule: str) -> list[Chosen]:
        """What a rule chose for each seed."""
        return [choice for choice in self.results.chosen if (choice.method, choice.rule) == (method, rule)]

    def chosen(self, method: str | None = None, rule: str | None = None) -> Place:
        """The chosen model of each seed, by default the recommended one; empty when nothing was chosen or recommended.

        A choice that was made on all seeds together stands for each of them.
        """
        said = self._recommended()
        if method is None and said is not None:
            return self.fixed(*said)
        method, rule = method or self.headline, rule or self.rule
        alphas = {choice.seed: choice.alpha for choice in self.choices(method, rule)}
        if OVER_SEEDS in alphas:
            return self.fixed(method, alphas[OVER_SEEDS])
        return {seed: Variant(method, alpha) for seed, alpha in alphas.items()}

    def place_of(self, choice: Chosen) -> Place:
        """The model that one choice means, in the seeds it was made for."""
        return self.fixed(choice.method, choice.alpha) if choice.seed == OVER_SEEDS else {choice.seed: Variant(choice.method, choice.alpha)}

    def _recommended(self) -> Variant | None:
        """The model that the study names; without a sweep it can only be the one that the story is about."""
        study = self.results.study
        said = study.recommended or Variant(study.headline)
        return said if said in self._measured else None

    def chosen_rows(self, role: Role, split: str) -> dict[Variant, list[Row]]:
        """Rows of records of a role by model, the recommended one first under ``Variant(CHOSEN)`` whatever its alpha in each seed."""
        chosen, found = self.chosen(), dict[Variant, list[Row]]()
        rows = [row for row in self.results.rows if row.record.role == role and row.record.split == split]
        own = {row.seed for row in rows if chosen.get(row.seed) == row.variant}
        for row in rows:
            model, pick = row.variant, chosen.get(row.seed)
            # The same weights may only have been measured under another name, a baseline's; they are then shown as both.
            if pick is not None and (model == pick or (row.seed not in own and self.same(model, pick, row.seed))):
                found.setdefault(Variant(CHOSEN), []).append(row)
            if model != pick:
                found.setdefault(model, []).append(row)
        return dict(sorted(found.items(), key=lambda item: item[0] != Variant(CHOSEN)))

    def parts(self, quantity: Quantity, model: Variant, seed: int, split: str) -> list[Record]:
        """The records whose mean is a quantity: of one role, or one of ``probes``; empty when a probe is missing, as fewer would not compare."""
        if quantity in (ACCURACY, CLASS_MEAN):
            return list(self._records.get((str(quantity), model, seed, split), {}).values())[:1]
        if quantity in (CORRUPTED, CLEAN):
            # The same weights may only have been measured under another name, a baseline's.
            names = [model, *(other for other in self._measured if self.same(other, model, seed))]
            kept = (self._records.get((str(quantity), name, seed, split)) for name in names)
            return [record for _, record in sorted(next(filter(None, kept), {}).items(), key=lambda item: item[0])]
        found = self._records.get((ROBUSTNESS, model, seed, split), {})
        wanted = self.probes if quantity == ROBUSTNESS else [quantity]
        return [found[key] for key in wanted if key in found] if all(key in found for key in wanted) else []

    def mean(self, quantity: Quantity, place: Place, split: str | None = None) -> Estimate | None:
        """A quantity of a model over its seeds."""
        found = [self.parts(quantity, model, seed, split or self.shown(quantity)) for seed, model in sorted(place.items())]
        return over_seeds([mean_of(parts) for parts in found if parts])

    def difference(self, quantity: Quantity, one: Place, other: Place, split: str | None = None) -> Estimate | None:
        """How far one model is above another, paired by seed, and by item where records say which items were right.

        Without that, the items' interval takes the two as independent, which is far too wide; from three seeds on it is left out.
        """
        found, by_item = list[Estimate](), True
        for seed in sorted(set(one) & set(other)):
            a, b = (self.parts(quantity, place[seed], seed, split or self.shown(quantity)) for place in (one, other))
            if a and b and len(a) == len(b):
                found.append(difference_of(a, b))
                by_item = by_item and all(record.marks for record in (*a, *b))
        return over_seeds(found, -1.0, by_item)


def alpha_words(place: Place) -> str:
    """The alpha of a model, or the range over the seeds: ``α = 0.4``, ``α = 0.3–0.5``."""
    alphas = sorted({alpha for _, alpha in place.values() if alpha is not None})
    return words.equals(alphas[0], alphas[-1]) if alphas else words.NOTHING


def over_seeds(found: Sequence[Estimate], floor: float = 0.0, items: bool = True) -> Estimate | None:
    """The mean of one estimate a seed; a single one stays as it is, none is None.

    The interval is that over the seeds, widened to the items' mean interval if ``items``, between ``floor`` and 1. Of two seeds there is
    none, and it is that of the items.
    """
    if len(found) < 2:
        return found[0] if found else None
    values = [estimate.value for estimate in found]
    (mean, sd), over = mean_over_seeds(values), interval_over_seeds(values)
    of_items = [math.fsum(getattr(estimate, end) for estimate in found) / len(found) for end in ("low", "high")]
    low, high = over or of_items
    if items:
        low, high = min(low, of_items[0]), max(high, of_items[1])
    return Estimate(mean, max(floor, low), min(1.0, high), found[0].n, len(found), sd, found[0].objects)


def from_rows(rows: Sequence[Row]) -> Estimate | None:
    """The mean over seeds of rows that measure the same thing; of a seed that was measured twice one row counts."""
    records = [row.record for row in {row.seed: row for row in rows}.values()]
    return over_seeds([mean_of([record]) for record in records])


def as_fields(prefix: str, estimate: Estimate | None) -> dict[str, Any]:
    """An estimate as columns of a table."""
    fields = ("value", "low", "high", "sd")
    return {prefix if field == "value" else f"{prefix}_{field}": getattr(estimate, field, None) for field in fields}


def mean_of(records: Sequence[Record]) -> Estimate:
    """The mean of several records of one model.

    Those of the same items are averaged item by item: they share their luck. Those of other data are independent, so that their
    distances to the bounds add as squares (Newcombe 1998, method 10, for a linear function).
    """
    return _joined([(len(found), _bounds(found), found[0]) for found in _by_items(records)])


def difference_of(ours: Sequence[Record], theirs: Sequence[Record]) -> Estimate:
    """The mean of ours minus the mean of theirs, which were measured by the same measures on the same data in the same order."""
    pairs = zip(_by_items(ours), _by_items(theirs), strict=True)
    return _joined([(len(a), _apart(a, b), a[0]) for a, b in pairs])


def loss_of(clean: Record, spoilt: Sequence[Record]) -> Estimate:
    """The accuracy on clean clouds minus the mean of that on the same clouds spoilt in several ways."""
    return _joined([(1, _apart([clean], spoilt), clean)])


def _by_items(records: Sequence[Record]) -> list[list[Record]]:
    """The records of the same items together."""
    found: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        found.setdefault((record.data_digest, record.split, record.n), []).append(record)
    return list(found.values())


def _joined(parts: Sequence[tuple[int, Bounds, Record]]) -> Estimate:
    """Independent parts, each the mean of so many records, as the mean of all records."""
    total = sum(size for size, _, _ in parts)
    value = math.fsum(size * bounds[0] for size, bounds, _ in parts) / total
    down, up = (math.sqrt(math.fsum((size * (bounds[0] - bounds[side])) ** 2 for size, bounds, _ in parts)) / total for side in (1, 2))
    items = [record for _, _, record in parts]
    objects = sum(record.objects or record.n for record in items) if any(record.objects for record in items) else None
    return Estimate(value, value - down, value + up, sum(record.n for record in items), objects=objects)


def _bounds(records: Sequence[Record]) -> Bounds:
    """Mean and interval of records of the same items; where it is not known which were right, as if all went together."""
    value, marks = math.fsum(record.value for record in records) / len(records), _marks(records)
    if len(records) == 1 or marks is None:
        low, high = (math.fsum(getattr(record, end) for record in records) / len(records) for end in ("low", "high"))
    else:
        low, high = mean_interval(marks, records[0].groups)
    return value, low, high


def _apart(ours: Sequence[Record], theirs: Sequence[Record]) -> Bounds:
    marks, others = _marks(ours), _marks(theirs)
    if marks and others and len(marks) == len(others):
        return paired_difference(marks, others, groups=ours[0].groups)
    (a, *bounds_a), (b, *bounds_b) = _bounds(ours), _bounds(theirs)
    return (a - b, *difference_interval(a, (bounds_a[0], bounds_a[1]), b, (bounds_b[0], bounds_b[1])))


def _marks(records: Sequence[Record]) -> list[float] | None:
    """Of each item how often it was right; None where that is not known of all."""
    known = [record.marks or [] for record in records]
    same = all(len(marks) == records[0].n for marks in known)
    return [math.fsum(column) / len(known) for column in zip(*known, strict=True)] if same else None
