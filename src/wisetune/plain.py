"""Frozen dataclasses and named tuples to plain values, as a JSON file holds them, and back: no field is there that is none, and each is of its type.

A dataclass's field with a default may be absent: a file from before there was such a field means its default.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")
BESIDE: dict[str, bool] = {"beside": True}
"""Metadata of a dataclass's last field, itself a dataclass, whose fields stand beside the others and not under a name of their own."""
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def to_plain(value: Any) -> Any:
    """``dataclasses.asdict``, but that the fields of one ``BESIDE`` stand beside the others."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return to_plain(typing.cast(Any, value)._asdict())
    if dataclasses.is_dataclass(value):
        found = dict[str, Any]()
        for field in dataclasses.fields(value):
            plain = to_plain(getattr(value, field.name))
            found |= plain if field.metadata.get("beside") else {field.name: plain}
        return found
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    return type(value)(map(to_plain, value)) if isinstance(value, (list, tuple)) else value


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """The inverse of ``to_plain``, after JSON.

    Fields may be of plain types, lists, dicts with text as keys, ``X | None``, ``Literal``, ``Any``, other dataclasses and named tuples. A field
    ``Annotated[dict[str, Any], Known]`` may hold anything, but where it holds a key of the TypedDict ``Known`` the value is of that type.

    Raises:
        ValueError: the message says where a value is missing, unknown or wrong, and what it must be.
    """
    if not isinstance(value, dict):
        raise _wrong(where, value, _KINDS[dict])
    rest, found = dict(value), dict[str, Any]()
    hints = _hints(kind)
    for name, needed, beside in _fields(kind):
        if beside:
            found[name] = _read(hints[name], rest, where)
            rest.clear()
        elif name in rest:
            found[name] = _read(hints[name], rest.pop(name), _under(where, name))
        elif needed:
            raise ValueError(f"{where or 'it'} has no '{name}'")
    if rest:
        raise ValueError(f"{where or 'it'} has '{next(iter(rest))}', which is not a part of it")
    return kind(**found)


def _read(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        return from_plain(typing.cast(Any, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        (other,) = (one for one in arguments if one is not types.NoneType)
        return None if value is None else _read(other, value, where)
    if origin is typing.Annotated:
        whole, known = _read(arguments[0], value, where), _hints(arguments[1])
        return {name: _read(known.get(name, Any), item, _under(where, name)) for name, item in whole.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise _wrong(where, value, f"one of {', '.join(map(json.dumps, arguments))}")
        return value
    kind = origin or hint
    if kind is list and isinstance(value, list):
        return [_read(arguments[0], item, f"{where}[{at}]") for at, item in enumerate(value)]
    if kind is dict and isinstance(value, dict):
        return {name: _read(arguments[1], item, _under(where, name)) for name, item in value.items()}
    # True is a whole number to Python, and a whole number is a number to JSON.
    if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool) != (kind is bool):
        raise _wrong(where, value, _KINDS[kind])
    return value


@functools.cache
def _fields(kind: Any) -> list[tuple[str, bool, bool]]:
    """Of each field its name, whether it must be there, and whether its own fields stand beside the others."""
    if not dataclasses.is_dataclass(kind):
        return [(name, True, False) for name in kind._fields]
    needed = [field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING for field in dataclasses.fields(kind)]
    return [(field.name, must, field.metadata.get("beside", False)) for field, must in zip(dataclasses.fields(kind), needed, strict=True)]


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _under(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _wrong(where: str, value: Any, kind: str) -> ValueError:
    return ValueError(f"{where or 'it'} is {json.dumps(value):.40}, and must be {kind}")
