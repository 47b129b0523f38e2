"""A study as Markdown."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from studies import study, unchosen, unswept

from wisetune.report.card import model_card
from wisetune.report.markdown import markdown
from wisetune.report.together import together


def test_page_holds_verdict_command_and_every_alpha() -> None:
    text = markdown(study((0, 1, 2)), "Demo")
    assert text.startswith("# Demo\n\n**Take WiSE-FT-LP at α\u00a0=\u00a00.4 rather than full fine-tuning: ")
    assert text.split("\n\n")[2].startswith("WiSE-FT-LP at ")
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


def test_clean_accuracy_says_of_how_many_clouds_it_is() -> None:
    assert "| model | clean, the same 804 clouds | mean of 35 corruptions |" in markdown(study(), "Clean")


def test_no_corruption_no_section() -> None:
    results = study()
    rows = [row for row in results.rows if row.record.name != "corrupted accuracy"]
    assert "## Under corruption" not in markdown(dataclasses.replace(results, rows=rows), "Clean")


def test_a_choice_says_what_decided_and_an_old_one_how_its_search_ended() -> None:
    results = study((0,))
    for said, told in (("all are equal", "all are equal"), ("", "every alpha was tried")):
        chosen = [dataclasses.replace(one, stopped_by="end of grid", decided=said) for one in results.chosen]
        text = markdown(dataclasses.replace(results, chosen=chosen), "Choices").split("## The choice")[1]
        assert "| method | rule | seed | alpha | what decided |" in text
        assert f"| WiSE-FT-LP | greedy | 0 | 0.4 | {told} |" in text
        assert "end of grid" not in text


def test_several_runs_are_one_table_each_with_its_recommended_model_and_baselines() -> None:
    few = study((0,))
    counts = {"train": {"bag": 7, "bin": 5}, "test": {"bag": 2}}
    few = dataclasses.replace(few, study=dataclasses.replace(few.study, task=dataclasses.replace(few.study.task, counts=counts)))
    text = together([study((0, 1, 2)), few], "Both")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")][2:]
    alone = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in markdown(few, "One").split("## Along")[0].splitlines() if "|" in line
    ]
    mine = rows[len(rows) // 2 :]
    assert [row[2] for row in rows if row[0]] == [rows[0][2], "12 clouds"]
    assert [row[0] for row in rows if row[0]] == ["1", "2"]
    assert mine[0][3] == f"WiSE-FT-LP, {few.study.rule} rule (alpha 0.4)"
    assert all(row[3:] in alone for row in mine)
    assert {row[3] for row in mine[1:]} == {"full fine-tuning", "linear probing", "LP-FT", "fine-tuning, low rate"}
    assert text.count("wisetune run demo:scans") == 2
    assert "\n2. demo:scans, 12 clouds: test split: 804 clouds; 1 seed (0). One seed: each model" in text


def _told(text: str) -> tuple[str, str]:
    """What stands below the table: of all runs, and of each."""
    shared, each = text.split("\n\nIn all runs:\n\n")[1].split("\n\nMade by")[0].split("\n\n1. ")
    return shared, "1. " + each


def test_a_run_with_nothing_of_its_own_to_say_has_no_colon() -> None:
    _, each = _told(together([study((0, 1, 2)), study((0, 1, 2))], "Twins"))
    assert [line.rstrip()[-1] for line in each.splitlines()] == [".", "."]


def test_several_runs_say_once_what_all_share_and_of_each_what_it_alone_has() -> None:
    few = dataclasses.replace(study((0,)), audits={"abc": [{"audit": "finite", "ok": False}]})
    few = dataclasses.replace(few, study=dataclasses.replace(few.study, warnings=["Two clouds are equal."]))
    text = together([study((0, 1, 2)), few], "Both")
    shared, each = _told(text)
    for fact in ("Probes: demo:objects (`svm:on=[demo:objects],c=0.01`), ", "Start: bundled:point-mae-mini (`point-mae:width=96,depth=6`)"):
        assert fact in shared
    for fact in ("alpha on the validation split (accuracy of the task,", "wisetune 0.1.0, python 3.11.7, ", "fine-tuning `adamw:"):
        assert fact in shared
        assert text.count(fact) == 1
    one, other = each.splitlines()
    assert one == "1. demo:scans, 700 clouds: test split: 804 clouds; 3 seeds (0, 1, 2)."
    for fact in ("1 seed (0).", "One seed: each model was trained once.", "The audit of 1 merge failed (abc)", "Two clouds are equal."):
        assert fact in other
    assert "do not compare" not in text


def test_several_runs_of_two_seeds_show_both_seeds_and_say_why() -> None:
    text = together([study((0, 1)), study((0, 1, 2))], "Both")
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    mine, others = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    assert all(row.count("; seeds ") == 2 for row in mine)
    assert not any("seeds" in row for row in others)
    one, other = _told(text)[1].splitlines()
    assert "Two seeds: how far another seed would be" in one
    assert "Two seeds" not in other


def test_runs_measured_on_different_scans_do_not_compare() -> None:
    few = study((0,))
    counts = few.study.task.counts | {"test": {"bag": 2}}
    few = dataclasses.replace(few, study=dataclasses.replace(few.study, task=dataclasses.replace(few.study.task, counts=counts)))
    assert "Rows of different runs do not compare in accuracy: it was measured on different scans." in together([study((0,)), few], "")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"start_weights": "other", "start": "mine.pt"}, "in accuracy or robustness: the runs started from different weights."),
        ({"fit": "adamw:epochs=3"}, "in accuracy or robustness: the runs trained in different ways."),
        ({"probes": []}, "in robustness: the runs have different probes."),
        ({"reference": "lp"}, "in differences: these are from different models."),
    ],
)
def test_several_runs_say_in_what_they_do_not_compare(changes: dict[str, Any], told: str) -> None:
    other = study((0,))
    other = dataclasses.replace(other, study=dataclasses.replace(other.study, **changes))
    text = together([study((0,)), other], "Both")
    assert text.count("do not compare") == 1
    assert f"\n\nRows of different runs do not compare {told}\n\n" in text
    assert ("No probes." in _told(text)[1]) == ("probes" in changes)


def test_a_run_on_validation_does_not_compare_with_one_on_test() -> None:
    made = study((0,))
    held = dataclasses.replace(made, rows=[row for row in made.rows if row.record.split == "val"])
    text = together([made, held], "Both")
    assert "do not compare in accuracy: they are of different splits." in text
    assert "There is no test split here" in _told(text)[1].splitlines()[1]


@pytest.mark.parametrize(("story", "reference"), [("ft", "ft"), ("lp-ft", "lp")])
def test_a_story_without_a_sweep_says_nothing_of_one(story: str, reference: str) -> None:
    results = unswept(story, reference)
    for text in (markdown(results, "One model"), model_card(results, {})):
        assert not re.findall(r"(?i)\b(alphas?|chosen|sweeps?|rules?)\b|α", text)
    assert ("| accuracy against linear probing |" in markdown(results, "")) == (story != reference)


def test_the_recommended_model_stands_in_its_tables_though_no_rule_chose_it() -> None:
    alone, several = markdown(unchosen(), "One"), together([unchosen(), study((0,))], "Two")
    assert "## Models\n\n| model |" in alone
    assert "\n| WiSE-FT-LP (alpha 1) | " in alone
    assert "| WiSE-FT-LP (alpha 1) | " in several


def test_the_chosen_model_has_its_name_under_corruption() -> None:
    assert "\n| WiSE-FT-LP at the chosen α\u00a0=\u00a00.4 | " in markdown(study(), "Corrupted").split("## Under corruption")[1]


def test_as_many_corruptions_are_told_as_there_were() -> None:
    made = study((0,))
    rows = [row for row in made.rows if row.record.detail.get("kind") in (None, "clean", "jitter")]
    assert "| mean of 35 corruptions |" in markdown(made, "")
    assert "| mean of 5 corruptions |" in markdown(dataclasses.replace(made, rows=rows), "")


def test_the_card_counts_the_parts_that_there_are() -> None:
    results = study((0,))
    task = dataclasses.replace(results.study.task, counts={"test": {"bag": 3, "bin": 4}})
    text = model_card(dataclasses.replace(results, study=dataclasses.replace(results.study, task=task)), {})
    assert "- Clouds: 7 test; training seeds 0\n" in text
