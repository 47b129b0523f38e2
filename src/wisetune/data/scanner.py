"""A depth camera that walks past an object in a room: clean CAD surfaces become noisy, partial scans with clutter.

What it imitates, and where the figures come from:

* The object stands upright on a floor (z up), is as large as furniture, and is looked at from about a man's eye height by ``views`` poses
  a few tens of degrees apart, as someone scanning a room would. Nothing sees it from all sides: its far side is missing.
* Hidden surfaces are removed by a z-buffer over discs ("splats") as wide as the points lie apart, so this works on point clouds too.
* Depth noise has a standard deviation of ``noise * z**2`` and depth comes in steps of ``step * z**2`` (z in metres): a structured-light
  camera measures disparity, the inverse of depth. Khoshelham and Oude Elberink (Sensors 12(2), 2012): 1.4e-3 and 2.8e-3 for the Kinect.
* At depth jumps pixels are lost with probability ``dropout``; the views are put together with a small error (``drift``, ``tilt``).
* The crop follows three settings of ScanObjectNN (Uy et al., ICCV 2019): ``obj_only`` keeps the object's own points, ``obj_bg`` all that
  lies within its bounding box (floor, wall, clutter), ``pb_t50_rs`` moves that box by up to half its size, and turns and scales it.

All randomness comes from the generator that is passed in. It is a simulation: no colour, no multi-path, no sunlight, one box-shaped kind of
clutter, and no claim to be a real scanner beyond the properties above.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from wisetune.data._depth import RANGE, Room, edges, rotation, splat
from wisetune.data._surface import Surface
from wisetune.errors import DataError, UsageError
from wisetune.spec import Spec, option
from wisetune.spelling import dashed

Setting = Literal["obj_only", "obj_bg", "pb_t50_rs"]

LEAST = 128  # fewer pixels than this show nothing to recognise
ATTEMPTS = 100


@dataclasses.dataclass(frozen=True)
class Scanner(Spec):
    """A depth camera and how it is used. Lengths are metres, angles degrees; ``low``/``high`` pairs are drawn from uniformly.

    Attributes:
        setting: what the crop keeps: ``obj_only``, ``obj_bg``, ``pb_t50_rs``.
        views: depth images of one arrangement, put together.
        width: pixels of an image across.
        height: pixels of an image down.
        fov: horizontal field of view.
        size_low: the object's largest extent, at least.
        size_high: at most.
        near: distance from the camera to the circle around the object, at least.
        far: at most.
        eye_low: height of the camera above the floor, at least.
        eye_high: at most.
        spread: views differ from their common direction by up to this.
        turn: the object is turned about z by up to this; 0 keeps its own frame, 180 is any direction.
        noise: standard deviation of depth at one metre; it grows with the square of depth.
        step: quantisation of depth at one metre; it grows likewise.
        dropout: probability that a pixel beside a depth jump is lost.
        drift: standard deviation of a view's shift, on each axis.
        tilt: standard deviation of a view's rotation, about each axis.
        floor: probability of a floor under the object.
        wall: probability of a wall behind it.
        clutter: probability of each of up to three boxes beside it.
        shift: ``pb_t50_rs`` moves the box by up to this share of its size, on each axis.
        scale: and changes its size by up to this share, less than 1, at which the box may vanish.
        rotate: and turns it about z by up to this.
        least: a crop in which less than this share of the points is the object's is taken again.
    """

    name: ClassVar[str] = "scanner"
    setting: Setting = "pb_t50_rs"
    views: int = option(2, least=1)
    width: int = option(160, least=8)
    height: int = option(120, least=8)
    fov: float = option(57.0, least=1, most=150)
    size_low: float = option(0.6, above=0)
    size_high: float = option(1.6, above=0)
    near: float = option(0.8, above=0)
    far: float = option(1.8, above=0)
    eye_low: float = option(1.2, above=0)
    eye_high: float = option(1.7, above=0)
    spread: float = option(30.0, least=0)
    turn: float = option(180.0, least=0)
    noise: float = option(0.0014, least=0)
    step: float = option(0.0028, least=0)
    dropout: float = option(0.5, least=0, most=1)
    drift: float = option(0.01, least=0)
    tilt: float = option(1.0, least=0)
    floor: float = option(0.9, least=0, most=1)
    wall: float = option(0.4, least=0, most=1)
    clutter: float = option(0.4, least=0, most=1)
    shift: float = option(0.5, least=0)
    scale: float = option(0.2, least=0, below=1)
    rotate: float = option(15.0, least=0)
    least: float = option(0.2, least=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for low, high in (("size_low", "size_high"), ("near", "far"), ("eye_low", "eye_high")):
            if getattr(self, low) > getattr(self, high):
                limits = f"{getattr(self, low)} to {getattr(self, high)}"
                raise UsageError(f"scanner options '{dashed(low)}' to '{dashed(high)}' are {limits}; they must be in order.")

    def scan(
        self, points: Float[np.ndarray, "n 3"] | Surface, generator: np.random.Generator, count: int = 1024
    ) -> Float32[np.ndarray, "{count} 3"]:
        """One scan of one object.

        Args:
            points: samples of the object's surface, z up, in any unit, or a ``Surface`` made of them once for many scans.
            generator: all randomness; use ``runtime.generator(seed, "scan", object_id, index)``.
            count: points to return; chosen without repeats where the camera saw enough.

        Returns:
            Points in metres, z up; the origin is the middle of the crop box. Not normalised.

        Raises:
            DataError: fewer than four points, points that are not finite or all equal, or an object that no camera pose saw.
        """
        surface = points if isinstance(points, Surface) else Surface.of(points, generator)
        for _ in range(ATTEMPTS):
            seen, own = self._look(surface, generator)
            if own.sum() >= max(LEAST, self.least * len(own)):
                rows = generator.choice(len(seen), count, replace=len(seen) < count)
                return seen[rows].astype(np.float32)
        raise DataError(f"{ATTEMPTS} tries with '{self}' showed too little of this object; choose a smaller near, far, shift or least.")

    def image(
        self, surface: Surface, eye: Float64[np.ndarray, "3"], target: Float64[np.ndarray, "3"], room: Room, generator: np.random.Generator
    ) -> tuple[Float64[np.ndarray, "m 3"], Bool[np.ndarray, " m"]]:
        """The points that one noisy depth image taken at ``eye`` towards ``target`` gives, in the world's frame, and which are the object's.

        Args:
            surface: the object, where it stands, in metres.
            eye: place of the camera.
            target: what it is pointed at; not straight below or above it.
            room: what else there is.
            generator: of drop-out and noise.
        """
        forward = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward])
        focal = self.width / 2 / math.tan(math.radians(self.fov) / 2)
        rows, columns = np.mgrid[: self.height, : self.width]
        flat = np.stack([columns + 0.5 - self.width / 2, rows + 0.5 - self.height / 2, np.full(rows.shape, focal)]) / focal
        rays = axes.T @ flat.reshape(3, -1)  # of depth one, so that lengths along them are depths

        placed = (surface.points - eye) @ axes.T
        body = splat(placed, focal, self.width, self.height, surface.blockers, surface.block, surface.cover)
        scene = room.depth(eye, rays).reshape(body.shape)
        own, depth = body < scene, np.minimum(body, scene)
        lost = edges(depth) & (generator.random(depth.shape) < self.dropout)
        seen = (depth < RANGE) & ~lost
        measured = depth[seen]
        measured += generator.normal(0, self.noise, len(measured)) * measured**2
        if self.step > 0:
            measured = 1 / (np.maximum(np.round(1 / (measured * self.step)), 1) * self.step)
        return eye + (rays[:, seen.ravel()] * measured).T, own[seen]

    def _look(self, surface: Surface, generator: np.random.Generator) -> tuple[Float64[np.ndarray, "m 3"], Bool[np.ndarray, " m"]]:
        """All views of one arrangement put together and cropped, and which of the points are the object's."""
        size, turn = generator.uniform(self.size_low, self.size_high), math.radians(generator.uniform(-self.turn, self.turn))
        surface = surface.placed(size, turn)
        half = surface.half
        azimuth = generator.uniform(0, 2 * math.pi)
        room = Room.furnish(half, turn, azimuth, self.floor, self.wall, self.clutter, generator)
        parts: list[Float64[np.ndarray, "m 3"]] = []
        owns: list[Bool[np.ndarray, " m"]] = []
        for _ in range(self.views):
            angle = azimuth + math.radians(generator.uniform(-self.spread, self.spread))
            reach = generator.uniform(self.near, self.far) + float(np.hypot(half[0], half[1]))
            eye = np.array([reach * math.cos(angle), reach * math.sin(angle), generator.uniform(self.eye_low, self.eye_high)])
            target = np.array([0.0, 0.0, half[2]]) + generator.normal(0, 0.05, 3)
            seen, own = self.image(surface, eye, target, room, generator)
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
