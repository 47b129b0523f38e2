"""driver.py WORK MODE...: runs a pico job over stores in WORK, in processes that it kills, until each is done; results in WORK/x/results.json.

never            WORK/never: nobody is killed
each             WORK/each: killed at every single commit to the disk, in turn just after it and just before the next
random:SEED:N    WORK/random-0, -1, ...: killed at any moment, N times in all, a new store whenever a job gets done
race             WORK/race: two processes at the same time; the results of the second are in WORK/race/other.json

Prints one line a mode: how often it killed.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import pico
from wisetune.files import atomic
from wisetune.fit import loop
from wisetune.stories.wise_ft_lp import WiseFtLp

QUICK = dataclasses.replace(pico.FIT, epochs=2, augment="scale-translate")
HEAD = dataclasses.replace(pico.HEAD_FIT, epochs=2, select="best")
COMMITS = ("write_bytes", "commit_folder", "discard")


def run(folder: Path, results: str = "results.json") -> None:
    """The job; every epoch is saved, so that there is more to lose."""
    torch.manual_seed(os.getpid())  # a fork inherits the global state; a new process would not
    hours = itertools.count()
    loop.time.monotonic = lambda: 3600.0 * next(hours)  # type: ignore[method-assign]
    job = pico.runner(folder / "store", WiseFtLp((0.0, 0.5)), fit=QUICK, gentle_fit=QUICK, head_fit=HEAD)
    atomic.write_json(folder / results, pico.timeless(job.run("driver").results).to_json())


def warm_up() -> None:
    """What every child would do first: load libraries (torch's optimisers need the second) and compiled kernels."""
    for name in ("sklearn.pipeline", "sklearn.preprocessing", "sklearn.svm", "torch._dynamo"):
        importlib.import_module(name)
    pico.backbone()  # no backward pass: autograd has threads, and they do not survive a fork


def in_child(work: Callable[[], None]) -> int:
    """Start ``work`` in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def ended(child: int) -> bool:
    """Wait: whether it got to its end; False if it was killed."""
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("a job failed; what it said is above")
    return os.WIFEXITED(status)


def dying(work: Callable[[], None], just_before_the_second: bool) -> None:
    """Do ``work`` up to its first commit; a job that has none left gets to its end."""
    commits = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal commits
            if commits:
                os.kill(os.getpid(), signal.SIGKILL)
            done = real(*arguments, **options)
            commits += 1
            if not just_before_the_second:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    for name in COMMITS:
        setattr(atomic, name, counted(getattr(atomic, name)))
    work()


def each(work: Path) -> int:
    for kills in itertools.count():
        if ended(in_child(lambda at=kills: dying(lambda: run(work / "each"), at % 2 == 1))):
            return kills
    raise AssertionError


def at_random(work: Path, seed: int, wanted: int) -> int:
    draw, kills = random.Random(seed), 0
    for number in itertools.count():
        while True:
            child = in_child(lambda to=work / f"random-{number}": run(to))
            if kills < wanted:
                time.sleep(draw.uniform(0.0, 0.6))
                os.kill(child, signal.SIGKILL)
            if ended(child):
                break
            kills += 1
        if kills >= wanted:
            return kills
    raise AssertionError


def main(work: Path, modes: list[str]) -> None:
    torch.set_num_threads(1)  # a forked child has no worker threads to share the work with
    warm_up()
    os.fsync = lambda _: None  # type: ignore[assignment] - slow, and without effect while the machine itself goes on
    for mode in modes:
        name, *arguments = mode.split(":")
        kills = 0
        if name == "never":
            ended(in_child(lambda: run(work / "never")))
        elif name == "each":
            kills = each(work)
        elif name == "random":
            kills = at_random(work, *map(int, arguments))
        elif name == "race":
            both = [in_child(lambda to=results: run(work / "race", to)) for results in ("results.json", "other.json")]
            assert all(map(ended, both))
        print(f"{name} {kills}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
