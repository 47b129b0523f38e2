"""Whatever happens to a run at whichever call that changes the disk: nothing is torn, and the same run again ends with the same bits."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_samples import DIGEST, STEPS, Tree, damage, run, tensors, tree

from children import environment
from faults import ERRORS, FULL, KILL, ONE_ERROR, READ_ONLY, Fault, Faults, ignore
from wisetune.errors import StorageError
from wisetune.store import Store

HERE = Path(__file__).parent


class StopError(Exception):
    """Ends a run early."""


def fresh(base: Path) -> int:
    """Nothing but an old report; returns the last step that is safely stored."""
    base.mkdir()
    (base / "report.html").write_text("old")
    return 0


def damaged_objects(base: Path) -> int:
    """A finished run whose weights and records were damaged since."""
    run(base / "store")
    damage(base / "store" / "objects" / DIGEST / "weights.safetensors")
    damage(next((base / "store" / "records" / DIGEST).iterdir()))
    (base / "report.html").write_text("old")
    return 0


def damaged_state(base: Path) -> int:
    """A run that was stopped before the last step, and its newest state damaged since."""

    def stop(step: int) -> None:
        if step == STEPS - 1:
            raise StopError

    with pytest.raises(StopError):
        run(base / "store", stop)
    damage(max((base / "store" / "states" / DIGEST).iterdir()) / "state.safetensors")
    (base / "report.html").write_text("old")
    return STEPS - 2


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", ignore)


# Every pair is run, but by default only these: each scenario once.
QUICK = {(KILL, fresh), (FULL, damaged_state), (ONE_ERROR, damaged_objects)}


def pairs(*faults: Fault) -> list[Any]:
    """Every fault with every scenario, most of them marked slow."""
    every = itertools.product(faults, (fresh, damaged_objects, damaged_state))
    return [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow, id=f"{pair[0].name}-{pair[1].__name__}") for pair in every]


@pytest.fixture
def undisturbed(ram: Path) -> Tree:
    """The store after a run that nothing disturbed."""
    assert run(ram / "undisturbed" / "store") == [1, 2, 3, 4]
    return tree(ram / "undisturbed" / "store")


def unsound(store: Path) -> set[str]:
    if not (store / "store.json").exists():
        return set()
    problems = {str(problem.path.relative_to(store)) for problem in Store(store).verify()}
    assert list(store.rglob(".wisetune-*")) == [], "opening a store removes what was left in it"
    return problems


def check(base: Path, disturbed: Path, saved: int, undisturbed: Tree) -> None:
    """Nothing more is torn than in ``base``, nothing saved is lost, and the same run again ends as if it had been the first."""
    assert unsound(disturbed / "store") <= unsound(base / "store")
    assert (disturbed / "report.html").read_text() in ("old", "new")
    again = run(disturbed / "store")
    # Its next step too may have been saved before the fault, without the run having heard of it.
    assert again in ([*range(saved + 1, STEPS + 1)], [*range(saved + 2, STEPS + 1)])
    assert tree(disturbed / "store") == undisturbed
    assert (disturbed / "report.html").read_text() == "new"
    assert sorted(path.name for path in disturbed.iterdir()) == ["report.html", "store"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("fault", "before"), pairs(KILL))
def test_killed_at_every_call(fault: Fault, before: Callable[[Path], int], undisturbed: Tree, ram: Path) -> None:
    assert fault is KILL, "what kill_everywhere.py does"
    base, work = ram / "base", ram / "work"
    saved_before = before(base)
    work.mkdir()
    done = subprocess.run([sys.executable, HERE / "kill_everywhere.py", base, work], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    disturbed = [path for path in work.iterdir() if path.is_dir()]
    assert len(disturbed) > 30
    for folder in disturbed:
        said = work / f"{folder.name}.saved"
        check(base, folder, int(said.read_text()) if said.exists() else saved_before, undisturbed)
        shutil.rmtree(folder)


@pytest.mark.parametrize(("fault", "before"), pairs(ONE_ERROR, ERRORS, FULL, READ_ONLY))
def test_failing_disk_at_every_call(fault: Fault, before: Callable[[Path], int], undisturbed: Tree, ram: Path) -> None:
    base = ram / "base"
    saved_before = before(base)
    refused = 0
    for n in itertools.count(1):
        folder, saved = ram / str(n), [saved_before]
        shutil.copytree(base, folder)
        with Faults(n, fault) as faults:
            try:
                run(folder / "store", saved.append)
            except StorageError as error:
                refused += str(folder) in str(error)
        if faults.count < n:
            break
        check(base, folder, saved[-1], undisturbed)
        shutil.rmtree(folder)
    assert refused > 30


def test_a_store_that_may_only_be_read_can_be_read(tmp_path: Path) -> None:
    run(tmp_path / "store")
    Store(tmp_path / "store").save_state(DIGEST, tensors(), {})  # as if killed between the commit and the dropping of the state
    with Faults(1, READ_ONLY):
        store = Store(tmp_path / "store", create=False)
        assert store.load(DIGEST) is not None
        assert [summary.digest for summary in store.list()] == [DIGEST]
        with pytest.raises(StorageError, match="a folder that you may write to"):
            store.save_state(DIGEST, tensors(), {})
