"""What mixing gains several ways to tune, a line each."""

from __future__ import annotations

import dataclasses

from studies import study

from wisetune.report.board import Board
from wisetune.report.together import together
from wisetune.results import Results, Words


def tuned(tuning: str, called: str, made: Results | None = None) -> Results:
    made = made or study((0, 1, 2))
    methods = made.study.methods | {"ft": Words(called, "")}
    return dataclasses.replace(made, study=dataclasses.replace(made.study, tuning=tuning, methods=methods, rule="interval"))


def lines(text: str, heading: str) -> dict[str, list[str]]:
    block = text.split(f"## {heading}\n\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    return {row[0]: row[1:] for row in [rows[0], *rows[2:]]}


def test_a_line_a_tuning_with_the_tuned_model_and_both_mixes() -> None:
    text = together([tuned("full", "full fine-tuning"), tuned("lora", "LoRA")], "Mixes")
    found = lines(text, "Robustness")
    assert found["tuning"] == ["alpha 1", "WiSE-FT-LP", "alpha", "difference", "WiSE-FT", "alpha", "difference"]
    assert found["LoRA"] == found["full fine-tuning"]
    alone = Board(tuned("lora", "LoRA"))
    mean, gain = (
        alone.mean("robustness", alone.chosen("wise-ft-lp", "interval")),
        alone.gain("robustness", alone.chosen("wise-ft", "interval")),
    )
    assert mean is not None
    assert gain is not None
    assert found["LoRA"][1].startswith(f"{100 * mean.value:.1f} (")
    assert [found["LoRA"][2], found["LoRA"][5]] == ["0.2", "0.7"]
    assert found["LoRA"][6].strip("*").startswith(f"+{100 * gain.value:.1f} (")
    assert found["LoRA"][6].startswith("**") == bool(gain.shown)
    assert "- Robustness of WiSE-FT against the tuned model: " in text
    assert "tuning `lora`" in text


def test_where_the_tuned_model_was_chosen_there_is_no_difference() -> None:
    made = study((0, 1, 2))
    kept = [dataclasses.replace(one, alpha=1.0) if one.method == "wise-ft" else one for one in made.chosen]
    text = together([tuned("full", "full fine-tuning"), tuned("lora", "LoRA", dataclasses.replace(made, chosen=kept))], "Mixes")
    assert lines(text, "Accuracy")["LoRA"][5:] == ["1", "–"]


def test_runs_of_one_tuning_or_of_several_tasks_have_no_such_table() -> None:
    other = tuned("lora", "LoRA")
    other = dataclasses.replace(other, study=dataclasses.replace(other.study, task=dataclasses.replace(other.study.task, digest="d7")))
    for runs in ([tuned("lora", "LoRA")] * 2, [tuned("full", "full fine-tuning"), other]):
        assert "## Run by run" not in together(runs, "Mixes")
