from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from children import environment
from wisetune.points._threads import over_batch

FORK = """
import os, signal, threading, torch
from wisetune.points._threads import over_batch

torch.set_num_threads(2)
done = [0] * 4
both = threading.Barrier(2)

def kernel(rows):
    both.wait(30)  # so that there are two threads, and both are idle at the fork
    for row in range(rows.start, rows.stop):
        done[row] += 1

over_batch(kernel, 4)
child = os.fork()
if child == 0:
    signal.alarm(30)
    over_batch(kernel, 4)
    os._exit(0 if done == [2] * 4 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_row_is_worked_on_once(threads):
    before, done = torch.get_num_threads(), [0] * 5

    def kernel(rows: slice) -> None:
        for row in range(rows.start, rows.stop):
            done[row] += 1

    torch.set_num_threads(threads)
    try:
        over_batch(kernel, 5)
    finally:
        torch.set_num_threads(before)
    assert done == [1] * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_works_too():
    found = subprocess.run([sys.executable, "-c", FORK], env=environment(), capture_output=True, text=True, timeout=60)
    assert found.stdout == "0\n", found.stderr
