"""Stereolithography files (.stl), binary and ascii: triangles, each with its own corners."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float64

from wisetune.data.formats.base import Budget, MalformedError, Shape, numbers, surface, text_of

SUFFIXES = (".stl",)
_TRIANGLE = np.dtype([("normal", "<f4", (3,)), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER = 84


def read(data: bytes, budget: Budget) -> Shape:
    """A mesh.

    Raises:
        MalformedError: the declared number of triangles does not fit the size, or the text is not that of an STL file.
    """
    declared = int.from_bytes(data[80:84], "little")
    if len(data) >= _HEADER and len(data) == _HEADER + declared * _TRIANGLE.itemsize:
        budget.check(declared, 100, "triangles")
        table = np.frombuffer(data, _TRIANGLE, declared, _HEADER)
        corners = table["corners"].reshape(-1, 3).astype(np.float64)
    elif data[:512].lstrip().lower().startswith(b"solid"):  # binary headers may say 'solid' too, so the size is asked first
        corners = _ascii(text_of(data, budget), budget)
    else:
        wrong = f"declares {declared:,} triangles ({_HEADER + declared * _TRIANGLE.itemsize:,} bytes) but is {len(data):,} bytes"
        raise MalformedError(
            wrong if len(data) >= _HEADER else "is too short for an STL file", "the file is cut off or not an STL: copy it again"
        )
    return surface(corners, np.arange(len(corners), dtype=np.int64).reshape(-1, 3))


def _ascii(text: str, budget: Budget) -> Float64[np.ndarray, "v 3"]:
    text = text.lower()
    facets, ends = len(re.findall(r"^\s*facet\b", text, re.M)), len(re.findall(r"^\s*endfacet\b", text, re.M))
    vertices = re.findall(r"^\s*vertex\s+(\S+\s+\S+\s+\S+)[^\S\n]*$", text, re.M)
    if "endsolid" not in text or facets != ends or len(vertices) != 3 * facets:
        wrong = f"has {facets:,} facets, {ends:,} of them ended, and {len(vertices):,} vertices" + (
            ", no endsolid" * ("endsolid" not in text)
        )
        raise MalformedError(wrong, "the file is cut off or damaged: copy it again")
    budget.check(facets, 72, "triangles")
    return numbers(" ".join(vertices), "vertices").reshape(-1, 3)
