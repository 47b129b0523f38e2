from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal import refused, wisetune

from wisetune.results import FORMAT


def test_the_report_is_drawn_again_from_the_results_alone(finished):
    before = {path: path.read_bytes() for path in (finished / "out").rglob("*") if path.is_file()}
    drawn = [path for path in before if path.suffix in {".html", ".csv", ".png"} or path.name == "tables.json"]
    for path in drawn:
        path.unlink()
    done = wisetune("report", "out")
    assert (done.code, done.error) == (0, "")
    assert done.out.splitlines()[0] == "out/report.html"
    assert {finished / line for line in done.out.splitlines()} == {*drawn, finished / "out/results.json"}
    assert {path: path.read_bytes() for path in (finished / "out").rglob("*") if path.is_file()} == before


def test_markdown_is_one_page_with_numbers_and_the_command(first, finished):
    done = wisetune("report", "out", "--markdown", "docs/scans.md", "--title", "Scans of solids")
    assert (done.code, done.out, done.error) == (0, "docs/scans.md\n", "")
    page = (finished / "docs/scans.md").read_text()
    assert page.startswith("# Scans of solids\n")
    assert first.out.splitlines()[0] in page
    assert "```sh\nwisetune run wise-ft-lp:alphas=0+0.5+1,baselines=false --from mine.safetensors --on npz:solids.npz" in page
    assert page.count("\n| 0.5 |") == 1
    assert str(finished) not in page


@pytest.mark.usefixtures("finished")
def test_several_runs_are_one_table():
    done = wisetune("report", "out", "out", "--markdown", "both.md", "--title", "Twice")
    assert (done.code, done.out, done.error) == (0, "both.md\n", "")
    page = Path("both.md").read_text()
    assert page.startswith("# Twice\n")
    assert page.count("| linear probing |") == page.count("wisetune run wise-ft-lp") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "there is no 'nowhere/results.json'. Give the --out folder of a finished run"),
        (("scans",), "there is no 'scans/results.json'"),
        (("out", "out"), "report was given 2 runs; several are drawn as one table: add --markdown PAGE.md"),
        (("out", "--title", "Mine"), "--title was given, which is of a page of Markdown: add --markdown PAGE.md, or leave it out."),
        (("out", "--markdown", "scans"), "--markdown scans is a folder; name a file in it, for example scans/report.md"),
    ],
)
@pytest.mark.usefixtures("finished")
def test_a_slip_is_one_message(words, said):
    refused(wisetune("report", *words), 65 if "there is no" in said else 2, said)


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "{}", f'{{"format": {FORMAT}, "rows": 3}}', "\x00"])
@pytest.mark.parametrize("command", ["report", "show", "export"])
def test_damaged_results_are_exit_code_65(finished, command, content):
    (finished / "out/results.json").write_text(content)
    refused(
        wisetune(command, "out", *["x.safetensors"][: command == "export"]),
        65,
        "out/results.json: cannot be read as results",
        "run the run's command again",
    )
    assert not (finished / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("study", "task", "counts"), [], "study.task.counts is [], and must be an object"),
        (("rows", 0, "value"), "high", 'rows[0].value is "high", and must be a number'),
        (("chosen", 0, "steps", 0, "alpha"), "one", 'chosen[0].steps[0].alpha is "one", and must be a number'),
        (("study", "seeds"), None, "study.seeds is null, and must be a list"),
    ],
)
@pytest.mark.parametrize(
    "words", [("report", "out"), ("report", "out", "--markdown", "x.md"), ("show", "out"), ("export", "out", "x.safetensors")]
)
def test_results_with_a_part_of_a_wrong_type_are_exit_code_65(finished, words, place, value, said):
    file = finished / "out/results.json"
    values = inside = json.loads(file.read_text())
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    file.write_text(json.dumps(values))
    refused(wisetune(*words), 65, f"out/results.json: cannot be read as results ({said})", "run the run's command again")
