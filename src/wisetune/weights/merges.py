"""The catalog of merges: each module here that is not machinery is one entry."""

from __future__ import annotations

from wisetune.spec import Catalog
from wisetune.weights.merge import Merge

merges = Catalog("merge", "wisetune.weights", Merge, machinery=("alphas", "audit", "batchnorm", "choose", "merge", "merges", "mix"))
