from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
NEEDED = {
    "make_results.sh": (("dales_objects", "modelnet10", "infomr_shapedb"), "the demo"),
    "make_tunings_results.sh": (
        ("simscan_obj_only", "simscan_obj_bg", "simscan_pb_t50_rs", "modelnet10", "dales_objects"),
        "all ways to tune on five sets",
    ),
}


def make(script: str, *folder: Path) -> subprocess.CompletedProcess[str]:
    """The script with a command in wisetune's place that fails at once."""
    options = {"env": {**os.environ, "WISETUNE": "false"}, "capture_output": True, "text": True}
    return subprocess.run(["bash", str(SCRIPTS / script), *map(str, folder)], check=False, **options)


@pytest.mark.parametrize("script", NEEDED)
def test_a_mistyped_folder_is_refused_before_anything_runs(tmp_path, script):
    folder = tmp_path / "my data"
    names, first = NEEDED[script]
    for name in names:
        found = make(script, folder)
        assert (found.returncode, found.stdout) == (2, "")
        assert f"{script}: there is no file {folder}/{name}.npz" in found.stderr
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.npz").touch()
    assert first in make(script, folder).stdout


def test_ways_to_tune_need_data():
    found = make("make_tunings_results.sh")
    assert (found.returncode, found.stdout) == (2, "")
    assert "no folder was given" in found.stderr
