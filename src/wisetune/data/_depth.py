"""What one depth image shows: an object given by surface samples, in a room of planes and boxes. Used by ``scanner``."""

from __future__ import annotations

import dataclasses
import math
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float64

JUMP = 0.05  # metres between neighbouring pixels, beyond what a tilted surface shows: an edge
RANGE = 6.0  # metres; structured light sees no further
SLOPE = 1.5  # a surface up to this steep does not hide itself; more would show the back of thin boards


def rotation(vector: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    """The rotation about an axis by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


@dataclasses.dataclass(frozen=True, eq=False)
class Room:
    """What stands around the object: planes (normal, offset) and boxes (centre, half extents, turn about z)."""

    planes: Float64[np.ndarray, "p 4"]
    boxes: Float64[np.ndarray, "b 7"]

    @classmethod
    def furnish(
        cls,
        half: Float64[np.ndarray, "3"],
        turn: float,
        azimuth: float,
        floor: float,
        wall: float,
        clutter: float,
        generator: np.random.Generator,
    ) -> Room:
        """A floor, a wall behind the object as seen from ``azimuth``, and up to three boxes beside it, each by its probability."""
        planes: list[list[float]] = []
        if generator.random() < floor:
            planes.append([0.0, 0.0, 1.0, 0.0])
        # Furniture stands with one of its own sides to a wall: the side that faces away from the camera most.
        side = round((azimuth + math.pi - turn) / (math.pi / 2))
        angle = turn + side * math.pi / 2
        if generator.random() < wall:
            planes.append([math.cos(angle), math.sin(angle), 0.0, half[side % 2] + generator.uniform(0, 0.25)])
        boxes: list[list[float]] = []
        for _ in range(3):
            if generator.random() < clutter:
                size = generator.uniform([0.05, 0.05, 0.1], [0.4, 0.4, 0.6])
                bearing, own_turn = generator.uniform(0, 2 * math.pi, 2)
                # Beside the object's box without cutting it, or up to 20 cm away: on the edge of that box grown by the clutter's radius.
                direction = np.abs([math.cos(bearing - turn), math.sin(bearing - turn)])
                clear = half[:2] + float(np.hypot(size[0], size[1]))
                away = float(np.min(clear / np.maximum(direction, 1e-9))) + generator.uniform(0, 0.2)
                boxes.append([away * math.cos(bearing), away * math.sin(bearing), size[2], *size, own_turn])
        return cls(np.array(planes).reshape(-1, 4), np.array(boxes).reshape(-1, 7))

    def depth(self, eye: Float64[np.ndarray, "3"], rays: Float64[np.ndarray, "3 n"]) -> Float64[np.ndarray, " n"]:
        """How many ray lengths away the room begins along each ray; infinite where there is nothing."""
        nearest = np.full(rays.shape[1], np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            for plane in self.planes:
                hit = (plane[3] - eye @ plane[:3]) / (plane[:3] @ rays)
                nearest = np.where((hit > 0) & (hit < nearest), hit, nearest)
            for box in self.boxes:
                axes = rotation(np.array([0, 0, box[6]]))
                start, along, half = (eye - box[:3]) @ axes, axes.T @ rays, box[3:6]
                first, second = (-half - start)[:, None] / along, (half - start)[:, None] / along
                enter, leave = np.minimum(first, second).max(0), np.maximum(first, second).min(0)
                nearest = np.where((enter > 0) & (enter <= leave) & (enter < nearest), enter, nearest)
        return nearest


def edges(depth: Float64[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels beside which the depth jumps."""
    edge = np.zeros(depth.shape, bool)
    finite = np.where(np.isfinite(depth), depth, 2 * RANGE)
    down, across = np.abs(np.diff(finite, axis=0)) > JUMP, np.abs(np.diff(finite, axis=1)) > JUMP
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


@numba.njit(cache=True)
@no_type_check  # a checker wrapped around it is nothing that numba can compile
def splat(
    points: Float64[np.ndarray, "n 3"], focal: float, width: int, height: int, blockers: int, block: float, cover: float
) -> Float64[np.ndarray, "h w"]:
    """Depth image of surface samples in the camera's frame (x right, y down, z forward); infinite where there are none.

    The first ``blockers`` samples each hide what lies behind a disc of radius ``block``; a pixel's depth is the weighted mean of samples
    within ``cover`` of it that nothing blocks, which is smooth, lies in the surface, and keeps silhouettes slim.
    """
    near = np.full((height, width), np.inf)
    total, weight = np.zeros((height, width)), np.zeros((height, width))
    for turn in range(2):
        for i in range(blockers if turn == 0 else len(points)):
            z = points[i, 2]
            if z < 0.1:
                continue
            u, v = points[i, 0] / z * focal + width / 2, points[i, 1] / z * focal + height / 2
            radius = max((block if turn == 0 else cover) * focal / z, 0.71)  # half a pixel's diagonal: no sample falls between pixels
            for row in range(max(0, int(np.ceil(v - radius - 0.5))), min(height - 1, int(np.floor(v + radius - 0.5))) + 1):
                for column in range(max(0, int(np.ceil(u - radius - 0.5))), min(width - 1, int(np.floor(u + radius - 0.5))) + 1):
                    square = ((column + 0.5 - u) ** 2 + (row + 0.5 - v) ** 2) / radius**2
                    if square > 1:
                        continue
                    if turn == 0:
                        near[row, column] = min(near[row, column], z)
                    elif z <= near[row, column] + SLOPE * block:
                        total[row, column] += (1.01 - square) * z
                        weight[row, column] += 1.01 - square
    for row in range(height):
        for column in range(width):
            near[row, column] = total[row, column] / weight[row, column] if weight[row, column] > 0 else np.inf
    return near
