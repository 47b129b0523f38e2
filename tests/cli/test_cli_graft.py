"""A run whose tuning, from outside wisetune, grafts modules into the backbone."""

from __future__ import annotations

import sys

import pytest
from terminal import built, job, refused, wisetune

from pico import bits
from wisetune import load_delta, load_model, resolve


def test_its_model_predicts_and_is_exported_and_is_no_start(world, monkeypatch):
    done = wisetune(*job("my_tunings:Adapting"))
    assert done.code == 0, done.error
    assert "(wisetune --import my_tunings predict out FILE...)" in done.out
    scans = sorted(map(str, (world / "scans/test").rglob("*.ply")))
    asked = wisetune("predict", "out", *scans, "--json")
    assert asked.code == 0, asked.error
    assert wisetune("export", "out", "scans.safetensors").code == 0
    assert wisetune("export", "out", "delta.safetensors", "--delta").code == 0
    joined = load_delta("delta.safetensors", resolve("mine.safetensors").load())
    assert bits(joined.state_dict()) == bits(load_model("scans.safetensors").state_dict())
    told = wisetune("show", "delta.safetensors").out
    for words in (
        " values that its start has not: a delta",
        "start      the weights ",
        ", mine.safetensors\n",
        "graft      my_tunings:Adapter",
    ):
        assert words in told
    refused(wisetune("predict", "delta.safetensors", *scans), 65, "delta.safetensors is a delta file", "resolve('mine.safetensors')")
    refused(wisetune("export", "out", "folded.safetensors", "--fold"), 2, "'my_tunings:Adapter' cannot be folded", "Keep its grafts")
    assert wisetune("predict", "scans.safetensors", *scans, "--json").json == asked.json
    for words in (job(from_="scans.safetensors", out="next"), ("probe", "scans.safetensors", "--on", "npz:others.npz")):
        refused(wisetune(*words), 65, "scans.safetensors holds a model into which my_tunings:Adapter:rank=2 grafted")
    # As in another process.
    monkeypatch.delitem(sys.modules, "my_tunings")
    for words in (("predict", "out", *scans), ("export", "out", "again.safetensors")):
        refused(
            wisetune(*words),
            65,
            "cannot be read as yet: its tuning is 'my_tunings:Adapter', from outside wisetune",
            "wisetune --import my_tunings ...",
        )
        assert "my_tunings" not in sys.modules
    assert not (world / "again.safetensors").exists()
    again = wisetune("--import", "my_tunings", "predict", "out", *scans, "--json")
    assert (again.code, again.json) == (0, asked.json)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--import"], "--import needs the name of a module"),
        (["--import="], "--import needs the name of a module"),
        (["--import", "no_lab.tuning", "doctor"], "--import: the module 'no_lab.tuning' cannot be imported"),
        (["--import=./tuning.py", "doctor"], "--import: the module './tuning.py' cannot be imported"),
    ],
)
def test_a_module_that_is_not_there(words, says):
    refused(wisetune(*words), 2, says)


@pytest.mark.usefixtures("world")
def test_a_sweep_to_the_start_is_refused_before_anything_is_trained():
    for words in ([], ["--dry-run"]):
        refused(wisetune(*job("my_tunings:Sweeping"), *words), 2, "mixes backbones with different grafts: point-mae#", "has none; ")
    assert built() == {}


@pytest.mark.usefixtures("world")
def test_what_a_tuning_found_at_the_end_is_shown():
    done = wisetune(*job("ft", tuning="dapt:rank=4"))
    assert done.code == 0, done.error
    found = "of DAPT's 2 gates "
    assert f": {found}" in done.error
    row = next(row for row in wisetune("list", "out", "--json").json if row["recipe"].startswith("dapt"))
    line = next(line for line in wisetune("show", "out", row["digest"]).out.splitlines() if line.startswith("found"))
    assert line.startswith(f"found    {found}")
    assert ", open blocks.blocks.1 " in line
