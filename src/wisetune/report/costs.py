"""What ways to tune gain and cost, a line each: the table of a comparison, and as text that a terminal of 100 columns can show."""

from __future__ import annotations

import textwrap
from typing import Any

from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board
from wisetune.report.tables import Table, costs_table

_COLUMNS = 100
MACS = (
    "Multiply-accumulates (MACs) are of one cloud: published as papers count them, by hooks on maps and convolutions of the released code; true as "
    "they are computed here, attention's own products included, and after algebra that saves some, so that it may be the smaller number."
)


def as_text(board: Board) -> list[str]:
    """The table in lines, what its columns mean, and room above and below; nothing where no cost was told."""
    table = costs_table(board)
    if not table.rows:
        return []
    lines = [_header(board), *(_cells(board, row) for row in table.rows)]
    wide = [max(len(line[at].rstrip("*")) for line in lines) for at in range(1, len(lines[0]))]
    # A long name stands above its line, or the line would not fit.
    room = min(max(len(line[0]) for line in lines), max(12, _COLUMNS - sum(wide) - 2 * len(wide)))
    found = list[str]()
    for name, *cells in lines:
        over, last = ([name], "") if len(name) > room else ([], name)
        told = (f" {cell.rstrip('*'):>{size}}{'*' if cell.endswith('*') else ' '}" for cell, size in zip(cells, wide, strict=True))
        found += [*over, f"{last:{room}}{''.join(told)}".rstrip()]
    return ["", *found, *textwrap.wrap(legend(board, table), _COLUMNS), ""]


def legend(board: Board, table: Table) -> str:
    """What the columns mean, below lines of text."""
    than, probes = board.called(board.reference), " and robustness" if board.probes else ""
    return (
        f"Accuracy{probes} in %, with 95 % intervals; diff: points against {than}, paired, * where a difference is shown. "
        f"Trains: values. {costs_mean(board, table)} M is a million values, or MiB."
    )


def costs_mean(board: Board, table: Table) -> str:
    """What is said of costs; empty where none were told."""
    if not table.rows:
        return ""
    than = board.called(board.reference)
    batch, alone = table.rows[0]["batch"], next((row["step_seconds"] for row in table.rows if row["method"] == board.reference), None)
    of = f", {words.seconds(alone)}" if alone else ""
    return (
        f"Memory: of a training step of {words.counted(batch, 'cloud')} at its peak, counted from shapes as a GPU would hold it. Step: its time, "
        f"measured here, against that of {than}{of}; where a head trains alone, of the head, as features are kept. File: the values that a delta "
        "file holds."
    )


def _header(board: Board) -> list[str]:
    return ["", "accuracy", "diff", *(["robust", "diff"] if board.probes else []), "trains", "memory", "step", "file"]


def _cells(board: Board, row: dict[str, Any]) -> list[str]:
    low, high = (words.points(row[f"accuracy_gain_{end}"]) for end in ("low", "high"))
    change = words.points(row["accuracy_gain"]) + ("" if row["accuracy_gain"] is None else f" ({low}, {high})")
    found = [board.called(row["method"]), words.interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"])]
    found.append(_starred(row, "accuracy", change))
    if board.probes:
        found += [words.percent(row["robustness"]), _starred(row, "robustness", words.points(row["robustness_gain"]))]
    return [*found, *map(_close, in_words(row))]


def in_words(row: dict[str, Any]) -> list[str]:
    """Values that train, memory, time of a step against the reference's, and size of the file."""
    sizes = words.size(row["memory_peak"]), words.times(row["step_against"]), words.size(row["delta_bytes"])
    return [words.short(row["trainable"]), *sizes]


def _close(text: str) -> str:
    """As little room as it needs: ``92.2M`` of ``92.2 MiB``."""
    return text.removesuffix("iB").replace(" ", "")


def _starred(row: dict[str, Any], name: str, text: str) -> str:
    value, low, high, sd = (row[f"{name}_gain{end}"] for end in ("", "_low", "_high", "_sd"))
    return text + "*" * bool(b.shown(value, low, high, sd, row["seeds"]))
