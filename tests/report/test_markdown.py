"""A study as Markdown."""

from __future__ import annotations

import dataclasses

from studies import study

from wisetune.report.markdown import markdown


def test_page_holds_verdict_command_and_every_alpha() -> None:
    text = markdown(study((0, 1, 2)), "Demo")
    assert text.startswith("# Demo\n\nWiSE-FT-LP at ")
    assert "```sh\nwisetune run demo:scans --seeds 3\n```" in text
    sweep = text.split("## Along alpha")[1].split("##")[0]
    assert [line.split("|")[1].strip() for line in sweep.strip().splitlines()[2:]] == [f"{alpha / 10:g}" for alpha in range(11)]


def test_tables_have_as_many_cells_as_columns() -> None:
    widths = {}
    for block in markdown(study(), "One seed").split("\n\n"):
        if block.startswith("|"):
            widths[block.splitlines()[0]] = {line.replace("\\|", "").count("|") for line in block.splitlines()}
    assert len(widths) >= 4
    assert all(len(counts) == 1 for counts in widths.values())


def test_a_bar_in_a_name_does_not_end_its_cell() -> None:
    results = study()
    rows = [dataclasses.replace(row, method="a|b") if row.method == "lp-ft" else row for row in results.rows]
    assert "| a\\|b |" in markdown(dataclasses.replace(results, rows=rows), "Bars")


def test_no_corruption_no_section() -> None:
    results = study()
    rows = [row for row in results.rows if row.record.name != "corrupted accuracy"]
    assert "## Under corruption" not in markdown(dataclasses.replace(results, rows=rows), "Clean")
