"""One line that concludes: which model to take, and what is shown of it.

Advice rests on the recommended model, which validation data chose. A baseline goes before it where its means are no lower on the split that is shown
and on validation data (docs/protocol.md): means, so a lead may be one of luck, and the line says whether a difference is shown. No model is taken
for its test numbers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wisetune.records import LEAST_SEEDS
from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board, Estimate, Place
from wisetune.report.rival import QUANTITIES, Rival, cheaper, itself

_CALLED: Mapping[str, str] = {b.ACCURACY: "accuracy", b.ROBUSTNESS: "robustness", b.CORRUPTED: "accuracy under corruption"}
Changes = Mapping[str, Estimate]
"""By quantity how far one model is above another."""


class Conclusion(NamedTuple):
    """The line, empty where nothing is compared; and the baseline that it takes instead of the recommended model, if it does."""

    text: str
    instead: str | None = None


def concluded(board: Board, after: Place, rival: Rival | None) -> Conclusion:
    """What follows for a user: the recommended model, a baseline that is as good, or what it is compared with.

    A baseline that is as good or better on the split that is shown and on validation data goes first. Else the recommended model has to
    show a gain over the reference; and one over linear probing, the cheapest, unless that loses where the recommended model does not.
    """
    ours, than = board.named(after), board.called(board.reference)
    changes = changes_of(board, after, board.reference) if after else {}
    if rival and rival.dominates and rival.on_val:
        return Conclusion(_rather(board, after, rival), rival.method)
    if after and (same := itself(board, after)):
        cost = f", and {board.called(same)} costs less" if same == "lp" and not _of(changes, 1) + _of(changes, -1) else ""
        against = f" Against {than} {_shown(changes)}{cost}.{_seeds(board, changes)}" if changes else ""
        return Conclusion(f"Take {board.called(same)}: {ours} is the same model.{against}")
    if not changes:
        return Conclusion("")
    if _probing_will_do(board, after, changes):
        return Conclusion(
            f"Keep linear probing: on these scans no gain of {ours} over linear probing is shown, and nothing costs less.", "lp"
        )
    gained, lost = _of(changes, 1), _of(changes, -1)
    if not gained and not lost:
        return Conclusion(f"Keep {than}: on these scans no gain of {ours} over {than} is shown.", board.reference)
    if gained and lost:
        told = f"Take {ours} only where its gain is worth its loss: against {than} {_shown(changes)}."
    elif gained:
        told = f"Take {ours} rather than {than}: {_shown(changes)}.{_beside(board, after, rival)}"
    else:
        told = f"Keep {than}: of {ours} against {than} {_shown(changes)}, and no gain."
    return Conclusion(told + _seeds(board, changes), None if gained else board.reference)


def changes_of(board: Board, place: Place, than: str) -> dict[str, Estimate]:
    """By quantity how far a model is above a method; what was not measured of both, or is the same, is left out."""
    return {name: found for name in (*QUANTITIES, b.CORRUPTED) if (found := board.gain(name, place, than=than))}


def _rather(board: Board, after: Place, rival: Rival) -> str:
    """A baseline is to be taken instead."""
    name, than = board.called(rival.method), board.called(board.reference)
    where = "on the validation split" if board.split == "val" else "on the test and the validation split"
    cost = f", and {name} costs less" if cheaper(after, rival) else ""
    ours, verb = board.named(after), "are" if len(rival.scores) > 1 else "is"
    told = f"Take {name} rather than {ours}: {words.joined(rival.scores)} of {name} {verb} on average no lower {where}{cost}."
    ahead = [f"{_CALLED[quantity]} ({words.points(-rival.gain[quantity].value)} points)" for quantity in _of(rival.gain, -1)]
    if ahead:
        told += f" A gain of {words.joined(ahead)} over {ours} is shown."
    elif rival.gain:
        told += f" No difference in {words.joined(map(_CALLED.__getitem__, rival.gain), 'or')} is shown between the two."
    changes: Changes = {} if rival.method == board.reference else changes_of(board, board.fixed(rival.method), board.reference)
    # Named, as the numbers below are mostly those of the recommended model.
    told += f" Of {name} against {than} {_shown(changes)}." if changes else ""
    return told + (_seeds(board, changes) or _seeds(board, rival.gain))


def _probing_will_do(board: Board, after: Place, changes: Changes) -> bool:
    """Whether no gain over linear probing is shown, and probing has lost nothing against the reference that the model has not."""
    if "lp" not in board.baselines() or board.reference == "lp":
        return False
    over, probing = changes_of(board, after, "lp"), changes_of(board, board.fixed("lp"), board.reference)
    return bool(over) and not _of(over, 1) and set(_of(probing, -1)) <= set(_of(changes, -1))


def _beside(board: Board, after: Place, rival: Rival | None) -> str:
    """What is shown against the best baseline, where that is not the reference."""
    if rival is None or rival.method == board.reference or not rival.gain:
        return ""
    name, gained, lost = board.called(rival.method), _of(rival.gain, 1), _of(rival.gain, -1)
    best = "" if rival.dominates else ", the best other baseline,"
    if lost:
        return f" Weigh {name}{best} too: against {name} {_shown(rival.gain)}."
    if gained:
        return f" Over {name}{best} a gain of {words.joined(gained)} is shown too."
    return f" Over {name}{best} no gain is shown{f', and {name} costs less' if cheaper(after, rival) else ''}."


def _shown(changes: Changes) -> str:
    """The gains and losses that are shown, with their size, and whether a loss is not."""
    told: list[str] = []
    for kind, sign in (("gain", 1), ("loss", -1)):
        sizes = [f"{_CALLED[name]} ({words.points(changes[name].value)} points)" for name in _of(changes, sign)]
        told += [f"a {kind} of {words.joined(sizes)}"] if sizes else []
    rest = [_CALLED[name] for name in _of(changes, 0)]
    if not told:
        return f"no difference in {words.joined(rest, 'or')} is shown"
    if _of(changes, -1) or not rest:
        return f"{words.joined(told)} {'are' if len(told) > 1 else 'is'} shown"
    return f"{told[0]} is shown, a loss of {words.joined(rest, 'or of')} is not"


def _of(changes: Changes, sign: int) -> list[str]:
    """The quantities in which a gain (1), a loss (-1) or neither (0) is shown."""
    return [name for name, found in changes.items() if found.shown == sign]


def _seeds(board: Board, changes: Changes) -> str:
    """What few seeds mean for that."""
    unsure = len(board.seeds) < LEAST_SEEDS and any(one.shown for one in changes.values())
    return f" That is of these models: train with at least {LEAST_SEEDS} seeds before you rely on it." if unsure else ""
