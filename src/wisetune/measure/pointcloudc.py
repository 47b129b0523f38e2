"""The scores of PointCloud-C: corruption errors relative to DGCNN.

Ren, Pan, Liu: Benchmarking and Analyzing Point Cloud Classification under Corruptions, ICML 2022. Pure functions of accuracies.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from wisetune.errors import UsageError
from wisetune.points.corrupt import KINDS, LEVELS, Kind

DGCNN_CLEAN = 0.926
"""Overall accuracy of DGCNN on clean ModelNet40, as the benchmark publishes it."""

DGCNN: Mapping[Kind, float] = {
    "scale": 0.906,
    "jitter": 0.684,
    "rotate": 0.785,
    "dropout_global": 0.752,
    "dropout_local": 0.793,
    "add_global": 0.705,
    "add_local": 0.725,
}
"""Its overall accuracy under each corruption, mean over the five levels."""


@dataclasses.dataclass(frozen=True)
class CorruptionScores:
    """What a model is worth under corruption, by kind and as means over the seven kinds.

    ``oa``: overall accuracy, mean over levels. ``ce``: error over DGCNN's error; 1 is DGCNN, lower is better. ``rce``: loss of accuracy
    from clean to corrupted over DGCNN's loss; below 0 where corruption helped.
    """

    oa: dict[Kind, float]
    ce: dict[Kind, float]
    rce: dict[Kind, float]
    moa: float
    mce: float
    rmce: float


def corruption_error(kind: Kind, oa: float) -> float:
    """CE = (1 - OA) / (1 - OA of DGCNN)."""
    return (1 - oa) / (1 - DGCNN[kind])


def relative_corruption_error(kind: Kind, clean: float, oa: float) -> float:
    """RCE = (OA clean - OA) / (OA clean - OA of DGCNN)."""
    return (clean - oa) / (DGCNN_CLEAN - DGCNN[kind])


def mce(
    clean: float,
    per_level: Mapping[Kind, Sequence[float]],
    reading: Literal["as_published", "as_intended"] = "as_intended",
) -> CorruptionScores:
    """Scores of one model from its accuracies.

    Args:
        clean: overall accuracy on the clean test clouds, between 0 and 1.
        per_level: for each of the seven kinds, overall accuracy at levels 1 to 5, between 0 and 1.
        reading: ``as_published`` rounds to three decimals at each stage, as the official wrapper does: accuracies (the clean one too), then
            errors, then means. It moves mCE by up to 0.002. ``as_intended`` does not round.

    Raises:
        UsageError: a kind that is missing or unknown, not five levels, or an accuracy outside 0 to 1.
    """
    _check(clean, per_level)

    def rounded(value: float) -> float:
        return round(value, 3) if reading == "as_published" else value

    clean = rounded(clean)
    oa = {kind: rounded(statistics.fmean(per_level[kind])) for kind in KINDS}
    ce = {kind: rounded(corruption_error(kind, oa[kind])) for kind in KINDS}
    rce = {kind: rounded(relative_corruption_error(kind, clean, oa[kind])) for kind in KINDS}
    moa, mean_ce, mean_rce = (rounded(statistics.fmean(scores.values())) for scores in (oa, ce, rce))
    return CorruptionScores(oa, ce, rce, moa, mean_ce, mean_rce)


def _check(clean: float, per_level: Mapping[Kind, Sequence[float]]) -> None:
    missing, unknown = [kind for kind in KINDS if kind not in per_level], [kind for kind in per_level if kind not in KINDS]
    if missing or unknown:
        raise UsageError(
            f"mCE needs exactly the corruptions {', '.join(KINDS)}; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}."
        )
    for kind in KINDS:
        if len(per_level[kind]) != len(LEVELS):
            raise UsageError(f"mCE needs {len(LEVELS)} levels of each corruption, but '{kind}' has {len(per_level[kind])}.")
    for accuracy in (clean, *(value for kind in KINDS for value in per_level[kind])):
        if not (math.isfinite(accuracy) and 0 <= accuracy <= 1):
            raise UsageError(f"mCE takes accuracies between 0 and 1, not {accuracy:g}; divide percentages by 100.")
