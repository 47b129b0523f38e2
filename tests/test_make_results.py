from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "make_results.sh"


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script with a command in wisetune's place that fails at once."""
    options = {"env": {**os.environ, "WISETUNE": "false"}, "capture_output": True, "text": True}
    return subprocess.run(["bash", str(SCRIPT), str(folder)], check=False, **options)


def test_a_mistyped_folder_is_refused_before_anything_runs(tmp_path):
    folder = tmp_path / "my data"
    for name in ("dales_objects", "modelnet10", "infomr_shapedb"):
        found = make(folder)
        assert (found.returncode, found.stdout) == (2, "")
        assert f"there is no file {folder}/{name}.npz" in found.stderr
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.npz").touch()
    assert "the demo" in make(folder).stdout
