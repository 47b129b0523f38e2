"""The baseline that the recommended model has to stand up to, and what is to be said of the two.

Means say which is ahead, intervals whether that is known. To pick a baseline for its test numbers would be to choose on the test split: of
several the one that is best on validation data is picked, and what is advised rests on both splits.
"""

from __future__ import annotations

import dataclasses

from wisetune.records import LEAST_SEEDS
from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board, Estimate, Place

QUANTITIES: tuple[str, ...] = (b.ACCURACY, b.ROBUSTNESS)
"""In which a baseline has to be as good."""


@dataclasses.dataclass(frozen=True)
class Rival:
    """A baseline beside the recommended model.

    ``dominates``: its means are as good or better in all that is shown; ``on_val``: on the validation split too, None where nothing is
    known of that. ``gain`` is the recommended model minus it; a quantity is missing where both have it from the same weights. ``also`` are
    others that dominate where this one does.
    """

    method: str
    scores: dict[str, Estimate]
    gain: dict[str, Estimate]
    dominates: bool
    on_val: bool | None
    also: tuple[str, ...] = ()


def rival_of(board: Board, after: Place) -> Rival | None:
    """The baseline with the highest mean of accuracy and robustness on the validation split; None where there is none.

    Of those that dominate on both splits, if any; else of those that dominate in what is shown; else of all but the reference, with which
    everything is compared anyway.
    """
    ours = _means(board, after)
    others = [name for name in board.baselines() if ours and not board.is_model(after, name)]
    found = {name: scores for name in others if (scores := _means(board, board.fixed(name))).keys() == ours.keys()}
    over = {name: _dominates(board, name, after, "val") for name in found if _dominates(board, name, after)}
    sure = [name for name, on_val in over.items() if on_val]
    known = {name: _means(board, board.fixed(name), "val") for name in found}
    # What is missing on val for one cannot rank it among the others.
    ranked = known if all(scores.keys() == ours.keys() for scores in known.values()) else found
    best = max(
        sure or over or [name for name in found if name != board.reference],
        key=lambda name: sum(map(_value, ranked[name].values())),
        default=None,
    )
    if best is None:
        return None
    gain = {name: one for name in QUANTITIES if (one := board.gain(name, after, than=best))}
    on_val = _dominates(board, best, after, "val")
    also = tuple(name for name in over if name != best and over[name] == on_val)
    return Rival(best, found[best], gain, bool(over), on_val, also)


def itself(board: Board, after: Place) -> str | None:
    """The baseline that the recommended model is, by another name."""
    names = [name for name in board.baselines() if name != board.headline and board.is_model(after, name)]
    return next((name for name in names if name == board.reference), next(iter(names), None))


def cheaper(after: Place, rival: Rival) -> bool:
    """Whether the baseline costs less: a whole sweep costs more than any, of which fine-tuning is a part; and nothing costs less than a head."""
    return any(alpha is not None for _, alpha in after.values()) or rival.method == "lp"


def told(board: Board, after: Place, rival: Rival) -> str:
    """How the recommended model stands beside the best baseline, in words."""
    name, ours = board.called(rival.method), board.called(board.headline)
    scores = words.joined(f"{words.percent(one.value)}{words.NBSP}%" for one in rival.scores.values())
    both = " in both" if len(rival.scores) > 1 else ""
    changes = [f"{words.difference(one.value, one.low, one.high)} points of {of} ({judged(one)})" for of, one in rival.gain.items()]
    # Against the reference another sentence says it.
    against = f"Against {name} {ours} has {words.joined(changes)}." if changes and rival.method != board.reference else ""
    if not rival.dominates:
        other = "other " if board.reference in board.baselines() and not board.is_reference(after) else ""
        said = f"No baseline is as good{both}; the best {other}one is {name} ({scores})."
    else:
        also = f", as is {words.joined(map(board.called, rival.also))}" if rival.also else ""
        said = f"{words.capital(name)} is as good or better{both}"
        if board.split == board.probed == "val":
            said += f" ({scores}){also}"
        elif rival.on_val:
            said += f", here ({scores}) and on the validation split{also}"
        else:
            known = "; without validation data it is not known whether that is"
            luck = (known if rival.on_val is None else ", but not on the validation split: that may be") + " the luck of these scans"
            said += f" here ({scores}){also}{luck}"
        said += f", and {name} costs less." if rival.on_val and cheaper(after, rival) else "."
    return f"{said} {against}".strip()


def judged(found: Estimate) -> str:
    """Whether a difference is known to be one.

    The interval of fewer than three seeds is over the items alone: it knows of these models, not of those that other seeds would train.
    """
    if not found.shown:
        return "no difference shown"
    return ("a gain" if found.shown > 0 else "a loss") + (" for these models" if found.seeds < LEAST_SEEDS else "")


def _means(board: Board, place: Place, split: str | None = None) -> dict[str, Estimate]:
    return {name: found for name in QUANTITIES if (found := board.mean(name, place, split))}


def _dominates(board: Board, baseline: str, after: Place, split: str | None = None) -> bool | None:
    """Whether a baseline is as good or better in all that is shown; None where not all of that was measured of both on this split."""
    theirs, ours = _means(board, board.fixed(baseline), split), _means(board, after, split)
    if not theirs.keys() == ours.keys() == _means(board, after).keys():
        return None
    return all(theirs[name].value >= ours[name].value for name in ours)


def _value(estimate: Estimate) -> float:
    return estimate.value
