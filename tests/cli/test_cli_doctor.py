from __future__ import annotations

import sys

import pytest
from terminal import built, job, refused, wisetune

from wisetune._version import __version__
from wisetune.nets.files.pretrained import PRETRAINED


def test_a_sound_installation():
    done = wisetune("doctor")
    assert (done.code, done.error) == (0, "")
    assert done.out.splitlines()[-1] == "All is well."
    said = {line[:16].strip(): line[17:] for line in done.out.splitlines()[:-1]}
    assert said["wisetune"] == __version__
    assert {"python", "torch", "device", "threads", "laspy", "lazrs", *PRETRAINED} <= set(said)


def test_as_json(monkeypatch):
    monkeypatch.setitem(sys.modules, "laspy", None)
    done = wisetune("doctor", "--json")
    assert (done.code, done.error) == (0, "")
    assert done.json["problems"] == []
    assert done.json["wisetune"] == __version__
    assert done.json["laspy"] == "not installed (optional: pip install 'wisetune[las]')"


def test_shipped_weights_that_are_missing_are_said_to_be(monkeypatch):
    monkeypatch.setitem(PRETRAINED, "point-mae-mini", "gone.safetensors")
    refused(wisetune("doctor"), 65, "'point-mae-mini' are not in this installation: gone.safetensors is missing. Install wisetune again")


@pytest.mark.usefixtures("undrawn")
def test_a_damaged_run_is_found_and_mended_by_its_command(finished):
    before = built()
    assert wisetune("doctor", "out").out.splitlines()[-1] == "All is well."
    damaged = finished / "out/store/objects" / next(iter(before)) / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    done = wisetune("doctor", "out")
    assert (done.code, done.error) == (65, "")
    *_, problem, total = done.out.splitlines()
    assert problem.startswith(f"damaged: {damaged.parent.relative_to(finished)}: weights.safetensors ")
    assert total == "1 damaged file; the run's command builds it again."
    found = wisetune("doctor", "out", "--json")
    assert found.code == 65
    assert [problem] == [f"damaged: {text}" for text in found.json["problems"]]
    assert wisetune(*job("wise-ft-lp:alphas=0+0.5+1,baselines=false"), "--quiet").code == 0
    assert wisetune("doctor", "out").code == 0


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("name", ["results.json", "model.safetensors"])
@pytest.mark.usefixtures("undrawn")
def test_damage_of_what_lies_beside_the_store_is_found(finished, name):
    file = finished / "out" / name
    whole = file.read_bytes()
    try:
        for torn in (whole[: len(whole) // 2], whole[:-1] + b"?"):
            file.write_bytes(torn)
            done = wisetune("doctor", "out")
            assert done.code == 65
            assert f"damaged: out/{name}: " in done.out
            assert done.out.splitlines()[-1] == "1 damaged file; the run's command builds it again."
    finally:
        file.write_bytes(whole)
    assert wisetune("doctor", "out").code == 0


@pytest.mark.parametrize("name", ["nowhere", "scans"])
def test_a_folder_that_is_no_run_is_refused(name):
    refused(wisetune("doctor", name), 65, f"'{name}' is not a run's folder: it has no store. Give the --out of wisetune run.")


@pytest.mark.usefixtures("finished")
def test_what_was_read_of_a_run_is_told():
    (line,) = [line for line in wisetune("doctor", "out").out.splitlines() if line.startswith("out ")]
    assert line.split(maxsplit=1)[1] == f"{len(wisetune('list', 'out', '--json').json)} objects, results.json, model.safetensors"
