"""A record is one measured number with everything a reader needs to judge it. Tables and pages are functions of records."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One number: ``value`` of ``name``, measured by ``measure`` on ``split`` of ``data`` with the weights ``weights``.

    ``low`` and ``high`` bound a 95 % interval over the ``n`` items measured (not over training seeds). ``detail`` holds what else a
    page may show: a confusion matrix, the chosen C, the level of a corruption.
    """

    weights: str
    measure: str
    data: str
    data_digest: str
    split: str
    name: str
    value: float
    n: int
    low: float
    high: float
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """The inverse of ``to_json``."""
        return cls(**values)


def wilson(right: float, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion of ``right`` successes in ``n`` trials (Wilson 1927, eq. 2)."""
    if n == 0:
        return 0.0, 1.0
    p, zz = right / n, Z95 * Z95
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    # The bounds touch 0 and 1 exactly at the ends; rounding must not leave the value outside its own interval.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)
