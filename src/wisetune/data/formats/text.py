"""Rows of numbers in a text file: .xyz .txt .csv .pts .asc .xyzn .xyzrgb, separated by blanks, tabs, commas or semicolons.

The columns named x, y, z are taken if there is a row of names, else the first three. Lines that start with # or // are comments.
A first line with one whole number is the count of the rows that follow.
"""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float, Float64

from wisetune.data.formats.base import Budget, Cloud, MalformedError, rows_of, text_of
from wisetune.errors import counted

SUFFIXES = (".xyz", ".txt", ".csv", ".pts", ".asc", ".xyzn", ".xyzrgb")
_HEAD = 100


def read(data: bytes, budget: Budget) -> Cloud:
    """Rows to a cloud.

    Raises:
        MalformedError: not rows of at least three numbers.
    """
    text = text_of(data, budget)
    start, separator, columns, declared = _head(text)
    points = _rows(text[start:], separator, columns, budget)
    if declared is not None and declared != len(points):
        raise MalformedError(f"its first line says {declared:,} rows, but {len(points):,} follow", "the file is cut off: copy it again")
    return Cloud(points)


def write(points: Float[np.ndarray, "n 3"]) -> bytes:
    """Columns x, y, z, separated by blanks, without a row of names."""
    return rows_of(points).encode()


def _head(text: str) -> tuple[int, str | None, tuple[int, int, int], int | None]:
    """Where the rows start, what separates them, which columns are x, y, z, and how many rows are declared."""
    names: list[str] | None = None
    declared: int | None = None
    at = 0
    for number in range(1, _HEAD + 1):
        end = text.find("\n", at)
        line, start = text[at : end if end >= 0 else len(text)].strip(), at
        at = end + 1
        comment = line.startswith(("#", "//"))
        separator = ";" if ";" in line else "," if "," in line else None
        words = [word.strip().strip('"') for word in line.lstrip("#/ ").split(separator)]
        if line and not comment and _is_row(words):
            if len(words) == 1 and words[0].isdigit() and declared is None and names is None:
                declared = int(words[0])
            elif len(words) < 3:
                raise MalformedError(f"line {number} has {counted(len(words), 'column')}; a point needs three", "give x, y and z")
            else:
                return start, separator, _columns(names, len(words)), declared
        elif comment and {"x", "y", "z"} <= {word.lower() for word in words}:
            names = words
        elif line and not comment:
            if names is not None:
                raise MalformedError(f"line {number} is not numbers: '{line[:40]}'", "use one row of x y z a point, with decimal points")
            names = words
        if end < 0:
            raise MalformedError("holds no rows of numbers", "give one row of x y z a point")
    raise MalformedError(f"the first {_HEAD} lines hold no row of numbers", "give one row of x y z a point")


def _is_row(words: list[str]) -> bool:
    """Are the first three columns numbers? Later ones may name a label."""
    try:
        return len([float(word) for word in words[:3]]) > 0
    except ValueError:
        return False


def _columns(names: list[str] | None, width: int) -> tuple[int, int, int]:
    lower = [name.lower() for name in names or ()]
    if len(lower) == width and {"x", "y", "z"} <= set(lower):
        return lower.index("x"), lower.index("y"), lower.index("z")
    return 0, 1, 2


def _rows(text: str, separator: str | None, columns: tuple[int, int, int], budget: Budget) -> Float64[np.ndarray, "n 3"]:
    budget.check(text.count("\n"), 24, "rows")
    comments = ("#", "//") if "//" in text else "#"  # a second mark makes numpy five times slower
    try:
        return np.loadtxt(io.StringIO(text), comments=comments, delimiter=separator, usecols=columns, ndmin=2)
    except ValueError as error:
        reason = str(error).replace("float64", "a number").replace("; use `usecols` to select a subset and avoid this error", "")
        raise MalformedError(f"the rows do not all hold three numbers: {reason.rstrip('.')}", "repair or remove that row") from None
