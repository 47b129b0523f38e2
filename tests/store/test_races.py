"""Two processes at the same moment: one of them is first, whole, and the other knows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from store_samples import DIGEST, tensors

from children import environment
from faults import ignore
from wisetune.store import Store

HERE = Path(__file__).parent
RACES = pytest.mark.parametrize("races", [20, pytest.param(500, marks=pytest.mark.slow)])


class Racers:
    """Two running racer.py."""

    def __init__(self) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, HERE / "racer.py", str(who)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
            )
            for who in (1, 2)
        ]
        assert [self.read(who) for who in (0, 1)] == ["ready", "ready"]

    def write(self, who: int, line: str) -> None:
        stdin = self.processes[who].stdin
        assert stdin is not None
        stdin.write(line + "\n")
        stdin.flush()

    def read(self, who: int) -> str:
        stdout = self.processes[who].stdout
        assert stdout is not None
        return stdout.readline().strip()

    def race(self, what: str, folder: Path) -> list[str]:
        """Both do it at the same moment; what they say."""
        when = time.time() + 0.005
        for who in (0, 1):
            self.write(who, f"{what} {folder} {when}")
        return [self.read(who) for who in (0, 1)]


@pytest.fixture(scope="module")
def racers() -> Iterator[Racers]:
    racers = Racers()
    yield racers
    for process in racers.processes:
        process.communicate("")
        assert process.returncode == 0


@RACES
def test_one_commit_wins_and_is_whole(races: int, racers: Racers, tmp_path: Path) -> None:
    for race in range(races):
        folder = tmp_path / str(race)
        said = racers.race("commit", folder)
        assert sorted(said) == ["kept", "theirs"]
        winner = 1 + said.index("kept")
        store = Store(folder, tell=ignore)
        stored = store.load(DIGEST)
        assert stored is not None
        assert all(torch.equal(stored.tensors[name], tensor) for name, tensor in tensors(winner).items())
        assert stored.log == [stored.extra] == [{"who": winner}]
        assert [path.name for path in (folder / "objects").iterdir()] == [DIGEST]


@RACES
def test_one_gets_the_lock_and_the_other_hears_who(races: int, racers: Racers, tmp_path: Path) -> None:
    for _ in range(races):
        said = racers.race("lock", tmp_path / "store")
        winner, loser = ("won", said[1]) if said[0] == "won" else (said[1], said[0])
        assert winner == "won"
        assert loser.startswith(f"busy: 'one' in {tmp_path / 'store'} is in use by ")
        # The winner may not have signed yet when the other looks.
        assert f"process {racers.processes[said.index('won')].pid} since " in loser or "by another process." in loser
        racers.write(said.index("won"), "release")
        assert racers.read(said.index("won")) == "released"


@pytest.mark.parametrize("races", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_waiting_for_a_lock_that_is_removed_at_every_release_excludes(races: int, racers: Racers, tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    for race in range(races):
        assert racers.race("count", tmp_path / "store") == ["done", "done"]
        assert (tmp_path / "number").read_text() == str(50 * (race + 1))


@RACES
def test_both_may_make_the_store(races: int, racers: Racers, tmp_path: Path) -> None:
    for race in range(races):
        assert racers.race("open", tmp_path / str(race)) == ["done", "done"]
        assert Store(tmp_path / str(race), create=False).list() == ()
