"""What every reader shares: the two kinds of shape, the budget, and the checks that come before and after parsing."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

from wisetune.errors import UNREADABLE

FARTHEST = 1e12
"""Coordinates beyond this, in any unit, are the bits of something else: no map has them."""


TOO_FEW, NOT_FINITE, ONE_PLACE, NO_AREA = "too few points", "not finite", "one place", "no area"
"""What is wrong with a shape that was read and cannot be used."""


class MalformedError(Exception):
    """A reader's answer to bytes that are not what they should be; ``formats.read`` adds the file's name and raises ``BadFile``."""

    def __init__(self, wrong: str, do: str = "export the file again", kind: str = UNREADABLE) -> None:
        self.wrong, self.do, self.kind = wrong, do, kind
        super().__init__(wrong)


@dataclasses.dataclass(frozen=True)
class Budget:
    """The most that one file may ask for: bytes of arrays, and points (or vertices, or faces)."""

    bytes: int = 2 << 30
    points: int = 50_000_000

    def check(self, count: int, size: int, what: str) -> None:
        """Before anything is allocated: may there be ``count`` of ``what``, each of ``size`` bytes?

        Raises:
            MalformedError: not within this budget, or a negative count.
        """
        if count < 0:
            raise MalformedError(f"declares {count} {what}")
        if count > self.points:
            raise MalformedError(
                f"declares {count:,} {what}; at most {self.points:,} are read", "thin it out, or check that its header is right"
            )
        if count * size > self.bytes:
            asked = f"{count:,} {what} of {size:,} bytes"
            raise MalformedError(
                f"declares {asked}; at most {self.bytes:,} bytes are read", "thin it out, or check that its header is right"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Cloud:
    """Points in the file's own unit and frame.

    ``dropped`` counts those that the format marks as 'nothing measured here', ``nonfinite`` those that ``sound`` dropped.
    """

    points: Float64[np.ndarray, "n 3"]
    dropped: int = 0
    nonfinite: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh in the file's own unit and frame; ``faces`` are rows of ``vertices``, of which ``sound`` dropped ``nonfinite``."""

    vertices: Float64[np.ndarray, "v 3"]
    faces: Int64[np.ndarray, "f 3"]
    nonfinite: int = 0


Shape = Cloud | Mesh
NonFinite = Literal["refuse", "drop"]
"""What becomes of points whose coordinates are not finite."""


def enough(need: int, have: int, what: str) -> None:
    """Refuse a part that is declared larger than what is left of the file.

    Raises:
        MalformedError: the file is too short.
    """
    if need > have:
        raise MalformedError(
            f"declares {what}, which need at least {need:,} bytes, but only {have:,} follow", "the file is cut off: copy it again"
        )


def text_of(data: bytes, budget: Budget) -> str:
    """Bytes as text, without a byte order mark.

    Raises:
        MalformedError: not text, or so much of it that its numbers would not fit the budget.
    """
    if b"\x00" in data:
        raise MalformedError("is not text (it holds zero bytes)", "check that the suffix matches the content; text must be UTF-8")
    if 4 * len(data) > budget.bytes:  # "1 " is two bytes of text and eight of numbers
        raise MalformedError(f"is {len(data):,} bytes of text; at most {budget.bytes // 4:,} are read", "thin it out, or save it as .npy")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedError(f"is not text (byte {error.start} is not UTF-8)", "check that the suffix matches the content") from None


