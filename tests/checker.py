"""The checker of the test run: shapes and dtypes of arrays, and nothing else.

Tests hand wrong words and numbers to functions on purpose, to read the message; a checker of every type would speak first.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jaxtyping
from beartype import beartype


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype, blind to annotations that are not those of arrays."""
    known = getattr(function, "__globals__", {})
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if of_array(hint, known)}
    return beartype(function)


def of_array(hint: object, known: Mapping[str, object]) -> bool:
    """Whether an annotation holds the type of an array, be it under another name: annotations are text, whose names are looked up."""
    if isinstance(hint, str):
        return any(_is_array(known.get(name)) for name in re.findall(r"[^\W\d]\w*", re.sub(r"\"[^\"]*\"|'[^']*'", "", hint)))
    return _is_array(hint)


def _is_array(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, (jaxtyping.AbstractArray, jaxtyping.AbstractDtype)):
        return True
    return any(_is_array(inner) for inner in typing.get_args(hint))
