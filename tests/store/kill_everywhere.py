"""kill_everywhere.py BASE WORK: copies BASE to WORK/1, WORK/2, ... and kills a run on each at its 1st, 2nd, ... call that changes
the disk, until one completes. WORK/n.saved holds the last step that the n-th run had saved."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import torch
from store_samples import run

from faults import KILL, Faults


def note(file: Path, step: int) -> None:
    file.write_text(str(step))


def main(base: Path, work: Path) -> None:
    torch.set_num_threads(1)  # a forked child has no worker threads to share the work with
    for n in itertools.count(1):
        shutil.copytree(base, work / str(n))
        child = os.fork()
        if child == 0:
            with Faults(n, KILL):
                run(work / str(n) / "store", partial(note, work / f"{n}.saved"))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
