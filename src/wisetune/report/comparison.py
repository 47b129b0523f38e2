"""Ways to tune compared on one task: by one run, or by the folds of that task, which are a run each.

The folds of a task are several draws from the same clouds, as the field's few-shot tables have them. Each was trained on other clouds and measured on
others, so what the folds say of accuracy is a mean over folds with Student's interval, and of a difference the same of the differences
fold by fold. Robustness is measured on the same items in each: there the interval is at least theirs, as over seeds.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from wisetune.errors import UsageError
from wisetune.records import LEAST_SEEDS
from wisetune.report import words
from wisetune.report.board import ROBUSTNESS, Board, Estimate, over_seeds
from wisetune.report.markdown import training_of
from wisetune.report.rival import QUANTITIES
from wisetune.results import FOLD, FOLDS_OF

LEAST_FOLDS = LEAST_SEEDS
"""Of fewer no interval is computed, so that they stand apart."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One run, or the runs of a task's ``folds`` in the order of their numbers."""

    boards: tuple[Board, ...]
    folds: tuple[int, ...] = ()

    @property
    def board(self) -> Board:
        """The first of them, which speaks for all in what they share."""
        return self.boards[0]

    @property
    def name(self) -> str:
        """What was compared on, in few words; of a fold that stands apart the number is told, the first one's too."""
        task = self.board.results.study.task
        if self.folds:
            return str(task.protocol.get("few-shot") or task.protocol[FOLDS_OF])
        return f"{task.name},{FOLD}=0" if task.name == task.protocol.get(FOLDS_OF) else task.name

    @functools.cached_property
    def methods(self) -> list[str]:
        """What was measured in every run, the reference first."""
        there = [set(board.baselines()) for board in self.boards]
        return [name for name in self.board.baselines() if all(name in names for names in there)]

    @property
    def others(self) -> list[str]:
        """The same without the reference."""
        return [name for name in self.methods if name != self.board.reference]

    @property
    def lacking(self) -> dict[str, int]:
        """What is missing in some folds, and of how many it is known."""
        there = dict.fromkeys(name for board in self.boards for name in board.baselines())
        counts = {name: sum(name in board.baselines() for board in self.boards) for name in there}
        return {self.called(name): count for name, count in counts.items() if count < len(self.boards)}

    def called(self, method: str) -> str:
        """A method's short name."""
        return next((board.called(method) for board in self.boards if method in board.baselines()), method)

    def mean(self, quantity: str, method: str) -> Estimate | None:
        """A quantity of a method; over folds the mean of theirs."""
        return self._over(quantity, [board.mean(quantity, board.fixed(method)) for board in self.boards], 0.0)

    def gain(self, quantity: str, method: str, than: str | None = None) -> Estimate | None:
        """How far a method is above the reference, or above another; over folds the mean of the differences, fold by fold."""
        return self._over(quantity, [board.gain(quantity, board.fixed(method), than=than) for board in self.boards], -1.0)

    def gains(self, quantity: str) -> dict[str, Estimate]:
        """Of every method that it is known of, by what it is called."""
        return {self.called(name): found for name in self.others if (found := self.gain(quantity, name))}

    def _over(self, quantity: str, found: Sequence[Estimate | None], floor: float) -> Estimate | None:
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        if not self.folds:
            return known[0]
        same_items = quantity == ROBUSTNESS
        mean = over_seeds(known, floor, items=same_items)
        return mean if same_items or mean is None else dataclasses.replace(mean, n=sum(one.n for one in known), objects=None)


def compared_on(boards: Sequence[Board]) -> list[Comparison]:
    """One of each run, and one of the folds of each task that there are at least three of and that differ in nothing else.

    Raises:
        UsageError: a fold is there twice: it would count twice.
    """
    groups = dict[object, list[tuple[int, Board]]]()
    for number, board in enumerate(boards, 1):
        groups.setdefault(_kin(board) or number, []).append((number, board))
    found = list[Comparison]()
    for kin, runs in groups.items():
        if isinstance(kin, int) or len(runs) == 1:
            found += [Comparison((board,)) for _, board in runs]
            continue
        placed = dict[int, tuple[int, Board]]()
        for number, board in runs:
            fold = _fold(board)
            if fold in placed:
                raise UsageError(
                    f"runs {placed[fold][0]} and {number} of those given are both fold {fold} of '{_of(board)}', and a fold counts once. "
                    "Give one of them."
                )
            placed[fold] = number, board
        if len(placed) < LEAST_FOLDS:
            found += [Comparison((board,)) for _, board in runs]
        else:
            found.append(Comparison(tuple(placed[fold][1] for fold in sorted(placed)), tuple(sorted(placed))))
    return found


def _of(board: Board) -> str:
    return str(board.results.study.task.protocol.get(FOLDS_OF, ""))


def _fold(board: Board) -> int:
    return int(board.results.study.task.protocol.get(FOLD, 0))


def _kin(board: Board) -> object:
    """What folds must have in common to be counted together; None of a task without folds."""
    study = board.results.study
    if not _of(board):
        return None
    probes = [(probe.spec, probe.digest) for probe in study.probes]
    told = _of(board), study.start_weights, study.architecture, training_of(study), probes, board.seeds, board.split, board.probed
    return repr((*told, board.reference))


def few_folds(found: Sequence[Comparison]) -> list[str]:
    """Which folds stand apart: too few, or too different, to be counted together."""
    apart = dict[str, list[int]]()
    for one in found:
        if _of(one.board) and not one.folds:
            apart.setdefault(_of(one.board), []).append(_fold(one.board))
    return [
        f"Folds of `{of}` are counted together where at least {LEAST_FOLDS} differ in nothing but their draw; here {words.joined(map(str, folds))} "
        f"{'stands' if len(folds) == 1 else 'stand'} apart."
        for of, folds in apart.items()
    ]


def among(found: Sequence[Comparison]) -> list[tuple[str, str]]:
    """The methods of all, the reference of the first at the beginning: how each is spelled, and called."""
    spelled = dict.fromkeys(name for one in found for name in one.methods)
    return [(name, next(one.called(name) for one in found if name in one.methods)) for name in spelled]


def names(found: Sequence[Comparison]) -> list[str]:
    """What each was compared on, none of them alike."""
    plain = [one.name for one in found]
    told = [
        name if plain.count(name) == 1 else f"{name}, {words.counted(sum(one.board.results.study.task.counts['train'].values()), 'cloud')}"
        for name, one in zip(plain, found, strict=True)
    ]
    return [name if told.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(told, 1)]


def quantities(found: Sequence[Comparison]) -> list[str]:
    """What is known of the methods: their accuracy, and their robustness where there were probes."""
    return [quantity for quantity in QUANTITIES if any(one.gains(quantity) for one in found)]
