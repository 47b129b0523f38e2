"""What a study of many ways to tune concludes: of which a difference from the reference is shown, and of which none. No winner is named.

The highest of many is high by luck too, and to take it for its test numbers would be to choose on them. What each costs is no matter of luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wisetune.records import LEAST_SEEDS
from wisetune.report import words
from wisetune.report.board import Board, Estimate
from wisetune.report.rival import QUANTITIES

_MANY = 10
"""From so many differences on it is said how many are shown by chance."""


class Differences(NamedTuple):
    """What is shown of all, empty where nothing was measured of two; and sentences beside it."""

    text: str
    beside: list[str]


def differences_of(board: Board) -> Differences:
    """Of a board that ``compares``."""
    others = [name for name in board.baselines() if name != board.reference]
    changes = {quantity: found for quantity in QUANTITIES if (found := _changes(board, quantity, others))}
    than = board.called(board.reference)
    told = [
        differences(quantity, than, {board.called(name): found[name] for name in others if name in found})
        for quantity, found in changes.items()
    ]
    found = [one for each in changes.values() for one in each.values()]
    if len(board.seeds) < LEAST_SEEDS and any(one.shown for one in found):
        told.append(f"That is of these models: train with at least {LEAST_SEEDS} seeds before you rely on it.")
    beside = list[str]()
    if luck := by_chance(len(found)):
        beside.append(luck)
    lost = {name for each in changes.values() for name, one in each.items() if one.shown < 0}
    beside += _cheapest(board, [name for name in others if name not in lost])
    return Differences(" ".join(told), beside)


def _changes(board: Board, quantity: str, methods: Sequence[str]) -> dict[str, Estimate]:
    return {name: found for name in methods if (found := board.gain(quantity, board.fixed(name)))}


def differences(quantity: str, than: str, changes: Mapping[str, Estimate], all_of: str = "others") -> str:
    """Of which methods, as they are called, a gain or a loss of one quantity is shown, the largest first; and of how many none.

    ``all_of`` is what they are called where none is shown of any.
    """
    told = list[str]()
    for kind, sign in (("gain", 1), ("loss", -1)):
        shown = sorted((name for name, one in changes.items() if one.shown == sign), key=lambda name: -sign * changes[name].value)
        if shown:
            told.append(f"a {kind} for {words.joined(f'{name} ({words.points(changes[name].value)} points)' for name in shown)}")
    rest = sum(not one.shown for one in changes.values())
    if rest:
        others = "the other" if rest == 1 else f"the other {rest}" if told else f"any of the {rest} {all_of}"
        told.append(f"no difference for {others}")
    first, *more = told
    return f"{words.capital(quantity)} against {than}: {', '.join([first.replace(' for ', ' is shown for ', 1), *more])}."


def by_chance(count: int) -> str:
    """How many of so many differences are shown by luck; empty where they are few."""
    return f"Of {count} differences about {max(1, round(count / 20))} would be shown by chance alone." if count >= _MANY else ""


def _cheapest(board: Board, methods: Sequence[str]) -> list[str]:
    """Of these, among which accuracy and robustness do not tell, the ones that cost least: that is counted, not measured."""
    costs = {name: board.results.costs[name] for name in methods if name in board.results.costs}
    if len(costs) < 2:
        return []
    fewest = min(costs, key=lambda name: costs[name].trainable)
    told = f"{board.called(fewest)} trains the fewest values ({words.short(costs[fewest].trainable)})"
    sizes = {name: cost.memory_peak for name, cost in costs.items() if cost.memory_peak is not None}
    if sizes:
        least = min(sizes, key=lambda name: sizes[name])
        held = f"the least memory ({words.size(sizes[least])})"
        told += f" and takes {held}" if least == fewest else f", {board.called(least)} takes {held}"
    return [f"Of the {len(costs)} without a shown loss {told}; that none is shown does not show that there is none."]
