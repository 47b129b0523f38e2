"""An object made ready for the depth camera: samples of its surface, dense enough for every pixel."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Float64
from sklearn.neighbors import KDTree

from wisetune.data._depth import rotation
from wisetune.errors import DataError

DENSE = 24_000  # a pixel sees several points at this density, so that averaging them gives a smooth surface
NEIGHBOURS = 10
BLOCK = 1.5  # of randomly drawn samples, splats this many spacings wide leave one hidden pixel in a thousand uncovered
COVER = 0.5  # half way to the next given sample: wider would make thin parts thicker, narrower leaves holes in sparse clouds


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """An object made ready for scans: dense points, one unit large, standing on z = 0 at the origin.

    ``half`` are its half extents. Each of the first ``blockers`` points, those that were given, hides what is behind it within ``block``;
    every point shows the pixels within ``cover``.
    """

    points: Float64[np.ndarray, "n 3"]
    half: Float64[np.ndarray, "3"]
    blockers: int
    block: float
    cover: float

    @classmethod
    def of(cls, points: Float[np.ndarray, "n 3"], generator: np.random.Generator) -> Surface:
        """From samples of a surface, evenly spread, z up, in any unit. A sparse cloud is filled up by ``densify``.

        Raises:
            DataError: fewer than four points, or points that are not finite or all equal.
        """
        points = np.asarray(points, np.float64)
        if len(points) < 4:
            raise DataError(f"a cloud to scan has {len(points)} points; at least 4 are needed.")
        low, high = points.min(0), points.max(0)
        if not np.isfinite(high - low).all() or not (high > low).any():
            raise DataError("a cloud to scan has points that are not finite or all equal; repair or leave out this object.")
        size = float((high - low).max())
        points = (points - np.array([*(low + high)[:2] / 2, low[2]])) / size
        # Between samples far apart there is surface that filling up may miss: it must not be seen through either.
        spacing = _spacing(points)
        dense = densify(points, DENSE, generator) if len(points) < DENSE else points
        return cls(dense, (high - low) / 2 / size, len(points), BLOCK * spacing, max(COVER * spacing, _spacing(dense)))

    def placed(self, size: float, turn: float) -> Surface:
        """The same, ``size`` times as large and turned about z by ``turn`` radians; ``half`` stays along its own axes."""
        points = self.points @ rotation(np.array([0, 0, turn])).T * size
        return Surface(points, self.half * size, self.blockers, self.block * size, self.cover * size)


def densify(points: Float[np.ndarray, "n 3"], count: int, generator: np.random.Generator) -> Float64[np.ndarray, "{count} 3"]:
    """Fill a sparse surface cloud up to ``count`` points by random points on triangles between neighbours.

    Unlike larger splats this does not make thin parts thicker: every new point lies between points that are there.
    """
    near = np.asarray(KDTree(points).query(points, k=min(NEIGHBOURS + 1, len(points)), return_distance=False))
    rows = np.concatenate([np.arange(len(points)), generator.integers(0, len(points), max(0, count - len(points)))])[:count]
    first, second = generator.integers(0, near.shape[1], (2, len(rows)))
    weights = np.sort(generator.uniform(0, 1, (2, len(rows))), axis=0)
    base = points[rows].astype(np.float64)
    along, across = points[near[rows, first]] - base, points[near[rows, second]] - base
    filled = base + weights[0, :, None] * along + (1 - weights[1])[:, None] * across
    filled[: len(points)] = base[: len(points)]
    return filled


def _spacing(points: Float64[np.ndarray, "n 3"]) -> float:
    """How far samples of a surface lie apart: the side of the square that each has to itself, in the unit of the points."""
    # Every k-th point of a uniform sample is a uniform sample, sqrt(k) times as far apart; uniform points have their nearest
    # neighbour at half the side of their square on average.
    few = points[:: max(1, len(points) // 1024)]
    distances, _ = KDTree(few).query(few, k=2)
    return 2 * float(np.mean(distances, axis=0)[1]) * math.sqrt(len(few) / len(points))
