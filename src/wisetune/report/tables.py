"""Results become tables: pure functions, rows with fixed columns, fractions as numbers. The page and the CSV files show the same rows.

A mean over several training seeds carries its standard deviation (``_sd``); its 95 % interval is at least that of the items measured, and
from three seeds on at least Student's over the seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from wisetune.records import Role, wilson
from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board, Estimate, Place, as_fields, from_rows
from wisetune.results import Chosen, Cost, Results, Row, Step, Variant

_BOUNDS = ("", "_low", "_high", "_sd")
_COUNTS = ("seeds", "n", "objects")
_AGAINST = {"memory": "memory_peak", "step": "step_seconds"}
"""What of a cost is told against the reference's too."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows with fixed columns; ``title`` says what they are. Values are fractions between 0 and 1 unless the column says else.

    ``where`` says of which split all rows are.
    """

    name: str
    heading: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    where: str = ""

    @property
    def title(self) -> str:
        """The heading with the split."""
        return f"{self.heading}, {self.where}" if self.where else self.heading

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {"name": self.name, "title": self.title, "columns": self.columns, "rows": self.rows}


def all_tables(results: Results) -> list[Table]:
    """Every table, in the order of the page."""
    board = Board(results)
    made = [sweep_table(board), chosen_table(board), steps_table(board), baselines_table(board), probes_table(board), costs_table(board)]
    return [
        *made,
        corruption_table(board),
        corruption_summary(board),
        transfer_table(board),
        voting_table(board),
        class_table(board),
        confusion_table(board),
    ]


def sweep_table(board: Board) -> Table:
    """Accuracy and robustness along alpha, method by method, on both splits, with the difference to full fine-tuning."""
    columns = ("split", "method", "alpha", *_model_columns())
    rows = [
        {"split": split, "method": method, "alpha": alpha, **_model_fields(board, board.fixed(method, alpha), split)}
        for split in _splits(board)
        for method in board.sweeps
        for alpha in board.alphas(method)
    ]
    return Table("sweep", "Accuracy and robustness along alpha", columns, rows)


def shown_sweep(board: Board) -> list[dict[str, Any]]:
    """The rows of the sweep that pages show: accuracy and robustness each of the split of which it is shown."""
    return [
        {"method": method, "alpha": alpha, **_model_fields(board, board.fixed(method, alpha))}
        for method in board.sweeps
        for alpha in board.alphas(method)
    ]


def chosen_in_order(board: Board) -> list[tuple[dict[str, Any], Chosen]]:
    """The rows of ``chosen_table``, each with the choice that it tells of."""
    return list(zip(chosen_table(board).rows, _ordered(board), strict=True))


def baselines_table(board: Board) -> Table:
    """The methods without alpha on the split that is shown, below the chosen models, or the recommended one, that they compete with."""
    columns = ("method", "rule", "alphas", *_model_columns())
    rows: list[dict[str, Any]] = []
    for choice in _choices(board):
        place = board.chosen(*choice)
        shown = sorted({alpha for _, alpha in place.values() if alpha is not None})
        rows.append({"method": choice[0], "rule": choice[1], "alphas": shown, **_model_fields(board, place)})
    swept = {model for model in board.chosen().values() if model[1] is not None}
    if swept and not board.chose:
        shown = sorted(alpha for _, alpha in swept if alpha is not None)
        rows.insert(0, {"method": board.headline, "rule": None, "alphas": shown, **_model_fields(board, board.chosen())})
    rows += [{"method": method, "rule": None, "alphas": [], **_model_fields(board, board.fixed(method))} for method in board.baselines()]
    heading = "Chosen models and baselines" if board.results.chosen else "Models"
    return Table("baselines", heading, columns, rows, board.where)


def costs_table(board: Board) -> Table:
    """What each way to tune gains against the reference and what it costs, the reference first; ``_against`` are its parts of the reference's."""
    known, fields = board.results.costs, [field.name for field in dataclasses.fields(Cost)]
    full = known.get(board.reference)
    rows: list[dict[str, Any]] = []
    for method in filter(known.__contains__, board.baselines()):
        cost = known[method]
        row = {"method": method, **_model_fields(board, board.fixed(method)), **dataclasses.asdict(cost)}
        for name, field in _AGAINST.items():
            ours, theirs = getattr(cost, field), getattr(full, field, None)
            row[f"{name}_against"] = ours / theirs if ours is not None and theirs else None
        rows.append(row)
    columns = ("method", *_model_columns(), *fields, *(f"{name}_against" for name in _AGAINST))
    return Table("costs", "What each gains and costs", columns, rows, board.where)


