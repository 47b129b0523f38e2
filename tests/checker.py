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


def sparing(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator that jaxtyping's import hook puts on every function, for those alone that have arrays: its wrapper costs more than most of them."""

    def decorate(*given: Any, **options: Any) -> Any:
        decorator = jaxtyped(*given, **options)
        return decorator if given else lambda one: decorator(one) if _has_arrays(one) else one

    return decorate


def _has_arrays(one: Any) -> bool:
    """Of a function, or of the arguments of a class; what is neither is not known."""
    function = one.__init__ if isinstance(one, type) else one
    hints, known = getattr(function, "__annotations__", None), getattr(function, "__globals__", {})
    return hints is None or any(of_array(hint, known) for hint in hints.values())


def of_array(hint: object, known: Mapping[str, object]) -> bool:
    """Whether an annotation holds the type of an array, be it under another name: annotations are text, whose names are looked up."""
    if isinstance(hint, str):
        names = re.findall(r"[^\W\d]\w*", re.sub(r"\"[^\"]*\"|'[^']*'", "", hint))
        return any(not isinstance(meant := known.get(name), str) and of_array(meant, known) for name in names)
    if isinstance(hint, type) and issubclass(hint, (jaxtyping.AbstractArray, jaxtyping.AbstractDtype)):
        return True
    return typing.get_origin(hint) is not typing.Literal and any(of_array(inner, known) for inner in typing.get_args(hint))
