from __future__ import annotations

import pytest
from terminal import refused, wisetune


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plan_needs_no_file_no_network_and_no_out(here):
    done = wisetune("demo", "--dry-run", "--json", "--seeds", 2)
    assert (done.code, done.error) == (0, "")
    plan = done.json
    assert (plan["story"], plan["start"], plan["seeds"]) == ("wise-ft-lp", "point-mae-mini", [0, 1])
    assert (plan["task"]["name"], [probe["name"] for probe in plan["probes"]]) == ("demo:scans", ["demo:objects"])
    assert not set(plan["task"]["classes"]) & set(plan["probes"][0]["classes"])
    assert all(sum(plan["task"]["counts"][part].values()) > 0 for part in ("train", "val", "test"))
    assert list(here.iterdir()) == []


def test_fewer_scans_of_each_class():
    counts = wisetune("demo", "--dry-run", "--json", "--labelled", 7).json["task"]["counts"]
    assert set(counts["train"].values()) == {7}
    assert sum(counts["test"].values()) == 570


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--seeds", "0"), 2, "--seeds is 0; it must be at least 1"),
        (("--labelled", "0"), 2, "option 'labelled' of 'demo' is 0"),
        (("--threads", "0"), 2, "--threads is 0; it must be at least 1"),
        (("--on", "scans"), 2, "--on"),
        (("--out", "file"), 73, "--out file is a file, and a run needs a folder"),
    ],
)
def test_a_slip_is_one_message(here, words, code, said):
    (here / "file").touch()
    refused(wisetune("demo", *words), code, said)
    assert [path.name for path in here.iterdir()] == ["file"]
