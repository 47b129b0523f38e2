"""The clouds that a page shows, in groups under headings that are true of all in them."""

from __future__ import annotations

import dataclasses

from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board
from wisetune.results import Cloud

_MOST_POINTS = 4096


@dataclasses.dataclass(frozen=True)
class Look:
    """Clouds to look at, what they are, and what else is to be said of them."""

    heading: str
    note: str
    clouds: list[Cloud]


def looks_of(board: Board) -> list[Look]:
    """The clouds that the recommended model of the first seed got wrong, and apart from them those that it got right."""
    clouds, first = board.results.clouds, board.results.study.seeds[:1]
    wrong = [cloud for cloud in clouds if cloud.predicted != cloud.true]
    right = [cloud for cloud in clouds if cloud.predicted == cloud.true]
    # Of many models beside one another it is not clear which one is meant.
    who = board.called(board.reference) if board.compares else "the model"
    model = f"{words.capital(who)} of seed {first[0]}" if len(board.seeds) > 1 and first else words.capital(who)
    least = "the ones whose true class it found least probable"
    missed = _missed(board)
    found = []
    if wrong:
        # A file may hold a part of those that were wrong, or not say how many these were.
        n = missed[0] if missed else None
        told = "" if missed is None else f"{model} took {n:,} of {words.counted(missed[1], 'test scan')} for something else. "
        which = "These are they" if n == len(wrong) else f"These are {least}"
        found.append(Look(f"The scans {who} got most wrong", f"{told}{which}.", wrong))
    if right:
        none = f"{model} took all of {words.counted(missed[1], 'test scan')} for what they are. " if missed and missed[0] == 0 else ""
        found.append(Look("Right, but least sure", f"{none}Of the scans that {who} classified right these are {least}.", right))
    return found


def _missed(board: Board) -> tuple[int, int] | None:
    """How many test clouds the model of the first seed got wrong, and of how many; None where that was not measured."""
    for seed in board.results.study.seeds[:1]:
        model = board.chosen().get(seed)
        for record in board.parts(b.ACCURACY, model, seed, "test") if model else ():
            return round((1 - record.value) * record.n), record.n
    return None


def thin(cloud: Cloud) -> list[int]:
    """The points of a cloud as they go into the page: evenly thinned where there are more than a small view can show."""
    count = len(cloud.points) // 3
    step = -(-count // _MOST_POINTS) or 1
    return [coordinate for start in range(0, 3 * count, 3 * step) for coordinate in cloud.points[start : start + 3]]
