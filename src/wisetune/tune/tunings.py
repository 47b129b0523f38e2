"""The catalog of tunings: one module of this package is one tuning."""

from __future__ import annotations

from wisetune.catalog import Catalog
from wisetune.tune.tuning import Tuning

TUNINGS: Catalog[Tuning] = Catalog("tuning", "wisetune.tune", Tuning, machinery=("graft", "saved", "tuning", "tunings"))