def chosen_table(board: Board) -> Table:
    """What each rule chose for each seed (and for all together) on validation data, and what the chosen model scores on the split that is shown."""
    columns = ("method", "rule", "seed", "alpha", "stopped_by", "decided", *_model_columns())
    rows = [
        {**_of(choice), "alpha": choice.alpha, "stopped_by": choice.stopped_by, "decided": choice.decided}
        | _model_fields(board, board.place_of(choice))
        for choice in _ordered(board)
    ]
    return Table("chosen", "Alpha chosen on validation, and what it scores", columns, rows, board.where)


def steps_table(board: Board) -> Table:
    """Every test each rule made on validation data; changes are in percentage points."""
    columns = ("method", "rule", "seed", *(field.name for field in dataclasses.fields(Step)))
    rows = [_of(choice) | dataclasses.asdict(step) for choice in _ordered(board) for step in choice.steps]
    return Table("steps", "Every test the rules made on validation (changes in percentage points)", columns, rows)


def probes_table(board: Board) -> Table:
    """The accuracy of each robustness probe for each backbone, on the split that is shown."""
    columns = ("probe", "measure", "method", "alpha", *(f"accuracy{end}" for end in _BOUNDS), *_COUNTS)
    models: list[Variant] = [Variant(board.headline, alpha) for alpha in board.alphas(board.headline)]
    models += [Variant(method) for method in board.baselines() if not _on_curve(board, method, models)]
    rows = []
    for measure, data in board.probes:
        for method, alpha in models:
            estimate = board.mean((measure, data), board.fixed(method, alpha))
            if estimate is not None:
                row = {"probe": data, "measure": measure, "method": method, "alpha": alpha, **as_fields("accuracy", estimate)}
                rows.append(row | _counts(estimate))
    return Table("probes", "Robustness probe by probe", columns, rows, f"{words.split(board.probed)} split")


def corruption_table(board: Board) -> Table:
    """Accuracy under each kind and level of corruption, model by model."""
    columns = ("method", "alpha", "kind", "level", *(f"accuracy{end}" for end in _BOUNDS), *_COUNTS)
    rows = []
    for (method, alpha), found in board.chosen_rows(b.CORRUPTED, board.split).items():
        cells: dict[tuple[str, int], list[Row]] = {}
        for row in filter(_is_corrupted, found):
            cells.setdefault((str(row.record.detail.get("kind", "")), int(row.record.detail.get("level", 0))), []).append(row)
        for (kind, level), cell in sorted(cells.items()):
            estimate = from_rows(cell)
            row = {"method": method, "alpha": alpha, "kind": kind, "level": level, **as_fields("accuracy", estimate)}
            rows.append(row | _counts(estimate))
    return Table("corruptions", "Accuracy under corruption", columns, rows, f"{words.split(board.split)} split")


def corruption_summary(board: Board) -> Table:
    """One line a model: accuracy on clean clouds, the mean over all corruptions, and what is lost between them."""
    rows: list[dict[str, Any]] = []
    for method, alpha in board.chosen_rows(b.CORRUPTED, board.split):
        place = board.chosen() if method == b.CHOSEN else board.fixed(method, alpha)
        # Each cloud has one mark, its mean over the corruptions: 35 of them make no more clouds. Clean are the same clouds where the
        # measure kept them, as it may have looked at a part of the split only.
        parts = {seed: [board.parts(name, model, seed, board.split) for name in (b.CLEAN, b.CORRUPTED)] for seed, model in place.items()}
        corrupted, clean = board.mean(b.CORRUPTED, place), board.mean(b.CLEAN, place) or board.mean(b.ACCURACY, place)
        if corrupted is None:
            continue
        lost = b.over_seeds([b.loss_of(whole[0], spoilt) for whole, spoilt in parts.values() if whole and spoilt], -1.0)
        fields = {"clean": clean, "corrupted": corrupted, "lost": lost}
        row = {"method": method, "alpha": alpha} | {
            key: one for name, found in fields.items() for key, one in as_fields(name, found).items()
        }
        if lost is None and clean:
            row["lost"] = clean.value - corrupted.value  # of other clouds: how sure that is, is not known
        row |= {"clean_n": clean.n if clean else 0, "cells": max(len(spoilt) for _, spoilt in parts.values())}
        rows.append(row | _counts(corrupted))
    columns = (
        "method",
        "alpha",
        *(f"{name}{end}" for name in ("clean", "corrupted", "lost") for end in _BOUNDS),
        "clean_n",
        "cells",
        *_COUNTS,
    )
    return Table("corruption_summary", "Clean and mean corrupted accuracy", columns, rows, f"{words.split(board.split)} split")


