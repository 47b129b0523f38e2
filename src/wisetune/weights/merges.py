"""The catalog of merges: one module of this package is one merge."""

from __future__ import annotations

from wisetune.catalog import Catalog
from wisetune.weights.merge import Merge

MERGES: Catalog[Merge] = Catalog(
    "merge", "wisetune.weights", Merge, machinery=("alphas", "audit", "batchnorm", "choose", "merge", "merges", "mix")
)
