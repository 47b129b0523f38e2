"""Laser scans (.las, and .laz with the extra 'las'): coordinates of the points, in the file's unit.

A .las file is read here: its header is fixed, and every point starts with three integers. Only the packed .laz needs a library.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from jaxtyping import Float

from wisetune.data.formats._laz import unpack
from wisetune.data.formats.base import Budget, Cloud, MalformedError, enough

SUFFIXES = (".las", ".laz")
_SMALLEST = 227
_PACKED = 0x80
"""The bit of the point format that says the points are packed (LAZ)."""


def read(data: bytes, budget: Budget) -> Cloud:
    """Points to a cloud.

    Raises:
        MalformedError: the header or what follows it is not as the format says.
        MissingExtra: the points are packed and laspy or lazrs is not installed.
    """
    if data[:4] != b"LASF" or len(data) < _SMALLEST:
        raise MalformedError("has no LAS header", "check that the suffix matches the content")
    major, minor, header_size, start, notes, kind, row = struct.unpack_from("<BB68xHIIBH", data, 24)
    (count,) = struct.unpack_from("<Q", data, 247) if (major, minor) >= (1, 4) and len(data) >= 255 else struct.unpack_from("<I", data, 107)
    scale = np.array(struct.unpack_from("<3d", data, 131))
    offset = np.array(struct.unpack_from("<3d", data, 155))
    if major != 1 or header_size < _SMALLEST or not header_size <= start <= len(data) or row < 12 + 8:
        raise MalformedError(f"its LAS {major}.{minor} header does not fit its size")
    if not (np.isfinite(scale).all() and np.isfinite(offset).all() and (scale != 0).all()):
        raise MalformedError("its header has a scale or an offset that is not a number, or a scale of 0")
    enough(54 * notes, start - header_size, f"{notes:,} records before its points")
    budget.check(count, max(row, 24), "points")
    if kind & _PACKED:
        return Cloud(unpack(data, header_size, start, count, row) * scale + offset)
    enough(count * row, len(data) - start, f"{count:,} points")
    corners = np.dtype({"names": ["at"], "formats": [("<i4", (3,))], "offsets": [0], "itemsize": row})
    return Cloud(np.frombuffer(data, corners, count, start)["at"] * scale + offset)


def write(points: Float[np.ndarray, "n 3"]) -> bytes:
    """LAS 1.2, point format 0. Coordinates become integers: of about a billionth of the largest."""
    scale = max(float(np.abs(points).max(initial=0.0)) / 2**30, 1e-12)
    scale = 10.0 ** math.ceil(math.log10(scale))
    steps = np.rint(points.astype(np.float64) / scale).astype("<i4")
    low, high = (steps.min(axis=0) * scale, steps.max(axis=0) * scale) if len(steps) else (np.zeros(3), np.zeros(3))
    box = [value for pair in zip(high, low, strict=True) for value in pair]
    head = struct.pack("<4sHH16sBB32s32sHHHIIBHI", b"LASF", 0, 0, b"", 1, 2, b"", b"wisetune", 0, 0, 227, 227, 0, 0, 20, len(points))
    head += struct.pack("<5I3d3d6d", len(points), 0, 0, 0, 0, scale, scale, scale, 0.0, 0.0, 0.0, *box)
    rows = np.zeros(len(points), np.dtype([("at", "<i4", (3,)), ("rest", "u1", (8,))]))
    rows["at"] = steps
    return head + rows.tobytes()
