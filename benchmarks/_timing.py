"""Compare two ways to do the same thing on a noisy machine: interleaved in one process, ratio of each pair of neighbouring runs.

Both sides share the process and with it the threads, the allocator and its settings, and whatever else the machine is doing at the time. What is
reported is the median of the pairs' ratios with the smallest and largest, by the process's CPU time and by the clock.

glibc by default gives large blocks back to the system as soon as they are freed and takes page faults when they are needed again. That is part
of what code that writes large temporaries costs its users, but not of its arithmetic: ``--keep-memory`` tells glibc to keep what it has.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numba
import numpy as np
import torch


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Seconds of each round of both sides."""

    name: str
    ours_cpu: list[float]
    peer_cpu: list[float]
    ours_wall: list[float]
    peer_wall: list[float]

    @property
    def cpu(self) -> list[float]:
        """How many times less CPU time ours takes, by round."""
        return [b / a for a, b in zip(self.ours_cpu, self.peer_cpu, strict=True)]

    @property
    def wall(self) -> list[float]:
        """The same by the clock."""
        return [b / a for a, b in zip(self.ours_wall, self.peer_wall, strict=True)]

    def line(self) -> str:
        """A row of the table."""
        spread = [f"{statistics.median(r):6.2f} ({min(r):.2f}..{max(r):.2f})" for r in (self.cpu, self.wall)]
        ours, peer = statistics.median(self.ours_wall), statistics.median(self.peer_wall)
        return f"{self.name:44s} {spread[0]:24s} {spread[1]:24s} {ours * 1e3:10.1f} {peer * 1e3:10.1f}"


HEADER = f"{'':44s} {'ratio, CPU time':24s} {'ratio, clock':24s} {'ours ms':>10s} {'peer ms':>10s}"


def compare(name: str, ours: Callable[[], object], peer: Callable[[], object], rounds: int, warmup: int = 1) -> Comparison:
    """Run both in turns; which goes first alternates, so that neither always finds the other's leftovers in the caches."""
    for _ in range(warmup):
        ours()
        peer()
    found = Comparison(name, [], [], [], [])
    for index in range(rounds):
        for mine in (True, False) if index % 2 == 0 else (False, True):
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            (ours if mine else peer)()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            (found.ours_cpu if mine else found.peer_cpu).append(cpu)
            (found.ours_wall if mine else found.peer_wall).append(wall)
    return found


def times(run: Callable[[], object], count: int) -> Callable[[], None]:
    """A run too short for the clock, several times."""

    def repeated() -> None:
        for _ in range(count):
            run()

    return repeated


def arguments(about: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write rounds and machine to this file")
    parser.add_argument("--keep-memory", action="store_true", help="tell glibc to keep freed memory: no page faults for either side")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round: only that it runs and that results are equal")
    return parser


_KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(1 << 26)}
_SLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
"""A thread that waits for another sleeps. By default it spins, which counts as CPU time and, on a machine that others use too, is in the way."""


def prepare(options: argparse.Namespace) -> None:
    """Allocator, threads, and a header that says what the ratios are of."""
    wanted = (_KEEP if options.keep_memory else {}) | (_SLEEP if options.threads > 1 else {})
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        # They are read once, when a process starts.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})
    torch.set_num_threads(options.threads)
    if options.smoke:
        options.rounds = 1
    memory = "freed memory kept" if options.keep_memory else "allocator as it is"
    print(f"{machine()}\n{options.threads} thread(s), {options.rounds} round(s), {memory}", flush=True)


def machine() -> str:
    """What the ratios were taken on; no host or user names."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next((row.partition(":")[2].strip() for row in info.read_text().splitlines() if row.startswith("model name")), model)
    versions = f"torch {torch.__version__}, numba {numba.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; {versions}"


def report(options: argparse.Namespace, results: Sequence[Comparison], **more: object) -> None:
    """The table, printed and, if it was asked for, as a file with ``more``. Call it when the results of both sides have been found equal."""
    print("median (smallest..largest) of the rounds' ratios; above 1 ours is faster; milliseconds are medians by the clock")
    print("\n".join([HEADER, *(found.line() for found in results)]), flush=True)
    if options.json:
        rows = [dataclasses.asdict(found) | {"cpu_ratio": found.cpu, "wall_ratio": found.wall} for found in results]
        content = {
            "machine": machine(),
            "threads": options.threads,
            "keep_memory": options.keep_memory,
            "rounds": options.rounds,
            "results": rows,
            **more,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def check(name: str, error: float, limit: float) -> None:
    """Say how far results are apart, and stop if that is too far.

    Raises:
        SystemExit: they differ.
    """
    print(f"  {name}: differ by {error:.1e} (allowed {limit:.0e})", flush=True)
    if not error <= limit:
        raise SystemExit(f"{name}: results differ by {error:.1e}, more than {limit:.0e}; no ratio of different results is reported.")