def numbers(text: str, what: str) -> Float64[np.ndarray, " n"]:
    """All numbers in text that is separated by blanks and line ends.

    Raises:
        MalformedError: something in between is not a number.
    """
    if not text.strip():
        return np.empty(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # before 2.4 numpy stops at what is not a number and only warns
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            raise MalformedError(f"holds something that is not a number among its {what}") from None


def rows_of(points: Float[np.ndarray, "n 3"], start: str = "") -> str:
    """One line a point, each begun by ``start``; nine digits are enough for every float32 to come back the same."""
    return "".join(f"{start}{x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in points)


def whole(values: Float[np.ndarray, "..."] | Integer[np.ndarray, "..."], what: str) -> Int64[np.ndarray, "..."]:
    """Numbers that must be whole, as integers.

    Raises:
        MalformedError: one is not.
    """
    if values.dtype.kind == "f" and not (np.abs(values) < 2**53).all():
        raise MalformedError(f"holds {what} that are not whole numbers")
    integers = values.astype(np.int64)
    if (integers != values).any():
        raise MalformedError(f"holds {what} that are not whole numbers")
    return integers


def fan(corners: Int64[np.ndarray, " polygons"], indices: Int64[np.ndarray, " total"]) -> Int64[np.ndarray, "f 3"]:
    """Polygons to triangles, each from the polygon's first corner; those with fewer than three corners have no surface and go.

    Args:
        corners: how many corners each polygon has.
        indices: the corners of all polygons, one after the other.
    """
    starts = np.cumsum(corners) - corners
    triangles = np.maximum(corners - 2, 0)
    first = np.repeat(starts, triangles)
    step = np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([indices[first], indices[first + step + 1], indices[first + step + 2]], axis=1)


def surface(vertices: Float64[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"]) -> Shape:
    """A mesh, or the cloud of its vertices if no face has three corners.

    Raises:
        MalformedError: a face names a vertex that is not there.
    """
    if len(faces) == 0:
        return Cloud(vertices)
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        raise MalformedError(f"has a face with vertex {low if low < 0 else high}, but its vertices are 0 to {len(vertices) - 1}")
    return Mesh(vertices, faces)


def sound(shape: Shape, nonfinite: NonFinite | None = None) -> Shape:
    """The shape itself, if it is one; with ``nonfinite="drop"`` without its points that are not finite, unless none is.

    A vertex that no face uses is no part of a mesh: one that is not finite goes without a word.
    ``None`` refuses them as ``"refuse"`` does, where whoever reads the message has no such option.

    Raises:
        MalformedError: no points, values that are not finite or absurdly large, no extent, or a mesh without area.
    """
    points = places(shape)
    if len(points) == 0:
        raise MalformedError("holds no points", "remove it, or export it again", TOO_FEW)
    finite = np.asarray(np.isfinite(points).all(axis=1))
    if not finite.all():
        bad = ~finite
        if isinstance(shape, Mesh):
            bad &= np.isin(np.arange(len(points)), shape.faces)
        if bad.any() and (nonfinite != "drop" or not finite.any()):
            wrong = f"{np.count_nonzero(bad):,} of {len(points):,} points are not finite (the first is number {int(np.argmax(bad)) + 1})"
            option = ", or have them dropped: nonfinite=drop" if nonfinite == "refuse" else ""
            raise MalformedError(wrong, f"remove these points, or export without invalid ones{option}", NOT_FINITE)
        shape = _without(shape, finite, int(np.count_nonzero(bad)))
        if isinstance(shape, Mesh) and len(shape.faces) == 0:
            raise MalformedError("every face has a corner that is not finite", "export it again without invalid points", NOT_FINITE)
        points = places(shape)
    if np.abs(points).max() > FARTHEST:
        raise MalformedError(
            f"has a coordinate of {np.abs(points).max():.3g}, beyond {FARTHEST:.0e}", "the file is damaged, or not in this format"
        )
    if np.linalg.norm(np.ptp(points, axis=0)) < 1 / FARTHEST:
        raise MalformedError(f"all of its {len(points):,} points are in one place", "remove it, or check how it was exported", ONE_PLACE)
    if isinstance(shape, Mesh):
        corners = shape.vertices[shape.faces]
        edges = corners[:, 1:] - corners[:, :1]
        area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1).sum() / 2
        # Corners on a line leave rounding of this order, which is no surface to sample.
        if area <= 1e-12 * np.linalg.norm(np.ptp(points, axis=0)) ** 2:
            raise MalformedError(
                f"none of its {len(shape.faces):,} faces has an area", "check the export: the corners of its faces lie on lines", NO_AREA
            )
    return shape


def places(shape: Shape) -> Float64[np.ndarray, "n 3"]:
    """A cloud's points, or a mesh's vertices."""
    return shape.points if isinstance(shape, Cloud) else shape.vertices


def _without(shape: Shape, finite: Bool[np.ndarray, " n"], gone: int) -> Shape:
    """The finite points; of a mesh the finite vertices, and the faces that have no other. ``gone`` is the count that is told."""
    if isinstance(shape, Cloud):
        return Cloud(shape.points[finite], shape.dropped, gone)
    kept = shape.faces[finite[shape.faces].all(axis=1)]
    return Mesh(shape.vertices[finite], (np.cumsum(finite) - 1)[kept], gone)
