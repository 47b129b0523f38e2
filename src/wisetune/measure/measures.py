"""The catalog of measures."""

from __future__ import annotations

from wisetune.catalog import Catalog
from wisetune.measure.measure import Measure

MEASURES: Catalog[Measure] = Catalog(
    "measure", "wisetune.measure", Measure, machinery=("measure", "measures", "part_iou", "pointcloudc", "subject", "training_memory")
)
