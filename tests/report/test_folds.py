"""The folds of a task are counted together: by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from studies import comparison, fold

from wisetune.errors import UsageError
from wisetune.report.together import together
from wisetune.results import Results

FULL, LORA, DAPT = (16, 18, 14), (14, 18, 10), (17, 20, 16)
"""Right of 20 in each of three folds."""


def three(**said: Any) -> list[Results]:
    return [fold(number, dict(zip(("ft", "lora:rank=4", "dapt"), right, strict=True)), **said) for number, right in enumerate(_columns())]


def _columns() -> list[tuple[int, ...]]:
    return list(zip(FULL, LORA, DAPT, strict=True))


def table(text: str, beginning: str = "| tuning |") -> dict[str, list[str]]:
    """The lines of the first table that begins so, by their first cell."""
    block = next(block for block in text.split("\n\n") if block.startswith(beginning))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    return {row[0]: row[1:] for row in [rows[0], *rows[2:]]}


def test_mean_sd_and_students_interval_over_folds_and_differences_fold_by_fold() -> None:
    found = table(together(three(), "Few"))
    # 80, 90, 70: sd 10, and t of two degrees of freedom 4.3027 times 10 / sqrt(3) is 24.8. No accuracy is above 100.
    assert found["full fine-tuning"] == ["80.0 (55.2–100.0)", "10.0", "–"]
    # 70, 90, 50; differences −10, 0, −20, sd 10.
    assert found["LoRA (rank=4)"] == ["70.0 (20.3–100.0)", "20.0", "−10.0 (−34.8 to +14.8)"]
    # 85, 100, 80; differences 5, 10, 10: sd 2.887, half width 7.17: it leaves out 0.
    assert found["DAPT"] == ["88.3 (62.5–100.0)", "10.4", "**+8.3 (+1.2 to +15.5)**"]


def test_what_is_shown_is_said_in_words_with_counts() -> None:
    text = together(three(), "Few")
    assert "Accuracy against full fine-tuning: a gain is shown for DAPT (+8.3 points), no difference for the other." in text
    assert "3 folds (0, 1, 2) of `few-shot:on=demo:scans`: 14 classes, 700 clouds to train on in each, 60 test clouds in all." in text
    assert "Of folds each figure is the mean over them" in text
    assert "One seed: each model was trained once" not in text


def test_no_fold_is_judged_by_itself_and_all_are_judged_together() -> None:
    # In two folds of three linear probing is shown to be above full fine-tuning, of which a single run's page warns; over folds it is not.
    runs = [dataclasses.replace(fold(number, {"ft": ft, "lp": 80}, n=100), log={}) for number, ft in enumerate((10, 12, 80))]
    warned = "Full fine-tuning is below linear probing"
    assert warned in together([runs[0], comparison(n=20)], "Apart")
    assert warned not in together(runs, "Few")
    runs[2] = dataclasses.replace(fold(2, {"ft": 11, "lp": 80}, n=100), log={})
    assert (
        together(runs, "Few").count(f"- {warned} in accuracy: −69.0 (−71.5 to −66.5) points. So full fine-tuning, trained on 700 scans")
        == 1
    )


def test_the_first_fold_that_stands_apart_is_told_by_its_number() -> None:
    first, *_, last = three()
    task = dataclasses.replace(first.study.task, name="few-shot:on=demo:scans")
    text = together([dataclasses.replace(first, study=dataclasses.replace(first.study, task=task)), last], "Few")
    assert table(text)["tuning"] == ["few-shot:on=demo:scans,fold=0", "few-shot:on=demo:scans,fold=2"]


def test_costs_are_said_to_be_of_another_head_only_where_there_is_one() -> None:
    alike = comparison(n=400)
    other = dataclasses.replace(alike.study.task, name="other")
    fewer = dataclasses.replace(other, classes=other.classes[:5], counts={"train": {"a": 9}, "test": {"a": 9}})
    for task, said in (
        (other, "Counted and timed on demo:scans.\n"),
        (fewer, "Counted and timed on demo:scans; on others the head has another number of classes and a batch may be of another size.\n"),
    ):
        assert said in together([alike, dataclasses.replace(alike, study=dataclasses.replace(alike.study, task=task))], "Two")


def test_the_order_in_which_folds_are_given_does_not_matter() -> None:
    assert together(three(), "Few") == together(three()[::-1], "Few")


def test_robustness_is_of_the_same_items_in_every_fold() -> None:
    # 10 of 20 in each fold: the folds agree, but Wilson's interval of 20 items stays.
    found = table(together(three(robust="10" * 10), "Few"))
    assert found["DAPT"][3:5] == ["50.0 (29.9–70.1)", "0.0"]
    assert not found["DAPT"][5].startswith("*")


def test_folds_of_different_size_count_alike_and_all_their_clouds_are_told() -> None:
    runs = three()
    runs[1] = fold(1, {"ft": 36, "lora:rank=4": 36, "dapt": 40}, n=40)
    text = together(runs, "Few")
    assert table(text) == table(together(three(), "Few"))
    assert "80 test clouds in all" in text


def test_a_method_that_a_fold_lacks_is_left_out_and_named() -> None:
    text = together([*three(), fold(7, {"ft": 10, "dapt": 10})], "Few")
    assert "Not in every fold, and left out: LoRA (rank=4) (3 of 4)." in text
    assert set(table(text)) == {"tuning", "full fine-tuning", "DAPT"}
    assert "4 folds (0, 1, 2, 7)" in text


def test_a_fold_given_twice_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"runs 1 and 4 of those given are both fold 0 of 'few-shot:on=demo:scans', and a fold counts once"
    ):
        together([*three(), three()[0]], "Few")


@pytest.mark.parametrize("said", [{"fit": "adamw:epochs=1"}, {"start_weights": "others"}, {"of": "few-shot:on=demo:scans,ways=9"}])
def test_runs_that_differ_in_more_than_the_fold_are_not_counted_together(said: dict[str, Any]) -> None:
    text = together([*three()[:2], *three(**said)[2:]], "Few")
    assert "Of folds" not in text
    assert text.count("\n## few-shot:") == 3
    assert "80.0 (58.4–91.9)" in text


def test_two_folds_have_no_interval_and_stand_apart() -> None:
    text = together(three()[:2], "Few")
    assert "Of folds" not in text
    why = "Folds of `few-shot:on=demo:scans` are counted together where at least 3 differ in nothing but their draw; here 0 and 1 stand apart."
    assert why in text


def test_several_settings_stand_side_by_side_as_mean_and_sd() -> None:
    other = [fold(number, {"ft": 20, "dapt": 18 + number}, of="few-shot:on=demo:scans,shots=20") for number in range(3)]
    for one in other:
        one.study.task.protocol["few-shot"] = "5 ways, 20 shots, 20 queries a class"
    text = together([*three(), *other], "Few")
    found = table(text.split("## Accuracy on each")[1])
    assert found["tuning"] == ["5 ways, 10 shots, 20 queries a class", "5 ways, 20 shots, 20 queries a class"]
    assert found["DAPT"] == ["88.3 ± 10.4", "95.0 ± 5.0"]
    assert found["LoRA (rank=4)"] == ["70.0 ± 20.0", "–"]
    against = table(text.split("## Accuracy against full fine-tuning")[1])
    assert against["DAPT"] == ["**+8.3 (+1.2 to +15.5)**", "−5.0 (−17.4 to +7.4)"]


def test_commands_that_differ_in_the_fold_alone_are_one_loop() -> None:
    text = together(three(), "Few")
    line = 'wisetune compare --on "few-shot:on=[demo:scans],fold=$fold" --seeds 1 --out "out/few-$fold"'
    assert f"```sh\nfor fold in 0 1 2; do\n    {line}\ndone\n```" in text


@pytest.mark.parametrize("command", ["wisetune compare --seeds 9", "wisetune compare --on 'few-shot:fold=2' --out out/few-3 --seeds 1"])
def test_other_commands_stand_one_by_one(command: str) -> None:
    runs = three()
    runs[2] = dataclasses.replace(runs[2], study=dataclasses.replace(runs[2].study, command=command))
    text = together(runs, "Few")
    assert "for fold" not in text
    assert f"\n{command}\n" in text


def test_several_tasks_have_one_table_of_differences_and_one_of_costs() -> None:
    made = comparison(n=400)
    task = dataclasses.replace(made.study.task, name="npz:scans.npz")
    text = together([made, dataclasses.replace(made, study=dataclasses.replace(made.study, task=task))], "Two")
    against = table(text)
    assert against["tuning"] == ["demo:scans", "npz:scans.npz"]
    assert all(one == other for one, other in (row for name, row in against.items() if name != "tuning"))
    assert against["linear probing"][0] in text.split("## npz:scans.npz")[1]
    assert text.count("values that train") == text.count("## What each costs") == 1
    assert text.count("\n## Protocol\n") == 1
    assert "do not compare" not in text
