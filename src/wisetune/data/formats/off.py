"""Object files (.off), ascii, with or without normals and colours; also ModelNet's, where the counts follow at once ('OFF490 518 0')."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float, Float64, Int64

from wisetune.data.formats.base import Budget, MalformedError, Shape, enough, fan, numbers, rows_of, surface, text_of, whole

SUFFIXES = (".off",)


def read(data: bytes, budget: Budget) -> Shape:
    """A cloud if there are no faces, else a mesh.

    Raises:
        MalformedError: not an ascii OFF file of three dimensions, or its counts do not fit its lines.
    """
    if re.match(rb"\s*\w*OFF\s+BINARY", data):
        raise MalformedError("is a binary OFF file, which is not read", "save it as ascii OFF or as .ply")
    text = text_of(data, budget)
    if "#" in text:
        text = re.sub("#.*", "", text)
    head = re.match(r"\s*(?:ST)?C?N?OFF\s*(\d+)\s+(\d+)(?:[^\S\n]+\d+)?[^\S\n]*(?:\n|$)", text)
    if head is None:
        raise MalformedError("does not start with OFF and its counts of vertices and faces", "check that the suffix matches the content")
    vertex_count, face_count = int(head[1]), int(head[2])
    budget.check(vertex_count, 24, "vertices")
    budget.check(face_count, 24, "faces")
    enough(6 * vertex_count + 2 * face_count - 1, len(text) - head.end(), f"{vertex_count:,} vertices and {face_count:,} faces")
    lines = [line for line in text[head.end() :].splitlines() if line.strip()]
    if len(lines) != vertex_count + face_count:
        raise MalformedError(
            f"declares {vertex_count:,} vertices and {face_count:,} faces, but {len(lines):,} lines follow",
            "the file is damaged: copy it again",
        )
    return surface(_vertices(lines[:vertex_count]), _faces(lines[vertex_count:]))


def write(points: Float[np.ndarray, "n 3"]) -> bytes:
    """Vertices only."""
    return f"OFF\n{len(points)} 0 0\n{rows_of(points)}".encode()


def _vertices(lines: list[str]) -> Float64[np.ndarray, "v 3"]:
    rows = [line.split()[:3] for line in lines]
    if any(len(row) < 3 for row in rows):
        raise MalformedError("has a vertex with fewer than three coordinates")
    return numbers(" ".join(word for row in rows for word in row), "vertices").reshape(-1, 3)


def _faces(lines: list[str]) -> Int64[np.ndarray, "f 3"]:
    corners: list[int] = []
    indices: list[str] = []
    for line in lines:
        words = line.split()
        count = int(words[0]) if words[0].isdecimal() else -1
        if not 0 <= count < len(words):
            raise MalformedError(f"has a face line that does not hold as many corners as it says: '{line[:40]}'")
        corners.append(count)
        indices += words[1 : count + 1]
    return fan(np.array(corners, np.int64), whole(numbers(" ".join(indices), "faces"), "corners of faces"))
