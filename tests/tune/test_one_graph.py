"""Compilers find one graph in what a tuning grafted, forward and back. A file of its own, so that it runs beside the other contracts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cells
import pytest


def one_graph(backend: str, *names: str) -> None:
    """See the program; it ends with the name of the cell that failed."""
    words = [sys.executable, str(Path(__file__).with_name("one_graph.py")), backend, *names]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(names)


def test_it_is_one_graph():
    """One that keeps something between two calls; the slow test has more."""
    one_graph("eager", "dapt:rank=4-point-mae-classes")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_it_is_one_graph_forward_and_back():
    """One cell in a dozen, and the other that keeps something between two calls: each compiles for seconds."""
    one_graph("aot_eager", "prefix:length=3,hidden=5-point-mae-classes", *map(str, cells.EVERY[::12]))
