"""Writes a report: the page, its numbers, its picture; each file whole or not at all, the same bytes for the same results."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from wisetune.files import clean, write_bytes
from wisetune.files.atomic import discard
from wisetune.report.board import Board
from wisetune.report.page import page, tables_json
from wisetune.report.tables import Table, all_tables
from wisetune.results import Results


def write_report(results: Results, out: Path) -> list[Path]:
    """Write ``report.html``, ``results.json``, ``tables/*.csv``, ``tables/tables.json`` and ``tradeoff.png`` into the folder ``out``.

    What a killed run was writing there is removed.
    ``tradeoff.png`` is left out, and an older one removed, when no two models have both an accuracy and a robustness.
    Returns the files written, the page first.

    Raises:
        StorageError: a file could not be written; files of an earlier report are then still whole.
    """
    from wisetune.report.plots import tradeoff_png

    tables = all_tables(results)
    files: dict[str, bytes] = {"report.html": page(results).encode()}
    files["results.json"] = (json.dumps(results.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    files |= {f"tables/{table.name}.csv": csv_text(table).encode() for table in tables}
    files["tables/tables.json"] = tables_json(tables).encode()
    picture = tradeoff_png(Board(results))
    if picture is not None:
        files["tradeoff.png"] = picture
    clean(out)
    for name, data in files.items():
        write_bytes(out / name, data)
    if picture is None:
        discard(out / "tradeoff.png")
    return [out / name for name in files]


def csv_text(table: Table) -> str:
    """A table as CSV: a line of column names, full precision, an empty cell where nothing is known."""
    out = io.StringIO()
    writer = csv.DictWriter(out, table.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(row[column]) for column in table.columns} for row in table.rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    # A spreadsheet would run a class named "=cmd()" as a formula; the apostrophe makes it text.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
