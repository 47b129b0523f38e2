"""The catalog of penalties: one module of this package is one penalty."""

from __future__ import annotations

from wisetune.catalog import Catalog
from wisetune.keep.penalty import Penalty

PENALTIES: Catalog[Penalty] = Catalog("penalty", "wisetune.keep", Penalty, machinery=("penalty", "penalties"))
