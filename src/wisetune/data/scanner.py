"""A depth camera that walks past an object in a room: clean CAD surfaces become noisy, partial scans with clutter.

What it imitates, and where the figures come from:

* The object stands upright on a floor (z up), is as large as furniture, and is looked at from about a man's eye height by ``views`` poses a few
  tens of degrees apart, as someone scanning a room would. Nothing ever sees it from all sides, so its far side is missing.
* Hidden surfaces are removed by a z-buffer over discs ("splats") as wide as the points lie apart, so this works on point clouds too.
* Depth noise has a standard deviation of ``noise * z**2`` and depth comes in steps of ``step * z**2`` (z in metres): a structured-light camera
  measures disparity, the inverse of depth. Khoshelham and Oude Elberink (Sensors 12(2), 2012) measured 1.4e-3 and 2.8e-3 for the Kinect.
* At depth jumps pixels are lost with probability ``dropout``; the views are put together with a small error (``drift``, ``tilt``).
* The crop follows the three settings of ScanObjectNN (Uy et al., ICCV 2019): ``obj_only`` keeps the object's own points, ``obj_bg`` everything
  within its bounding box (floor, wall, clutter), ``pb_t50_rs`` moves that box by up to half its size and also turns and scales it.

All randomness comes from the generator that is passed in. It is a simulation: it has no colour, no multi-path or sunlight, one box-shaped kind
of clutter, and no claim to be a real scanner beyond the properties above.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from sklearn.neighbors import KDTree

from wisetune.data._depth import Room, render, rotation
from wisetune.errors import DataError, UsageError
from wisetune.spec import Spec

Setting = Literal["obj_only", "obj_bg", "pb_t50_rs"]

DENSE = 24_000  # a pixel sees several points at this density, so that averaging them gives a smooth surface
NEIGHBOURS = 6
LEAST = 64  # fewer object points than this in the box show nothing to recognise
ATTEMPTS = 50


@dataclasses.dataclass(frozen=True)
class Scanner(Spec):
    """A depth camera and how it is used. Lengths are metres, angles degrees; ``size``, ``distance`` and ``eye`` are lowest+highest."""

    name: ClassVar[str] = "scanner"
    setting: Setting = "pb_t50_rs"
    views: int = 2
    width: int = 160
    height: int = 120
    fov: float = 57.0
    size: tuple[float, ...] = (0.6, 1.6)
    distance: tuple[float, ...] = (1.0, 2.5)
    eye: tuple[float, ...] = (1.2, 1.7)
    spread: float = 30.0
    turn: float = 180.0
    noise: float = 0.0014
    step: float = 0.0028
    dropout: float = 0.5
    drift: float = 0.01
    tilt: float = 1.0
    floor: float = 0.9
    wall: float = 0.4
    clutter: float = 0.4
    shift: float = 0.5
    scale: float = 0.2
    rotate: float = 15.0

    def __post_init__(self) -> None:
        if self.setting not in ("obj_only", "obj_bg", "pb_t50_rs"):
            raise UsageError(f"scanner setting '{self.setting}' does not exist; it can be obj_only, obj_bg, pb_t50_rs.")
        if self.views < 1 or min(self.width, self.height) < 8 or not 1 <= self.fov <= 150:
            raise UsageError(f"'{self}' is no camera: it needs views >= 1, at least 8x8 pixels, and a field of view of 1 to 150 degrees.")
        for option in ("size", "distance", "eye"):
            limits = getattr(self, option)
            if len(limits) != 2 or not 0 < limits[0] <= limits[1] < math.inf:
                raise UsageError(
                    f"scanner option '{option}' is {'+'.join(map(str, limits))}; spell it lowest+highest in metres, both above 0."
                )
        for option in ("dropout", "floor", "wall", "clutter"):
            if not 0 <= getattr(self, option) <= 1:
                raise UsageError(f"scanner option '{option}' is {getattr(self, option)}; it is a probability, 0 to 1.")
        for option in ("spread", "turn", "noise", "step", "drift", "tilt", "shift", "scale", "rotate"):
            if not 0 <= getattr(self, option) < math.inf:
                raise UsageError(f"scanner option '{option}' is {getattr(self, option)}; it must be 0 or more.")
        if self.scale >= 1:
            raise UsageError(f"scanner option 'scale' is {self.scale}; it must be below 1, or the box may vanish.")

    def scan(self, points: Float[np.ndarray, "n 3"], generator: np.random.Generator, count: int = 1024) -> Float32[np.ndarray, "{count} 3"]:
        """One scan of one object.

        Args:
            points: samples of the object's surface, z up, in any unit; sparse clouds are filled up by ``densify`` first.
            generator: all randomness; use ``runtime.generator(seed, "scan", object_id, index)``.
            count: points to return; chosen without repeats where the camera saw enough.

        Returns:
            Points in metres, z up; the origin is the middle of the crop box. Not normalised.

        Raises:
            DataError: fewer than four points, points that are not finite or all equal, or an object that no camera pose saw.
        """
        if len(points) < DENSE:
            points = densify(points, DENSE, generator)
        low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
        if not np.isfinite(high - low).all() or not (high > low).any():
            raise DataError("a cloud to scan has points that are not finite or all equal; repair or leave out this object.")
        upright = (points - np.array([*(low + high)[:2] / 2, low[2]])) / (high - low).max()
        spacing, half = _spacing(upright), (high - low) / 2 / (high - low).max()
        for _ in range(ATTEMPTS):
            seen, own = self._look(upright, spacing, half, generator)
            if own.sum() >= LEAST:
                rows = generator.choice(len(seen), count, replace=len(seen) < count)
                return seen[rows].astype(np.float32)
        raise DataError(
            f"no scan shows {LEAST} points of this object after {ATTEMPTS} tries with '{self}'; allow a closer distance or less shift."
        )

    def _look(
        self, points: Float64[np.ndarray, "n 3"], spacing: float, half: Float64[np.ndarray, "3"], generator: np.random.Generator
    ) -> tuple[Float64[np.ndarray, "m 3"], Bool[np.ndarray, " m"]]:
        """All views of one arrangement put together and cropped, and which of the points are the object's.

        The object, one unit large with half extents ``half``, becomes as many metres large and is turned about z.
        """
        size, turn = generator.uniform(*self.size), math.radians(generator.uniform(-self.turn, self.turn))
        points, spacing, half = points @ rotation(np.array([0, 0, turn])).T * size, spacing * size, half * size
        azimuth = generator.uniform(0, 2 * math.pi)
        room = Room.furnish(half, turn, azimuth, self.floor, self.wall, self.clutter, generator)
        parts, owns = [], []
        for _ in range(self.views):
            angle = azimuth + math.radians(generator.uniform(-self.spread, self.spread))
            reach = generator.uniform(*self.distance) + float(np.hypot(half[0], half[1]))
            eye = np.array([reach * math.cos(angle), reach * math.sin(angle), generator.uniform(*self.eye)])
            target = np.array([0.0, 0.0, half[2]]) + generator.normal(0, 0.05, 3)
            seen, own = render(points, spacing, room, eye, target, self, generator)
            error = rotation(generator.normal(0, math.radians(self.tilt), 3))
            parts.append((seen - target) @ error.T + target + generator.normal(0, self.drift, 3))
            owns.append(own)
        return self._crop(np.concatenate(parts), np.concatenate(owns), half, turn, generator)

    def _crop(
        self,
        points: Float64[np.ndarray, "n 3"],
        own: Bool[np.ndarray, " n"],
        half: Float64[np.ndarray, "3"],
        turn: float,
        generator: np.random.Generator,
    ) -> tuple[Float64[np.ndarray, "m 3"], Bool[np.ndarray, " m"]]:
        """Points in the (moved, turned, scaled) box of the object, seen from the middle of the box."""
        centre = np.array([0.0, 0.0, half[2]])
        if self.setting == "pb_t50_rs":
            centre = centre + rotation(np.array([0, 0, turn])) @ (generator.uniform(-self.shift, self.shift, 3) * 2 * half)
            half = half * (1 + generator.uniform(-self.scale, self.scale))
            turn += math.radians(generator.uniform(-self.rotate, self.rotate))
        # Two centimetres keep the noisy surface of the object itself, and a strip of floor as in annotated scans.
        inside = (np.abs(rotation(np.array([0, 0, -turn])) @ (points - centre).T) <= half[:, None] + 0.02).all(0)
        if self.setting == "obj_only":
            inside &= own
        return points[inside] - centre, own[inside]


def densify(points: Float[np.ndarray, "n 3"], count: int, generator: np.random.Generator) -> Float64[np.ndarray, "{count} 3"]:
    """Fill a sparse surface cloud up to ``count`` points by random points on triangles between neighbours.

    Unlike larger splats this does not make thin parts thicker: every new point lies between points that are there.

    Raises:
        DataError: fewer than four points.
    """
    if len(points) < 4:
        raise DataError(f"a cloud to scan has {len(points)} points; at least 4 are needed.")
    if not np.isfinite(points).all():
        raise DataError("a cloud to scan has points that are not finite; repair or leave out this object.")
    near = KDTree(points).query(points, k=min(NEIGHBOURS + 1, len(points)), return_distance=False)
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
    nearest = KDTree(few).query(few, k=2)[0][:, 1]
    return 2 * float(nearest.mean()) * math.sqrt(len(few) / len(points))
