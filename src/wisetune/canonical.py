"""What values are to a digest: a JSON-able form in which equal values are equal and different ones differ, and the digest of it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import typing
from typing import Any


@typing.runtime_checkable
class Canonical(typing.Protocol):
    """What says itself what it is made of: specs, and the nodes of recipes."""

    def canonical(self) -> dict[str, Any]:
        """A JSON-able form."""


def canonical(value: Any) -> Any:
    """A JSON-able form of a spec value in which equal values are equal and different ones differ."""
    if isinstance(value, Canonical):
        return value.canonical()
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    if isinstance(value, float):
        return repr(value)
    return value


def canonical_fields(value: Any) -> dict[str, Any]:
    """The canonical form of each field of a dataclass, without those at the value that means that there was no such field."""
    hints = hints_of(type(value))
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        plain = canonical(_declared(getattr(value, field.name), hints[field.name]))
        if "absent" in field.metadata and _text(plain) == _text(canonical(_declared(field.metadata["absent"], hints[field.name]))):
            continue
        found[field.name] = plain
    return found


def digest_of(value: Any) -> str:
    """Sixteen hex digits that name a JSON-able value."""
    return hashlib.sha256(_text(canonical(value)).encode()).hexdigest()[:16]


@functools.cache
def hints_of(cls: type) -> dict[str, Any]:
    """The types that the fields of a dataclass declare."""
    return typing.get_type_hints(cls)


def _text(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _declared(value: Any, hint: Any) -> Any:
    """A whole number given where the field declares float is that float: 0 and 0.0 are equal, and must digest equally."""
    arguments = typing.get_args(hint)
    if isinstance(value, tuple) and arguments:
        return tuple(_declared(item, arguments[0]) for item in value)
    return float(value) if type(value) is int and float in (hint, *arguments) and int not in arguments else value