def clean_counted(table: Table, noun: str) -> str:
    """Of how many clouds the clean accuracy in ``corruption_summary`` is; empty where these are not the ones that were corrupted."""
    same = {row["n"] for row in table.rows if row["clean_n"] == row["n"]}
    return f"the same {words.counted(same.pop(), noun)}" if len(same) == 1 else ""


def transfer_table(board: Board) -> Table:
    """Accuracy of the classifier itself on another set, over the classes both share."""
    # The other set has parts of its own: its test part is shown whatever the task has.
    split = "test" if any(row.record.role == b.TRANSFER and row.record.split == "test" for row in board.results.rows) else "val"
    columns, rows = _by_model(board, b.TRANSFER, split, "data")
    return Table("transfer", "The classifier on another set, shared classes", columns, rows, f"{words.split(split)} split")


def voting_table(board: Board) -> Table:
    """Accuracy of the mean of several looks at each cloud."""
    columns, rows = _by_model(board, b.VOTING, board.split, "measure")
    return Table("voting", "Votes: the mean of several looks at a cloud", columns, rows, f"{words.split(board.split)} split")


def _by_model(board: Board, role: Role, split: str, field: Literal["data", "measure"]) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Columns and rows of the records of a role, by what the field says and by model."""
    cells: dict[tuple[str, Variant], list[Row]] = {}
    for model, found in board.chosen_rows(role, split).items():
        for row in found:
            cells.setdefault((getattr(row.record, field), model), []).append(row)
    rows = []
    for (of, (method, alpha)), found in cells.items():
        estimate = from_rows(found)
        rows.append({field: of, "method": method, "alpha": alpha, **as_fields("accuracy", estimate)} | _counts(estimate))
    return (field, "method", "alpha", *(f"accuracy{end}" for end in _BOUNDS), *_COUNTS), rows


def confusion_table(board: Board) -> Table:
    """How often each class was taken for each, summed over the seeds, for the chosen model and full fine-tuning."""
    rows = [
        {"method": method, "alpha": alpha, "true": true, "predicted": predicted, "count": count}
        for (method, alpha), (classes, counts, _) in _confusions(board).items()
        for true, line in zip(classes, counts, strict=True)
        for predicted, count in zip(classes, line, strict=True)
    ]
    columns = ("method", "alpha", "true", "predicted", "count")
    return Table("confusion", "Confusion, counts over all seeds", columns, rows, f"{words.split(board.split)} split")


def class_table(board: Board) -> Table:
    """Each class: how many items, how many of them are found (with a Wilson interval), how many of its calls are right, the usual error."""
    columns = ("method", "alpha", "class", "n", "objects", "found", "found_low", "found_high", "precision", "taken_for", "taken_for_count")
    rows = []
    by_object = board.chosen_rows(b.CLASS_MEAN, board.split)
    for (method, alpha), (classes, counts, seeds) in _confusions(board).items():
        details = [row.record.detail for row in by_object.get(Variant(method, alpha), [])]
        for at, name in enumerate(classes):
            line = counts[at]
            total, called = sum(line), sum(other[at] for other in counts)
            # The same items were classified once a seed: the interval is that of the items, not of as many items as there were trials.
            n = total / seeds
            low, high = wilson(line[at] / seeds, max(1, round(n))) if total else (None, None)
            # Where clouds are scans of fewer objects, whoever measured has counted these.
            known = [detail["class_intervals"][name] for detail in details if name in detail.get("class_intervals", ())]
            if known:
                low, high = (sum(ends) / len(known) for ends in zip(*known, strict=True))
            worst = max((other for other in range(len(classes)) if other != at), key=lambda other: line[other], default=None)
            confused = worst is not None and line[worst] > 0
            row: dict[str, Any] = {"method": method, "alpha": alpha, "class": name, "n": round(n)}
            row["objects"] = next((detail["class_objects"][name] for detail in details if name in detail.get("class_objects", ())), None)
            row |= {"found": line[at] / total if total else None, "found_low": low, "found_high": high}
            row |= {
                "precision": line[at] / called if called else None,
                "taken_for": classes[worst] if confused and worst is not None else None,
            }
            rows.append(row | {"taken_for_count": line[worst] if confused and worst is not None else 0})
    return Table("classes", "Class by class", columns, rows, f"{words.split(board.split)} split")


def _confusions(board: Board) -> dict[Variant, tuple[Sequence[str], list[list[int]], int]]:
    """By model: class names, counts summed over the seeds, number of seeds."""
    found: dict[Variant, tuple[Sequence[str], list[list[int]], int]] = {}
    measured = board.chosen_rows(b.ACCURACY, board.split)
    shown = [model for model in measured if model in (Variant(b.CHOSEN), Variant(board.reference))] or list(measured)[:1]
    for model, rows in ((model, measured[model]) for model in shown):
        kept = [row.record.detail for row in rows if row.record.detail.get("confusion")]
        if kept:
            summed = [[sum(cells) for cells in zip(*lines, strict=True)] for lines in zip(*(one["confusion"] for one in kept), strict=True)]
            names = kept[0].get("classes") or [str(number) for number in range(len(summed))]
            found[model] = (names, summed, len(kept))
    return found


def _model_columns() -> tuple[str, ...]:
    quantities = ("accuracy", "robustness", "accuracy_gain", "robustness_gain", "class_mean")
    return (*(f"{name}{end}" for name in quantities for end in _BOUNDS), *_COUNTS)


def _model_fields(board: Board, place: Place, split: str | None = None) -> dict[str, Any]:
    """Accuracy, robustness, and how far both are above the reference where it is not the same model or backbone.

    Of one split, by default each of the one of which it is shown.
    """
    found = {"accuracy": board.mean(b.ACCURACY, place, split), "robustness": board.mean(b.ROBUSTNESS, place, split)}
    found |= {f"{name}_gain": board.gain(name, place, split) for name in (b.ACCURACY, b.ROBUSTNESS)}
    found["class_mean"] = board.mean(b.CLASS_MEAN, place, split)
    fields = {key: value for name, estimate in found.items() for key, value in as_fields(name, estimate).items()}
    return fields | _counts(found["accuracy"])


def _counts(estimate: Estimate | None) -> dict[str, Any]:
    """What an estimate was made of: seeds, clouds, and the objects that these are scans of (None where each is its own)."""
    return {
        "seeds": estimate.seeds if estimate else 0,
        "n": estimate.n if estimate else 0,
        "objects": estimate.objects if estimate else None,
    }


def _on_curve(board: Board, method: str, curve: Sequence[Variant]) -> bool:
    """Whether a baseline's backbone is one of the curve's."""
    return any(board.same_backbone(board.fixed(method), board.fixed(*model)) for model in curve)


def _splits(board: Board) -> list[str]:
    return [split for split in ("test", "val") if any(row.record.split == split for row in board.results.rows)]


def _choices(board: Board) -> list[tuple[str, str]]:
    return sorted({(choice.method, choice.rule) for choice in board.results.chosen}, key=lambda one: (_rank(board, one[0]), one[1]))


def _of(choice: Chosen) -> dict[str, Any]:
    seed = "all" if choice.seed == b.OVER_SEEDS else choice.seed
    return {"method": choice.method, "rule": choice.rule, "seed": seed}


def _ordered(board: Board) -> list[Chosen]:
    return sorted(board.results.chosen, key=lambda choice: (_rank(board, choice.method), choice.rule, choice.seed))


def _is_corrupted(row: Row) -> bool:
    return row.record.detail.get("kind") != "clean"


def _rank(board: Board, method: str) -> int:
    return board.sweeps.index(method) if method in board.sweeps else len(board.sweeps)
