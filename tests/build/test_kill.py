"""Killed at any moment and started again, a job ends with the bytes of one that was never killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from children import environment
from wisetune.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks")
DRIVER = Path(__file__).parent / "driver.py"


def drive(work: Path, *modes: str) -> dict[str, int]:
    done = subprocess.run([sys.executable, str(DRIVER), str(work), *modes], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: int(kills) for name, kills in map(str.split, done.stdout.splitlines())}


def kept(folder: Path) -> dict[str, bytes]:
    """What a job leaves: results, weights, logs, records; not the locks. No temporary name and no state may be left."""
    store = folder / "store"
    files = {
        str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file() and "locks" not in path.parts
    }
    assert not [name for name in files if name.startswith(("states", "quarantine"))]
    assert list(Store(store).verify()) == []
    return {**files, "results.json": (folder / "results.json").read_bytes()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    work = tmp_path_factory.mktemp("kills")
    return work, drive(work, "never", "each", "random:1:5", "race")


def test_killed_at_every_commit(world):
    work, kills = world
    assert kills["each"] > 30
    assert kept(work / "each") == kept(work / "never")


def test_killed_at_random_moments(world):
    work, kills = world
    assert kills["random"] == 5
    rounds = sorted(work.glob("random-*"))
    assert rounds
    for folder in rounds:
        assert kept(folder) == kept(work / "never")


def test_two_processes_at_the_same_time_end_with_equal_results(world):
    work, _ = world
    assert kept(work / "race") == kept(work / "never")
    assert (work / "race" / "other.json").read_bytes() == (work / "never" / "results.json").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_many_random_moments(tmp_path, seed):
    assert drive(tmp_path, "never", f"random:{seed}:50")["random"] == 50
    for folder in sorted(tmp_path.glob("random-*")):
        assert kept(folder) == kept(tmp_path / "never")
