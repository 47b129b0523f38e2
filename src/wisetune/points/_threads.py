"""Run a compiled kernel over parts of a batch on torch's number of threads. Clouds are independent, so the result does not depend on it."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


@functools.lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="wisetune")


# A forked child inherits the pool and none of its threads: whatever it handed over would wait for ever. It makes a pool of its own.
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)


def over_batch(kernel: Callable[[slice], None], size: int) -> None:
    """Call ``kernel(rows)`` for slices that cover ``range(size)``; the kernel must release the GIL and write only to its rows."""
    threads = min(torch.get_num_threads(), size)
    if threads < 2:
        kernel(slice(0, size))
        return
    bounds = [size * part // threads for part in range(threads + 1)]
    for done in [_pool(threads).submit(kernel, slice(a, b)) for a, b in itertools.pairwise(bounds)]:
        done.result()
