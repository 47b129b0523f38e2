"""Wavefront files (.obj): lines ``v`` and ``f``. All else (normals, materials, groups) is passed over; no other file is opened."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from wisetune.data.formats.base import Budget, MalformedError, Shape, fan, numbers, rows_of, surface, text_of

SUFFIXES = (".obj",)


def read(data: bytes, budget: Budget) -> Shape:
    """A cloud if there are no faces, else a mesh.

    Raises:
        MalformedError: not text, no vertices, or a line ``v`` or ``f`` that is not one.
    """
    text = text_of(data, budget)
    if "\\\n" in text:
        text = text.replace("\\\n", " ")
    coordinates: list[str] = []
    corners: list[int] = []
    indices: list[int] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            if len(words) < 4:
                raise MalformedError(f"has a vertex with fewer than three coordinates: '{line[:40]}'")
            coordinates += words[1:4]
        elif words[0] == "f":
            before = len(coordinates) // 3
            try:
                face = [int(word.partition("/")[0]) for word in words[1:] if not word.startswith("#")]
            except ValueError:
                raise MalformedError(f"has a face that does not name vertices by number: '{line[:40]}'") from None
            if 0 in face:
                raise MalformedError(f"has a face with vertex 0, but an OBJ file counts from 1: '{line[:40]}'")
            corners.append(len(face))
            indices += [index - 1 if index > 0 else before + index for index in face]  # negative: counted back from here
    if not coordinates:
        raise MalformedError("holds no vertices (lines that start with 'v')", "check that the suffix matches the content")
    budget.check(len(coordinates) // 3, 24, "vertices")
    budget.check(len(indices), 8, "corners of faces")
    vertices = numbers(" ".join(coordinates), "vertices").reshape(-1, 3)
    return surface(vertices, fan(np.array(corners, np.int64), np.array(indices, np.int64)))


def write(points: Float[np.ndarray, "n 3"]) -> bytes:
    """Vertices only."""
    return rows_of(points, "v ").encode()
