"""Things that happen to users and that no other test of a command types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from terminal import job, refused, wisetune

from children import environment
from wisetune.data.formats import write
from wisetune.results import FORMAT


def test_a_class_that_is_only_in_train_does_not_spoil_the_page(world):
    for row in range(6):
        for name, wide in (("ball", 1.0), ("stick", 0.2)):
            (world / "few" / name).mkdir(parents=True, exist_ok=True)
            write(world / "few" / name / f"{row}.ply", np.random.default_rng(row).normal(size=(80, 3)) * (1, wide, wide))
    (world / "few/plate").mkdir()
    write(world / "few/plate/only.ply", np.random.default_rng(9).normal(size=(80, 3)))
    done = wisetune(*job("lp", on="folder:few"), "--quiet")
    assert done.code == 0
    assert [line.split(": ")[2] for line in done.error.splitlines()] == ["missing class", "missing class", "small class"]
    assert "plate" in (world / "out/report.html").read_text()


@pytest.mark.parametrize("words", [("report", "out"), ("show", "out"), ("export", "out", "new.safetensors")])
def test_results_of_another_version_are_not_read_as_ours(finished, words):
    file = finished / "out/results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    refused(
        wisetune(*words), 65, f"out/results.json: cannot be read as results (they are of format 99, and this version reads format {FORMAT})"
    )


@pytest.mark.parametrize("content", ["[]", "{}", f'{{"format": {FORMAT}}}', "3"])
def test_results_that_are_none(finished, content):
    (finished / "out/results.json").write_text(content)
    refused(wisetune("report", "out"), 65, "out/results.json:", "run the run's command again")


@pytest.mark.usefixtures("world")
def test_no_validation_part():
    done = wisetune(*job("wise-ft", on="npz:solids.npz,val=0"), "--quiet")
    refused(done, 65, "no validation part", "give a share above 0, such as val=0.2, or leave val out")


@pytest.mark.usefixtures("finished")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")
@pytest.mark.parametrize("words", [("list", "out"), ("data", "check", "scans")])
def test_an_output_that_is_full_is_one_message(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "wisetune", *words], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert done.stderr == "wisetune: standard output cannot be written: No space left on device. Free some space, or send it elsewhere.\n"
    assert done.returncode == 73


@pytest.mark.usefixtures("world")
def test_an_archive_that_was_cut_off_is_not_called_weights():
    shutil.copy("solids.npz", "model.npz")
    refused(wisetune("predict", "model.npz", "scans/train/ball/0.ply"), 65, "model.npz was not written by wisetune", "or another archive")
