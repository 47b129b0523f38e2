"""How much memory a run needs at most, beyond what the process held before it. Linux alone tells and forgets a process's highest mark."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

_MARKS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


def highest(name: str, ours: Callable[[], object], peer: Callable[[], object]) -> dict[str, object] | None:
    """What both sides need at most, in MiB, printed with the ratio; None where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    mine, theirs = _needed(ours), _needed(peer)
    print(f"  memory, {name}: at most {mine:.0f} MiB, the peer {theirs:.0f} MiB: {mine / max(theirs, 1):.2f} of it", flush=True)
    return {"name": name, "ours_mib": mine, "peer_mib": theirs}


def _needed(run: Callable[[], object]) -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what an earlier run freed and glibc kept is nothing that this one would have to ask for
    _FORGET.write_text("5")
    before = _mark("VmRSS")
    run()
    return (_mark("VmHWM") - before) / 1024


def _mark(name: str) -> int:
    return next(int(line.split()[1]) for line in _MARKS.read_text().splitlines() if line.startswith(f"{name}:"))
