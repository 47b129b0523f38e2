"""The choice of alpha: pure functions of a curve, each of which can say in plain words why it chose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from wisetune.errors import UsageError
from wisetune.records import Z95_ONE_SIDED, difference_interval, paired_difference, wilson
from wisetune.results import Step
from wisetune.weights.alphas import tidy

Stop = Literal["accuracy", "robustness", "end of grid"]
_Row = tuple[float, float, float]
"""Alpha, accuracy, robustness."""
_ALONE = "no other alpha was measured"
_DUST = 1e-9
"""Percentage points below which a difference is rounding: 90.0 - 89.9 must count as 0.1."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Accuracy and robustness at each alpha, measured on *validation* data, as fractions in [0, 1].

    Points may come in any order; they are kept from alpha 1 down, with tidy alphas. What else is known about the accuracies serves
    ``interval_alpha``, the first of these that is given: ``right`` (per alpha one mark an item, the same items in the same order: right
    or wrong, or in between where it is a mean over seeds; with ``groups``, what each item is a scan of), ``intervals`` (per alpha,
    low and high), ``n`` (items measured).

    Raises:
        UsageError: lengths that differ; no alpha 1; an alpha twice; a value that is NaN or no fraction; ``right``, ``groups`` or
            ``intervals`` at odds with the rest.
    """

    alphas: Sequence[float]
    accuracy: Sequence[float]
    robustness: Sequence[float]
    n: int | None = None
    intervals: Sequence[tuple[float, float]] | None = None
    right: Sequence[Sequence[float]] | None = None
    groups: Sequence[int] | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name not in ("n", "groups")}
        columns = {name: list(values) for name, values in given.items() if values is not None}
        alphas = [tidy(alpha) for alpha in columns["alphas"]]
        for name, values in columns.items():
            if len(values) != len(alphas):
                raise UsageError(f"the curve has {len(alphas)} alphas and {len(values)} values of {name}; each alpha needs one.")
        if 1.0 not in alphas:
            raise UsageError("the curve has no alpha 1, the fine-tuned model to which all others are compared; measure it too.")
        order = sorted(range(len(alphas)), key=lambda row: -alphas[row])
        for name in ("accuracy", "robustness"):
            for row in order:
                if not 0.0 <= columns[name][row] <= 1.0:
                    raise UsageError(
                        f"{name} at alpha {alphas[row]:g} is {columns[name][row]}; it must be a fraction between 0 and 1 "
                        "(divide percentages by 100; a failed measure is left out together with its alpha)."
                    )
        columns |= {"alphas": alphas, **{name: list(map(float, columns[name])) for name in ("accuracy", "robustness")}}
        for name, values in columns.items():
            object.__setattr__(self, name, tuple(values[row] for row in order))
        for one, other in zip(self.alphas, self.alphas[1:], strict=False):
            if one == other:
                raise UsageError(f"the curve has alpha {one:g} twice; leave one out.")
        for alpha, accuracy, (low, high) in zip(self.alphas, self.accuracy, self.intervals or (), strict=False):
            if not low - 1e-9 <= accuracy <= high + 1e-9:
                raise UsageError(f"at alpha {alpha:g} the accuracy {accuracy} lies outside its interval, {low} to {high}.")
        for alpha, accuracy, right in zip(self.alphas, self.accuracy, self.right or (), strict=False):
            if abs(sum(right) - accuracy * len(right)) > 1e-6 * len(right) or not len(right):
                raise UsageError(f"at alpha {alpha:g} {sum(right):g} of {len(right)} right do not make the accuracy {accuracy}.")
            if self.groups is not None and len(self.groups) != len(right):
                raise UsageError(f"at alpha {alpha:g} there are {len(right)} marks, but groups of {len(self.groups)} items.")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The alpha a rule chose, what it scores (fractions), why the rule stopped, every test on the way, and in few words what ``decided``."""

    alpha: float
    accuracy: float
    robustness: float
    stopped_by: Stop
    steps: tuple[Step, ...]
    rule: str
    finetuned_accuracy: float
    finetuned_robustness: float
    decided: str

    def explain(self) -> str:
        """The choice in plain words: the rule, one line a test, the result against the fine-tuned model."""
        end = "Every alpha was tried: " if self.stopped_by == "end of grid" else "Stopped because "
        lines = [
            f"Rule: {self.rule}.",
            f"alpha 1 (fine-tuned): accuracy {_percent(self.finetuned_accuracy)}, robustness {_percent(self.finetuned_robustness)}.",
            *map(_in_words, self.steps),
            f"{end}{self.decided}. Chosen: alpha {self.alpha:g}, accuracy {_percent(self.accuracy)} "
            f"({_points(100 * (self.accuracy - self.finetuned_accuracy))} against alpha 1), robustness {_percent(self.robustness)} "
            f"({_points(100 * (self.robustness - self.finetuned_robustness))}).",
        ]
        return "\n".join(lines)


