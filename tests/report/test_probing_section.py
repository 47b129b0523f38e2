"""Probes as lines of a terminal and as a section of Markdown."""

from __future__ import annotations

import json

from wisetune.report.probing import COLUMNS, cells, markdown, text
from wisetune.results import Probed, Probing

TASK = {"name": "npz:cad.npz", "digest": "d", "classes": 10, "up": "z", "points": 1024, "per_class": 60, "labelled": 600, "draws": 5}
OURS = Probed("npz:cad.npz", 60, "as in the files", "mine", 0.898, 0.877, 0.916, 908, 0.006, (0.89, 0.906), (0.01,))
RANDOM = Probed("npz:cad.npz", 60, "as in the files", "random", 0.876, 0.853, 0.896, 908, 0.004, (0.87, 0.882), (0.01,), (0.868, 0.884))
PROBING = Probing(
    rows=[Probed(**{**vars(OURS), "gain": 0.022, "gain_low": 0.003, "gain_high": 0.041}), RANDOM],
    tasks=[{**TASK, "train": 3991, "val": 0, "test": 908}, {**TASK, "per_class": 0, "draws": 1, "train": 600, "val": 0, "test": 908}],
    backbones=[{"name": "mine", "weights": "abcd", "architecture": "point-mae", "parameters": 1240192}],
    notes=["mine saw nothing."],
    c="0.01",
    stamp={"wisetune": "0.1.0", "threads": 1},
    seconds=61.2,
)


def test_every_accuracy_has_its_interval_and_n_and_stands_beside_random():
    assert cells(PROBING) == [
        ("npz:cad.npz, 60 a class", "as in the files", "mine", "89.8 (87.7–91.6)", "0.6", "908", "+2.2 (+0.3 to +4.1)"),
        ("npz:cad.npz, 60 a class", "as in the files", "random, 2 seeds from 86.8 to 88.4", "87.6 (85.3–89.6)", "0.4", "908", "–"),
    ]


def test_the_columns_of_the_terminal_are_even():
    lines = text(PROBING).splitlines()
    assert len({line.index(name) for line, name in zip(lines, ("accuracy", "89.8", "87.6"), strict=False)}) == 1
    assert lines[0].split("  ")[0] == COLUMNS[0]
    assert "npz:cad.npz, 60 a class: 5 draws of 600 of 3,991 training clouds, 908 test clouds; 10 classes" in text(PROBING)
    assert "npz:cad.npz, all a class: one draw, 600 of 600 training clouds" in text(PROBING)
    assert lines[-1] == "mine saw nothing."


def test_the_section_holds_command_table_versions_and_time():
    section = markdown(PROBING, "wisetune probe mine --on npz:cad.npz")
    assert section.startswith("## Linear probes of frozen features\n\n```sh\nwisetune probe mine --on npz:cad.npz\n```\n\n| task |")
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}
    for said in (
        "- mine: weights abcd, 1,240,192 parameters",
        "- C 0.01; took 61 seconds.",
        "- mine saw nothing.",
        "- wisetune 0.1.0, threads 1",
    ):
        assert f"{said}\n" in section


def test_a_probing_is_json():
    assert json.loads(json.dumps(PROBING.to_json()))["rows"][1]["seeds"] == [0.868, 0.884]
