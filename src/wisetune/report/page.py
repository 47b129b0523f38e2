"""Results become one self-contained HTML page: everything inlined, nothing fetched, the same bytes for the same results."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board, alpha_words
from wisetune.report.costs import MACS, costs_mean
from wisetune.report.looks import looks_of, thin
from wisetune.report.protocol import facts_of, sets_of
from wisetune.report.tables import Table, all_tables, chosen_in_order, clean_counted, shown_sweep
from wisetune.report.verdict import named, notes, summary, two_splits
from wisetune.results import FOLD, OVER_SEEDS, Chosen, DataSet, Results, Variant


def _title(task: DataSet) -> str:
    """What the page is about, by the words of a few-shot task and not its spelling, which has no place to break on a narrow screen."""
    few = task.protocol.get("few-shot")
    return f"{few}, fold {task.protocol.get(FOLD, 0)}" if few else task.name or "your task"


def page(results: Results) -> str:
    """The page as text."""
    from wisetune.report.plots import curve_svgs, tradeoff_svgs  # matplotlib comes when something is drawn

    board = Board(results)
    tables = {table.name: table for table in all_tables(results)}
    study, looks = results.study, looks_of(board)
    context = {
        "words": words,
        "OVER_SEEDS": OVER_SEEDS,
        "raw": _raw,
        "named": named,
        "title": _title(study.task),
        "board": board,
        "than": board.called(board.reference),
        "apart": not board.is_reference(board.chosen()),
        "ours": "chosen model" if board.chose else named(board, b.CHOSEN, None),
        "summary": summary(results),
        "notes": notes(board),
        "chosen_alpha": alpha_words(board.chosen()),
        "tables": tables,
        "tradeoff": {width: Markup(text) for width, text in tradeoff_svgs(board).items()},  # noqa: S704 (drawn here; labels escaped)
        "curves": {width: Markup(text) for width, text in curve_svgs(board).items()},  # noqa: S704 (the same)
        "sweep": _sweep(board),
        "choices": _choices(board),
        "seeds_of_choices": sorted({choice.seed for choice in results.chosen}),
        "steps": _steps(board, tables["steps"]),
        "heat": _heat(board, tables["corruptions"]),
        "MACS": MACS,
        "costs_mean": costs_mean(board, tables["costs"]),
        "clean": clean_counted(tables["corruption_summary"], "scan"),
        "confusions": _by_model(tables["confusion"]),
        "classes": _by_model(tables["classes"]),
        "protocol": facts_of(study),
        "sets": sets_of(study),
        "stamp": results.stamp,
        "reproduce": [line for line in study.reproduce or [study.command] if line],
        "audits": {key: _audit(lines) for key, lines in sorted(results.audits.items())},
        "logs": {name: _log(lines) for name, lines in sorted(results.log.items()) if lines},
        "two_splits": two_splits(board),
        "looks": looks,
        "clouds_json": [thin(cloud) for look in looks for cloud in look.clouds],
    }
    return _environment().get_template("report.html.j2").render(context)


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("wisetune.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    own: dict[str, Callable[..., str]] = {"estimate": _cell, "gain": _gain, "tone": _tone, "plain": _plain, "counted": words.counted}
    spelled = ("percent", "chance", "points", "signed", "alpha", "split", "short", "size", "seconds", "times", "giga", "less")
    own |= {name: getattr(words, name) for name in spelled}
    for name, function in own.items():
        made.filters[name] = function
    return made


def _raw(path: str) -> Markup:
    """A file of this package, put into the page as it is."""
    return Markup(files("wisetune.report").joinpath(path).read_text(encoding="utf-8"))  # noqa: S704 (our own script and style)


def _cell(row: Mapping[str, Any], column: str) -> str:
    return words.interval(row[column], row[f"{column}_low"], row[f"{column}_high"])


def _gain(row: Mapping[str, Any], column: str) -> str:
    return words.difference(row[column], row[f"{column}_low"], row[f"{column}_high"])


def _tone(row: Mapping[str, Any], column: str = "") -> str:
    """The class that colours a difference, of a table's row or by itself."""
    low, high, sd = (row[f"{column}_{end}" if column else end] for end in ("low", "high", "sd"))
    return ("", "up", "down")[b.shown(row[column or "value"], low, high, sd, row["seeds"])]


