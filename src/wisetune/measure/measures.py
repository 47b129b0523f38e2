"""The catalog of measures."""

from __future__ import annotations

from wisetune.measure.measure import Measure
from wisetune.spec import Catalog

MEASURES: Catalog[Measure] = Catalog("measure", "wisetune.measure", Measure, machinery=("measure", "measures", "subject", "pointcloudc"))
