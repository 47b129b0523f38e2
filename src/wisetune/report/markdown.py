"""A study as a page of Markdown: what goes into ``docs/results``, with the command that made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wisetune.report import words
from wisetune.report.board import ACCURACY, Board
from wisetune.report.costs import MACS, costs_mean, in_words
from wisetune.report.tables import baselines_table, chosen_table, clean_counted, corruption_summary, costs_table, shown_sweep
from wisetune.report.verdict import named, notes, summary
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
        f"- Start: {study.start} (`{study.architecture}`). {'; '.join(f'{name} `{value}`' for name, value in _training(study))}.",
        f"- {study.selection}",
        f"- {_stamp(results)}",
    ]
    text = "\n\n".join(blocks) + "\n"
    return text.replace("\n\n- ", "\n- ").replace("## Protocol\n- ", "## Protocol\n\n- ")


def emphasised(found: dict[str, Any]) -> list[str]:
    """The sentences of a summary, the conclusion bold, with a paragraph of its own."""
    rest = found["sentences"][bool(found["conclusion"]) :]
    return [f"**{found['conclusion']}**", "", *rest] if found["conclusion"] else rest


def together(runs: Sequence[Results], title: str) -> str:
    """Several studies in one table: of each the recommended model and the baselines, beside the clouds it was trained on.

    Below stand where the runs do not compare, what holds for all of them, what for each, and their commands.
    """
    boards = [Board(results) for results in runs]
    than, measured = words.joined(dict.fromkeys(board.called(board.reference) for board in boards)), _measured_of(boards)
    facts = [_facts(board) for board in boards]
    shared = [fact for fact in facts[0] if all(fact in others for others in facts)]
    rules = dict.fromkeys(board.rule for board in boards if board.chose)
    chosen = [f"Alpha was chosen on validation data by the {words.joined(rules)} rule."] if rules else []
    blocks = [
        f"# {title}",
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
        *([" ".join(apart)] if (apart := _apart(boards)) else []),
        *(["In all runs:", "\n".join(f"- {fact}" for fact in shared)] if shared else []),
        "\n".join(
            f"{number}. {board.results.study.task.name}, {_trained(board)}{': ' if own else '.'}{' '.join(own)}"
            for number, (board, found) in enumerate(zip(boards, facts, strict=True), 1)
            for own in [[fact for fact in found if fact not in shared]]
        ),
        "Made by, in the same order:",
        "\n".join(["```sh", *(results.study.command for results in runs), "```"]),
    ]
    return "\n\n".join(blocks) + "\n"


def _facts(board: Board) -> list[str]:
    """What a reader must know of one run's numbers, in sentences."""
    study = board.results.study
    seeds = f"{words.counted(len(board.seeds), 'seed')} ({', '.join(map(str, board.seeds))})"
    probes = ", ".join(f"{probe.name} (`{probe.spec}`)" for probe in study.probes)
    found = [
        f"{board.where}: {words.clouds(*_measured(board))}; {seeds}",
        f"Probes: {probes}" if probes else "No probes",
        f"Start: {study.start} (`{study.architecture}`)",
        "Training: " + "; ".join(f"{name} `{value}`" for name, value in _training(study)),
        study.selection,
        *notes(board),
        _stamp(board.results),
    ]
    return [f"{fact.removesuffix('.')}." for fact in found if fact]


def _apart(boards: Sequence[Board]) -> list[str]:
    """In what rows of different runs do not compare, and why."""
    studies = [board.results.study for board in boards]
    reasons = (
        ("accuracy", "they are of different splits", [board.split for board in boards]),
        (
            "accuracy",
            "it was measured on different scans",
            [(one.task.name, one.task.counts.get(board.split)) for one, board in zip(studies, boards, strict=True)],
        ),
        ("robustness", "they are of different splits", [board.probed for board in boards]),
        ("accuracy or robustness", "the runs started from different weights", [(one.start_weights, one.architecture) for one in studies]),
        ("accuracy or robustness", "the runs trained in different ways", _shared(list(map(_training, studies)))),
        ("robustness", "the runs have different probes", [sorted((probe.spec, probe.digest) for probe in one.probes) for one in studies]),
        ("differences", "these are from different models", [board.reference for board in boards]),
    )
    return [
        f"Rows of different runs do not compare in {what}: {why}." for what, why, found in reasons if any(one != found[0] for one in found)
    ]


def _training(study: Study) -> list[tuple[str, str]]:
    options = (
        ("head", study.head),
        ("fine-tuning", study.fit),
        ("penalty", study.keep),
        ("at the low rate", study.gentle_fit),
        ("heads", study.head_fit),
    )
    return [(name, value) for name, value in options if value]


def _shared(training: Sequence[list[tuple[str, str]]]) -> list[list[tuple[str, str]]]:
    """Of each study what can be compared: a story without a training of some kind trains it no other way."""
    kinds = set.intersection(*({name for name, _ in one} - {"penalty"} for one in training)) | {"penalty"}
    return [[(name, value) for name, value in one if name in kinds] for one in training]


def _stamp(results: Results) -> str:
    return ", ".join(f"{name} {value}" for name, value in results.stamp.items())


def _run_rows(number: int, board: Board, measured: Sequence[str]) -> Iterable[Sequence[str]]:
    place = (str(number), board.results.study.task.name, _trained(board))
    for row in baselines_table(board).rows:
        if row["rule"] is None or (row["method"], row["rule"]) == (board.headline, board.rule):
            yield (*place, *_model(board, row, measured))
            place = ("", "", "")


def _trained(board: Board) -> str:
    return words.counted(sum(board.results.study.task.counts.get("train", {}).values()), "cloud")


def _measured(board: Board) -> tuple[int, int | None]:
    found = board.mean(ACCURACY, board.chosen() or board.fixed(board.reference))
    return (found.n, found.objects) if found else (0, None)


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
    measured = _measured_of([board])
    against = tuple(f"{name} against {than}" for name in measured) if others else ()
    return ("model", *measured, *against), [_model(board, row, measured)[: None if others else 1 + len(measured)] for row in rows]


def _measured_of(boards: Sequence[Board]) -> tuple[str, ...]:
    """What tables have columns of: robustness where any study has a probe."""
    return ("accuracy", "robustness") if any(board.probes for board in boards) else ("accuracy",)


def _costs(board: Board) -> Iterable[str]:
    """What each way to tune costs; nothing where that was not asked for."""
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
    yield from ("## What each costs", grid(columns, rows), f"{costs_mean(board, table)} {MACS}")


def _model(board: Board, row: dict[str, Any], measured: Sequence[str]) -> Sequence[str]:
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


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a name would end its cell."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])
