"""Whether mixing with the start pays for several ways to tune: a line for each, of runs along alpha on one task that differ in their tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wisetune.report import words
from wisetune.report.board import Board, Estimate
from wisetune.report.differences import by_chance, differences
from wisetune.report.markdown import difference_cell, grid, mean_cell
from wisetune.report.rival import QUANTITIES


def mixed(boards: Sequence[Board]) -> Iterable[str]:
    """What is shown, then a table of each quantity; nothing where the runs are of several tasks, or one tuning, or have no choice of alpha."""
    tasks = {board.results.study.task.digest for board in boards}
    tunings = {board.results.study.tuning for board in boards}
    sweeps = [method for method in boards[0].sweeps if all(board.choices(method, board.rule) for board in boards)]
    if len(boards) < 2 or len(tasks) > 1 or len(tunings) < len(boards) or not sweeps:
        return
    known = [quantity for quantity in QUANTITIES if boards[0].mean(quantity, boards[0].fixed(boards[0].reference))]
    gains = {(quantity, method): _gains(boards, quantity, method) for quantity in known for method in sweeps}
    lines = [
        differences(f"{quantity} of {boards[0].called(method)}", "the tuned model", found, "tunings")
        for (quantity, method), found in gains.items()
        if found
    ]
    luck = by_chance(sum(map(len, gains.values())))
    yield "\n".join(f"- {line}" for line in [*lines, *([luck] if luck else [])])
    yield (
        "Of each tuning the tuned model itself (alpha 1), and the mixes at the alpha that the rule chose on validation data, with their paired "
        "difference from it; **bold** where the interval leaves out 0. Where alpha 1 was chosen WiSE-FT is that model, and there is no difference."
    )
    for quantity in known:
        columns = ["tuning", "alpha 1"]
        for method in sweeps:
            columns += [boards[0].called(method), "alpha", "difference"]
        yield f"## {words.capital(quantity)}"
        yield grid(columns, [_line(board, quantity, sweeps) for board in boards])
    yield "## Run by run"


def _gains(boards: Sequence[Board], quantity: str, method: str) -> dict[str, Estimate]:
    found = {board.called(board.reference): board.gain(quantity, board.chosen(method, board.rule)) for board in boards}
    return {name: gain for name, gain in found.items() if gain}


def _line(board: Board, quantity: str, sweeps: Sequence[str]) -> list[str]:
    cells = [board.called(board.reference), mean_cell(board.mean(quantity, board.fixed(board.reference)))]
    for method in sweeps:
        place = board.chosen(method, board.rule)
        alphas = dict.fromkeys(words.alpha(alpha) for _, alpha in sorted(place.values()))
        cells += [mean_cell(board.mean(quantity, place)), words.joined(alphas), difference_cell(board.gain(quantity, place))]
    return cells
