"""A study as a page of Markdown: what goes into ``docs/results``, with the command that made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wisetune.report import words
from wisetune.report.board import Board, Estimate
from wisetune.report.costs import MACS, costs_mean, in_words
from wisetune.report.tables import baselines_table, chosen_table, clean_counted, corruption_summary, costs_table, shown_sweep
from wisetune.report.verdict import named, summary
from wisetune.results import Results, Study

_ENDED = {"accuracy": "accuracy fell too far", "robustness": "robustness fell", "end of grid": "every alpha was tried"}
"""Of results from before ``Chosen.decided``: how the search ended."""


def markdown(results: Results, title: str) -> str:
    """Verdict, baselines, sweep, choices and protocol; every accuracy with its interval, all of the splits that are shown."""
    board, study, found = Board(results), results.study, summary(results)
    task = study.task
    spoilt = corruption_summary(board)
    clean = ", ".join(filter(None, ["clean", clean_counted(spoilt, "cloud")]))
    counted = ", ".join(f"{sum(counts.values())} {part}" for part, counts in task.counts.items())
    blocks = [
        f"# {title}",
        "\n".join([*emphasised(found), "", *[f"- {note}" for note in found["notes"]]]).rstrip(),
        "Made by:",
        f"```sh\n{study.command}\n```",
        f"## {baselines_table(board).heading}",
        grid(*_models(board)),
        *_costs(board),
        *_along(board),
        *(
            ["## Under corruption", grid(("model", clean, f"mean of {words.counted(cells, 'corruption')}"), _corruptions(board))]
            if (cells := max((row["cells"] for row in spoilt.rows), default=0))
            else []
        ),
        "## Protocol",
        f"- Task: {task.name}, {len(task.classes)} classes; clouds: {counted}. Seeds: {', '.join(map(str, study.seeds))}.",
        *[f"- Probe: {probe.name}, {len(probe.classes)} classes (`{probe.spec}`)." for probe in study.probes],
        f"- Start: {study.start} (`{study.architecture}`). {'; '.join(f'{name} `{value}`' for name, value in training_of(study))}.",
        f"- {study.selection}",
        f"- {stamp_of(results)}",
    ]
    text = "\n\n".join(blocks) + "\n"
    return text.replace("\n\n- ", "\n- ").replace("## Protocol\n- ", "## Protocol\n\n- ")


def emphasised(found: dict[str, Any]) -> list[str]:
    """The sentences of a summary, the conclusion bold, with a paragraph of its own."""
    rest = found["sentences"][bool(found["conclusion"]) :]
    return [f"**{found['conclusion']}**", "", *rest] if found["conclusion"] else rest


def training_of(study: Study) -> list[tuple[str, str]]:
    """How a study trained: what is called how, and its options."""
    options = (
        ("tuning", "" if study.tuning == "full" else study.tuning),
        ("head", study.head),
        ("fine-tuning", study.fit),
        ("penalty", study.keep),
        ("at the low rate", study.gentle_fit),
        ("heads", study.head_fit),
    )
    return [(name, value) for name, value in options if value]


def stamp_of(results: Results) -> str:
    """With which versions and where it was made, in a line."""
    return ", ".join(f"{name} {value}" for name, value in results.stamp.items())


def _along(board: Board) -> Iterable[str]:
    """The sweep and the choice; nothing where no alpha was measured."""
    methods = [method for method in board.sweeps if board.alphas(method)]
    if methods:
        columns = ("alpha", *(f"{board.called(method)}: accuracy" for method in methods), "robustness")
        yield from ("## Along alpha", grid(columns, _sweep(board, methods)))
    if board.results.chosen:
        yield from ("## The choice, on validation", grid(("method", "rule", "seed", "alpha", "what decided"), _choices(board)))


def _models(board: Board) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Columns and rows; nothing is compared where there is the reference alone."""
    rows, than = baselines_table(board).rows, board.called(board.reference)
    others = any(row["accuracy_gain"] is not None for row in rows)
    measured = measured_of([board])
    against = tuple(f"{name} against {than}" for name in measured) if others else ()
    return ("model", *measured, *against), [model_cells(board, row, measured)[: None if others else 1 + len(measured)] for row in rows]