def _plain(value: Any) -> str:
    """A value of the protocol, a log or an audit in one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: words.NOTHING}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items()) or words.NOTHING
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or words.NOTHING
    return str(value)


def _sweep(board: Board) -> list[dict[str, Any]]:
    """One line an alpha: the rows of each method side by side, and robustness once, for both methods share their backbones."""
    chosen = {alpha for _, alpha in board.chosen().values() if board.chose}
    lines: dict[float, dict[str, Any]] = {}
    for row in shown_sweep(board):
        line = lines.setdefault(row["alpha"], {"alpha": row["alpha"], "chosen": row["alpha"] in chosen, "by": {}, "any": row})
        line["by"][row["method"]] = row
    return [lines[alpha] for alpha in sorted(lines)]


def _steps(board: Board, table: Table) -> list[dict[str, Any]]:
    """Each choice with its tests, the recommended one first and open. Rows of the table come choice by choice in the same order."""
    by_choice: dict[tuple[str, str, Any], list[dict[str, Any]]] = {}
    for row in table.rows:
        by_choice.setdefault((row["method"], row["rule"], row["seed"]), []).append(row)
    lines = [
        {
            "choice": row,
            "rule": _rule(choice),
            "first": [board.mean(name, _from(board, choice), "val") for name in (b.ACCURACY, b.ROBUSTNESS)],
            "rows": by_choice.get((row["method"], row["rule"], row["seed"]), []),
        }
        for row, choice in chosen_in_order(board)
    ]
    ours = (board.headline, board.rule)
    return sorted(lines, key=lambda line: ((line["choice"]["method"], line["choice"]["rule"]) != ours, line["choice"]["method"] != ours[0]))


def _choices(board: Board) -> list[dict[str, Any]]:
    """What each rule chose of each method: its alpha by seed."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for _, choice in chosen_in_order(board):
        found.setdefault((choice.method, choice.rule), {})[choice.seed] = choice.alpha
    return [{"method": method, "rule": rule, "alphas": alphas} for (method, rule), alphas in found.items()]


def _rule(choice: Chosen) -> str:
    """The rule in words, which is how its reason begins; its tests stand in the table below."""
    return words.capital(choice.why.partition("\n")[0].removeprefix("Rule: ").removeprefix(f"{choice.rule}, "))


def _from(board: Board, choice: Chosen) -> b.Place:
    """The model at alpha 1, with which the rule began."""
    return dict.fromkeys(board.place_of(choice), Variant(choice.method, 1.0))


def _heat(board: Board, table: Table) -> dict[str, Any]:
    """Heat maps: kinds, levels, cells by model, how far the first model is above the reference, and how sure one cell is."""
    kinds = list(dict.fromkeys(row["kind"] for row in table.rows))
    levels = sorted({row["level"] for row in table.rows})
    models = {model: {(row["kind"], row["level"]): row for row in rows} for model, rows in _by_model(table).items()}
    first = next(iter(models), None)
    ours = models[first] if first else {}
    apart = {
        model: {cell: ours[cell]["accuracy"] - theirs[cell]["accuracy"] for cell in ours if cell in theirs}
        for model, theirs in models.items()
        if model != first and model == Variant(board.reference) and not board.is_reference(board.chosen())
    }
    widths = sorted((row["accuracy_high"] - row["accuracy_low"]) / 2 for row in table.rows)
    sure = {"n": min((row["n"] for row in table.rows), default=0), "objects": next((row["objects"] for row in table.rows), None)}
    sure |= {"half": widths[len(widths) // 2] if widths else None}
    return {"kinds": kinds, "levels": levels, "models": models, "apart": apart, **sure}


def _by_model(table: Table) -> dict[Variant, list[dict[str, Any]]]:
    found: dict[Variant, list[dict[str, Any]]] = {}
    for row in table.rows:
        found.setdefault(Variant(row["method"], row["alpha"]), []).append(row)
    return found


def _audit(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    distances = [line for line in lines if line.get("audit") == "distance"]
    others = [
        (
            line.get("audit", ""),
            ("" if line.get("ok", True) else "FAILED; ") + _plain({k: v for k, v in line.items() if k not in ("audit", "ok")}),
        )
        for line in lines
        if line.get("audit") != "distance"
    ]
    return {"ok": all(line.get("ok", True) for line in lines), "distances": distances, "others": others}


def _log(lines: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    columns = list(dict.fromkeys(key for line in lines for key in line))
    return {"columns": columns, "rows": [[line.get(column) for column in columns] for line in lines]}


def tables_json(tables: Sequence[Table]) -> str:
    """All tables in one JSON text."""
    return json.dumps({table.name: table.to_json() for table in tables}, indent=1, ensure_ascii=False) + "\n"