def greedy_alpha(
    curve: Curve,
    *,
    tolerance: float = 0.1,
    reference: Literal["finetuned", "previous"] = "finetuned",
    first_step: Literal["tested", "free"] = "tested",
) -> Choice:
    """The greedy rule of WiSE-FT-LP: from alpha 1 down, while accuracy holds and robustness does not fall.

    A candidate is accepted when its accuracy is at most ``tolerance`` *percentage points* below the reference and its robustness is not
    below that of the alpha accepted before. The first refusal ends the search; the last accepted alpha is the result.

    Args:
        curve: what was measured on validation data.
        tolerance: percentage points; a drop of exactly this much is accepted.
        reference: what accuracy is compared with: the ``finetuned`` model (alpha 1) or the ``previous`` accepted alpha, under which
            small drops may add up. The paper does not say; its Point-M2AE numbers need the first.
        first_step: ``free`` accepts the first candidate untested, which is what most rows of the published table need; ``tested`` is
            what the text says.

    Raises:
        UsageError: a negative tolerance or an unknown word.
    """
    if not tolerance >= 0:
        raise UsageError(f"tolerance is {tolerance}; it must be 0 or more percentage points.")
    _one_of("reference", reference, ("finetuned", "previous"))
    _one_of("first_step", first_step, ("tested", "free"))
    finetuned, *candidates = _rows(curve)
    accepted = finetuned
    stopped_by: Stop = "end of grid"
    decided = "none is refused" if candidates else _ALONE
    steps: list[Step] = []
    for candidate in candidates:
        base = finetuned if reference == "finetuned" else accepted
        change, gain = 100 * (candidate[1] - base[1]), 100 * (candidate[2] - accepted[2])
        falls = change < -tolerance - _DUST
        declines = gain < -_DUST
        free = first_step == "free" and not steps
        good = free or not (falls or declines)
        lost = [f"accuracy is more than {_worth(tolerance)} below alpha {base[0]:g}"] if falls else []
        lost += [f"robustness is below alpha {accepted[0]:g}"] if declines else []
        why = "the first step is free" if free else " and ".join(lost) or "accuracy and robustness hold"
        steps.append(Step(*candidate, change, gain, good, why))
        if not good:
            stopped_by = "accuracy" if falls else "robustness"
            decided = f"{'accuracy fell too far' if falls else 'robustness fell'} at alpha {candidate[0]:g}"
            break
        accepted = candidate
    rule = (
        f"greedy, from alpha 1 down while accuracy is at most {_worth(tolerance)} below that of "
        f"{'alpha 1' if reference == 'finetuned' else 'the alpha before'} and robustness not below that of the alpha before"
        f"{'; the first step is free' if first_step == 'free' else ''}"
    )
    return Choice(*accepted, stopped_by, tuple(steps), rule, *finetuned[1:], decided)