def measured_of(boards: Sequence[Board]) -> tuple[str, ...]:
    """What tables have columns of: robustness where any study has a probe."""
    return ("accuracy", "robustness") if any(board.probes for board in boards) else ("accuracy",)


def _costs(board: Board) -> Iterable[str]:
    """What each way to tune costs; nothing where that was not asked for."""
    found = list(costs_blocks(board))
    return ["## What each costs", *found] if found else found


def costs_blocks(board: Board) -> Iterable[str]:
    """The table of costs and what its columns mean."""
    table = costs_table(board)
    if not table.rows:
        return
    columns = (
        "model",
        "values that train",
        "of all, %",
        "memory of a step",
        "time of a step",
        "delta file",
        "MACs, published",
        "MACs, true",
    )
    rows = []
    for row in table.rows:
        work = words.giga(row["macs_published"]), words.giga(row["macs_true"])
        rows.append((board.called(row["method"]), f"{row['trainable']:,}", words.percent(row["share"]), *in_words(row)[1:], *work))
    yield from (grid(columns, rows), f"{costs_mean(board, table)} {MACS}")


def model_cells(board: Board, row: dict[str, Any], measured: Sequence[str]) -> Sequence[str]:
    """Of a row of ``baselines_table`` the model's name, what was measured, and its differences from the reference."""
    name = board.called(row["method"])
    if row["rule"]:
        name += f", {row['rule']} rule"
    if row["alphas"]:
        name += f" (alpha {words.joined([words.alpha(alpha) for alpha in row['alphas']])})"
    return (name, *(_value(row, one) for one in measured), *(_change(row, one) for one in measured))


def _sweep(board: Board, methods: Sequence[str]) -> Iterable[Sequence[str]]:
    rows = shown_sweep(board)
    for alpha in sorted({row["alpha"] for row in rows}):
        here = {row["method"]: row for row in rows if row["alpha"] == alpha}
        shown = [_value(here[method], "accuracy") if method in here else words.NOTHING for method in methods]
        yield (words.alpha(alpha), *shown, _value(next(iter(here.values())), "robustness"))


def _choices(board: Board) -> Iterable[Sequence[str]]:
    for row in chosen_table(board).rows:
        yield (
            board.called(row["method"]),
            row["rule"],
            str(row["seed"]),
            words.alpha(row["alpha"]),
            row["decided"] or _ENDED[row["stopped_by"]],
        )


def _corruptions(board: Board) -> Iterable[Sequence[str]]:
    for row in corruption_summary(board).rows:
        yield (named(board, row["method"], row["alpha"]), _value(row, "clean"), _value(row, "corrupted"))


def _value(row: dict[str, Any], name: str) -> str:
    found = words.interval(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"))
    # From three seeds on their spread is in the interval.
    return f"{found}; {words.spread(row[name], row[f'{name}_sd'], 2)}" if row["seeds"] == 2 and row[f"{name}_sd"] is not None else found


def _change(row: dict[str, Any], name: str) -> str:
    return words.difference(row.get(f"{name}_gain"), row.get(f"{name}_gain_low"), row.get(f"{name}_gain_high"))


def mean_cell(found: Estimate | None) -> str:
    """A mean with its interval; of two seeds both values."""
    if found is None:
        return words.NOTHING
    text = words.interval(found.value, found.low, found.high)
    # From three seeds on their spread is in the interval.
    return f"{text}; {words.spread(found.value, found.sd, 2)}" if found.seeds == 2 and found.sd is not None else text


def difference_cell(found: Estimate | None) -> str:
    """A difference with its interval, bold where it is shown."""
    if found is None:
        return words.NOTHING
    text = words.difference(found.value, found.low, found.high)
    return f"**{text}**" if found.shown else text


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a name would end its cell."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])
