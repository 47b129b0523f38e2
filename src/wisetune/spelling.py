"""How options are written, as text alone: values, brackets that keep one whole, signs of their own for a bracket without its other half.

``wisetune.spec`` knows what the text means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from wisetune.errors import UsageError

_ESCAPES = {"[": "%5B", "]": "%5D", "%": "%25"}
_NUMBER = re.compile(r"[-+.\d].*")


def dashed(name: str) -> str:
    """A field's or module's name as it is spelled: ``best_of`` is ``best-of``."""
    return name.replace("_", "-")


def spell(value: Any) -> str:
    """A value as an option's text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(value).replace("e+", "e")  # a plus sign joins the items of a tuple
    if isinstance(value, tuple):
        return "+".join(quote(item, ",[]=+") if isinstance(item, str) else spell(item) for item in value)
    return "none" if value is None else str(value)


def quote(text: str, marks: str = ",[]=") -> str:
    """A text as the value of an option, or as one of several in it: read back, it is the same text, whatever it holds."""
    if _uneven(text) or any(escape in text for escape in _ESCAPES.values()):
        text = "".join(_ESCAPES.get(letter, letter) for letter in text)
    return f"[{text}]" if any(mark in text for mark in marks) or text != text.strip() else text


def unquote(text: str) -> str:
    """The inverse of ``quote``."""
    text = text.strip()
    whole = text.startswith("[") and text.endswith("]") and not _uneven(text[1:-1])
    text = text[1:-1] if whole else text
    return re.sub("|".join(_ESCAPES.values()), lambda found: chr(int(found[0][1:], 16)), text)


def split(text: str, mark: str) -> list[str]:
    """The items between marks that stand outside brackets; empty ones left out.

    Raises:
        UsageError: a bracket has no other half.
    """
    if _uneven(text):
        raise UsageError(f"'{text}' opens and closes brackets unevenly. Where a bracket belongs to a name, write [ as %5B and ] as %5D.")
    items: list[str] = []
    depth = start = 0
    for at, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == mark and depth == 0:
            items.append(text[start:at])
            start = at + 1
    items.append(text[start:])
    return [item for item in items if item.strip()]


def partition(item: str) -> tuple[str, str, str]:
    """Split at the first equals sign outside brackets; a path with an equals sign needs brackets."""
    depth = 0
    for at, letter in enumerate(item):
        depth += (letter == "[") - (letter == "]")
        if letter == "=" and depth == 0:
            return item[:at], "=", item[at + 1 :]
    return item, "", ""


def apart(text: str, names: Sequence[str]) -> tuple[dict[str, str], str]:
    """Of a text of options those of these names, which no spec has, and the text of the others.

    The first item may leave the first name out, unless it is a number.

    Raises:
        UsageError: one of them twice.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    for position, item in enumerate(split(text, ",")):
        key, equals, value = partition(item)
        if not equals and position == 0 and not _NUMBER.fullmatch(item.strip()):
            key, value = names[0], item
        key = key.strip().replace("-", "_")
        if key not in names:
            rest.append(item)
        elif key in found:
            raise UsageError(f"'{text}' gives '{key}' twice; give it once.")
        else:
            found[key] = unquote(value)
    return found, ",".join(rest)


def _uneven(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if depth < 0:
            return True
    return depth > 0