def interval_alpha(curve: Curve, *, margin: float = 1.0) -> Choice:
    """The rule that knows how many items were measured: the most robust alpha at which no accuracy is lost.

    A candidate is accepted if no loss of accuracy against the fine-tuned model is *shown* (the upper end of the interval of the change is
    not below zero) and the loss that is *seen* is at most ``margin``. With many items the interval decides: a small loss that is sure is
    one. With few items hardly any loss can be shown, and the margin decides. Every alpha is tried, not only those above the first that is
    refused: accuracy along alpha is a curve with noise, and one dip close to alpha 1 says nothing of what lies beyond. Of the accepted
    alphas, alpha 1 among them, the most robust wins; ties go to the more accurate, then to the larger alpha.

    The interval of the change is, by what the curve has: ``right``: the paired interval, one-sided 95 %
    (``records.paired_difference``; Newcombe's where the marks are answers and there are no groups); ``intervals``: square-and-add of the
    two, at their level (two-sided 95 % intervals make a one-sided 97.5 % test); ``n``: the same with Wilson intervals, one-sided 95 %.
    The last two treat the same items as independent, so they see a loss later than the first.

    That no loss was shown does not show that there is none: each ``Step`` says how large a loss still fits the data.

    Args:
        curve: what was measured on validation data.
        margin: percentage points of accuracy that may be given up for robustness; ``inf`` leaves the interval alone to decide.

    Raises:
        UsageError: a negative margin, or the curve has none of ``right``, ``intervals``, ``n``.
    """
    if not margin >= 0:
        raise UsageError(f"margin is {margin}; it must be 0 or more percentage points.")
    rows = _rows(curve)
    finetuned, kept = rows[0], [rows[0]]
    steps: list[Step] = []
    for at, candidate in enumerate(rows[1:], start=1):
        low, high = (100 * bound for bound in _change(curve, at))
        change, gain = 100 * (candidate[1] - finetuned[1]), 100 * (candidate[2] - finetuned[2])
        shown, large = high < -_DUST, change < -margin - _DUST
        good = not (shown or large)
        why = f"accuracy is more than {_worth(margin)} lower" if large else "no loss of accuracy is shown"
        why = "a loss of accuracy is shown" if shown else why
        steps.append(Step(*candidate, change, gain, good, why, low, high))
        if good:
            kept.append(candidate)
    robust = _highest(kept, 2)
    accurate = _highest(robust, 1)
    best = max(accurate)
    seen = f" and at most {_worth(margin)} seen" if margin < float("inf") else ""
    rule = f"interval, the most robust alpha at which no loss of accuracy against alpha 1 is shown{seen}; of equally robust ones "
    rule += "the most accurate, of these the largest"
    decided = _decided(len(kept), len(robust), len(accurate)) if len(rows) > 1 else _ALONE
    return Choice(*best, "end of grid", tuple(steps), rule, *finetuned[1:], decided)


def _highest(rows: Sequence[_Row], column: int) -> list[_Row]:
    """The rows with the highest value there. Rounding makes equal ones equal: dust must not outweigh what comes next."""
    top = max(round(row[column], 11) for row in rows)
    return [row for row in rows if round(row[column], 11) == top]


def _decided(accepted: int, robust: int, accurate: int) -> str:
    """What singled the chosen alpha out: of so many accepted so many are the most robust, and of these so many the most accurate."""
    if accepted == 1:
        return "no other is accepted"
    if robust == 1:
        return "the most robust of those accepted"
    ties = "all accepted are equally robust" if robust == accepted else f"{robust} of those accepted are equally the most robust"
    if accurate == 1:
        return f"{ties}, of these the most accurate"
    if accurate == robust:
        return f"{ties}, and equally accurate, of these the largest alpha"
    return f"{ties}, {accurate} of these equally the most accurate, of these the largest alpha"


def _change(curve: Curve, at: int) -> tuple[float, float]:
    """Interval of the accuracy of point ``at`` minus that of alpha 1, as fractions."""
    if curve.right is not None:
        _, low, high = paired_difference(curve.right[at], curve.right[0], Z95_ONE_SIDED, curve.groups)
        return low, high
    one, other = curve.accuracy[at], curve.accuracy[0]
    if curve.intervals is not None:
        return difference_interval(one, curve.intervals[at], other, curve.intervals[0])
    if curve.n is not None:
        n = curve.n
        return difference_interval(one, wilson(one * n, n, Z95_ONE_SIDED), other, wilson(other * n, n, Z95_ONE_SIDED))
    raise UsageError("interval_alpha needs to know how sure the accuracies are: give the curve right, intervals or n.")


def _one_of(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise UsageError(f"{name} is '{value}'; it can be {', '.join(words)}.")


def _rows(curve: Curve) -> list[_Row]:
    return list(zip(curve.alphas, curve.accuracy, curve.robustness, strict=True))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _in_words(step: Step) -> str:
    """One test with its numbers."""
    bounds = f", by the data {step.change_low:+.3g} to {step.change_high:+.3g}" if step.change_low is not None else ""
    return (
        f"alpha {step.alpha:g}: accuracy {_percent(step.accuracy)} ({_points(step.accuracy_change)}{bounds}), "
        f"robustness {_percent(step.robustness)} ({_points(step.robustness_change)}): {'accepted' if step.accepted else 'refused'}, {step.why}."
    )


def _worth(points: float) -> str:
    return f"{points:g} point{'s' * (points != 1)}"


def _points(change: float) -> str:
    return "0 points" if abs(change) < _DUST else f"{change:+.3g} points"
