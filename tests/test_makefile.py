from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_first_use_says_what_it_waits_for(tmp_path, target):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    # The suite itself may be run by make, which would be told apart.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    # With a command in Python's place that fails at once.
    done = subprocess.run(["make", target, "PYTHON=false"], cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout.splitlines()[0].startswith("making the virtual environment .venv and installing wisetune in it: about a minute")
