"""Several runs as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wisetune.report import words
from wisetune.report.board import Board
from wisetune.report.comparisons import comparisons
from wisetune.report.markdown import grid, measured_of, model_cells
from wisetune.report.mixed import mixed
from wisetune.report.runs import apart, facts, shared, trained
from wisetune.report.tables import baselines_table
from wisetune.results import Results


def together(runs: Sequence[Results], title: str) -> str:
    """Several studies in one table: of each the recommended model and the baselines, beside the clouds it was trained on.

    Below stand where the runs do not compare, what holds for all of them, what for each, and their commands. Ways to tune that were compared
    on several tasks have a page of their own kind, and mixes of several tunings on one task a table more.

    Raises:
        UsageError: a fold is there twice.
    """
    boards = [Board(results) for results in runs]
    if all(board.compares for board in boards):
        return comparisons(boards, title)
    than, measured = words.joined(dict.fromkeys(board.called(board.reference) for board in boards)), measured_of(boards)
    found = [facts(board) for board in boards]
    common = shared(found)
    rules = dict.fromkeys(board.rule for board in boards if board.chose)
    chosen = [f"Alpha was chosen on validation data by the {words.joined(rules)} rule."] if rules else []
    blocks = [
        f"# {title}",
        *mixed(boards),
        " ".join(
            [
                f"{words.capital(words.joined(measured))} in percent, differences from {than} of the same run in points, all with 95 % intervals.",
                *chosen,
            ]
        ),
        grid(
            ("run", "task", "to train on", "model", *measured, "difference in accuracy", *(f"in {name}" for name in measured[1:])),
            [row for number, board in enumerate(boards, 1) for row in _run_rows(number, board, measured)],
        ),
        *([" ".join(why)] if (why := apart(boards)) else []),
        *(["In all runs:", "\n".join(f"- {fact}" for fact in common)] if common else []),
        "\n".join(
            f"{number}. {board.results.study.task.name}, {trained(board)}{': ' if own else '.'}{' '.join(own)}"
            for number, (board, said) in enumerate(zip(boards, found, strict=True), 1)
            for own in [[fact for fact in said if fact not in common]]
        ),
        "Made by, in the same order:",
        "\n".join(["```sh", *(results.study.command for results in runs), "```"]),
    ]
    return "\n\n".join(blocks) + "\n"


def _run_rows(number: int, board: Board, measured: Sequence[str]) -> Iterable[Sequence[str]]:
    place = (str(number), board.results.study.task.name, trained(board))
    for row in baselines_table(board).rows:
        if row["rule"] is None or (row["method"], row["rule"]) == (board.headline, board.rule):
            yield (*place, *model_cells(board, row, measured))
            place = ("", "", "")
