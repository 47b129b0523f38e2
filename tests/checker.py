"""The checker of the test run: shapes and dtypes of arrays, and nothing else.

Tests hand wrong words and numbers to functions on purpose, to read the message; a checker of every type would speak first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import beartype

_ARRAYS = ("Float", "Int", "Bool", "Shaped")


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, blind to annotations that are not those of arrays."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _of_array(hint)}
    return beartype(function)


def _of_array(hint: object) -> bool:
    text = hint if isinstance(hint, str) else repr(hint)
    return any(f"{kind}{bits}[" in text for kind in _ARRAYS for bits in ("", "8", "16", "32", "64"))
