"""Specs: frozen option values with one spelling everywhere (command line, file, table row, log, error).

    svm                            every default
    svm:c=0.1                      one option
    folder:scans/train             the first field may be given without its name
    svm:task=[folder:a b,seed=3]   brackets keep a value whole that holds commas, brackets or equals signs
    folder:scan%5B1                a bracket without its other half: %5B is [, %5D is ], and %25 the percent sign of such a text
    my_lab.tuning:Mine:rank=4      a class outside wisetune: its module, its name, its options

Reading (``Catalog.parse``) and ``str`` are inverse; defaults are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from wisetune.errors import UsageError, did_you_mean

S = TypeVar("S", bound="Spec")
_ESCAPES = {"[": "%5B", "]": "%5D", "%": "%25"}
NOTHING: Mapping[str, Any] = types.MappingProxyType({})
_NUMBER = re.compile(r"[-+.\d].*")
_WORDS = {"true": True, "yes": True, "false": False, "no": False}


@dataclasses.dataclass(frozen=True)
class Range:
    """The finite numbers that an option takes. True and False are none, nor are whole numbers that no float can hold."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value: object) -> bool:
        # Compared, not converted: of a whole number that no float can hold isfinite makes an OverflowError.
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
            return False
        low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        return low and (self.most is None or value <= self.most) and (self.below is None or value < self.below)

    def __str__(self) -> str:
        words = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {value:.15g}" for word, value in words.items() if value is not None)


def option(
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    absent: Any = dataclasses.MISSING,
    means: str = "",
) -> Any:
    """A field that takes finite numbers within bounds (where its type allows None, None too), or that came later than the others.

    The bounds of a tuple are those of each of its items.

    ``absent`` is the value that means what was done before there was such a field: at it the field does not enter digests, so that adding
    it renames nothing that was stored, and a file that does not name the option means it. It stays when the default changes.

    ``means`` says what the option is for (``wisetune options``).
    """
    bounds = Range(least, above, most, below)
    metadata: dict[str, Any] = ({"range": bounds} if bounds != Range() else {}) | ({"means": means} if means else {})
    return dataclasses.field(default=default, metadata=metadata | ({} if absent is dataclasses.MISSING else {"absent": absent}))


@dataclasses.dataclass(frozen=True)
class Spec:
    """Base of every option value. Subclasses are frozen dataclasses; their fields are their options.

    ``name`` is the word of a catalog; a class that does not set it is called by its module and itself, ``my_lab.tuning:Mine``.
    """

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = address(cls)

    def __post_init__(self) -> None:
        """Check words where the field lists them (``Literal``), numbers where it bounds them (``option``), and that a tuple is one.

        A tuple of words says which of them: at least one, each once.

        A subclass with checks of its own calls this first.

        Raises:
            UsageError: a word that the field does not list, none of several or one twice, a number out of its bounds, something else where a
                tuple is declared.
        """
        hints = _hints(type(self))
        for field in dataclasses.fields(self):
            value, hint, bounds = getattr(self, field.name), hints[field.name], field.metadata.get("range")
            where = f"option '{dashed(field.name)}' of '{self.name}'"
            kinds = _kinds(hint)
            if value is None and type(None) in kinds:
                continue
            hint = next((kind for kind in kinds if kind is not type(None)), hint)
            several = typing.get_origin(hint) is tuple
            if typing.get_origin(hint) is typing.Literal and value not in typing.get_args(hint):
                raise UsageError(_not_a_word(value, hint, where))
            if several and not isinstance(value, tuple):
                raise UsageError(f"{where} is {value!r}; it must be a tuple, such as (1, 2) or (1,).")
            if several and _of_words(hint):
                _check_words(value, typing.get_args(hint)[0], where)
            if bounds is None:
                continue
            whole = float not in (typing.get_args(hint) if several else kinds)
            if any(item not in bounds or (whole and not isinstance(item, int)) for item in (value if several else (value,))):
                which = "each" if several else "it"
                raise UsageError(f"{where} is {spell(value)}; {which} must be a {'whole ' if whole else ''}number, {bounds}.")

    def __str__(self) -> str:
        return self._spelled(defaults=False)

    def in_full(self) -> str:
        """The spelling with every option: what a file holds, so that a changed default does not change what the file means."""
        return self._spelled(defaults=True)

    def _spelled(self, defaults: bool) -> str:
        options = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            default = field.default is not dataclasses.MISSING and value == field.default and type(value) is type(field.default)
            if defaults or not default:
                options.append(f"{dashed(field.name)}={quote(spell(value))}")
        return self.name + (":" + ",".join(options) if options else "")

    def canonical(self) -> dict[str, Any]:
        """All options, defaults too: what a digest is made of (a changed default must change the digest). See ``option`` for later ones.

        A class outside wisetune is its module and itself here, whatever it calls itself: it may call itself ``full``.
        """
        options = canonical_fields(self)
        return {"spec": self.name if type(self).__module__.startswith("wisetune.") else address(type(self)), **options}

    @classmethod
    def from_options(cls: type[S], text: str, *, filed: bool = False, otherwise: Mapping[str, Any] = NOTHING) -> S:
        """Parse ``key=value,key=value`` into this spec; the first item may leave its key out.

        ``filed`` options are from a file, which has all that there were (``in_full``): of one that came later it means what was done before.
        ``otherwise`` takes the place of defaults, of fields that there are.

        Raises:
            UsageError: an unknown option, a value of the wrong kind, or a required option that is missing.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        hints = _hints(cls)
        given: dict[str, Any] = {}
        items = _split(text, ",")
        for position, item in enumerate(items):
            key, equals, value = _partition(item)
            if not equals and position == 0 and fields:
                key, value = next(iter(fields)), item
            elif not equals and given and typing.get_origin(hints[last := next(reversed(given))]) is tuple:
                more = itertools.takewhile(lambda item: not _partition(item)[1], items[position:])
                values = "+".join([spell(given[last]), *map(str.strip, more)])
                raise UsageError(
                    f"'{cls.name}' was given '{item}' after a comma, where another option begins. Join the values of '{dashed(last)}' by +: "
                    f"{dashed(last)}={values}."
                )
            elif not equals:
                raise UsageError(f"'{cls.name}' was given '{item}', but an option is spelled key=value. Options: {option_names(cls)}.")
            key = key.strip().replace("-", "_")
            if key not in fields:
                word, known = dashed(key), map(dashed, fields)
                raise UsageError(f"'{cls.name}' has no option '{word}'.{did_you_mean(word, known)} Options: {option_names(cls)}.")
            if key in given:
                raise UsageError(f"'{cls.name}' was given '{dashed(key)}' twice; give it once.")
            texts = hints[key] == tuple[str, ...] and value.count("[") == 1  # then the bracket is that of one of them
            given[key] = _read(value if texts else _unquote(value), hints[key], f"option '{dashed(key)}' of '{cls.name}'")
        if filed:
            given = {name: field.metadata["absent"] for name, field in fields.items() if "absent" in field.metadata} | given
        given = {name: value for name, value in otherwise.items() if name in fields} | given
        missing = [
            name
            for name, field in fields.items()
            if name not in given and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise UsageError(f"'{cls.name}' needs {', '.join(missing)}; for example '{cls.name}:{missing[0]}=...'.")
        return cls(**given)


@typing.runtime_checkable
class Canonical(typing.Protocol):
    """What says itself what it is made of: specs, and the nodes of recipes."""

    def canonical(self) -> dict[str, Any]:
        """A JSON-able form."""


def canonical_fields(value: Any) -> dict[str, Any]:
    """The canonical form of each field of a dataclass, without those at the value that means that there was no such field."""
    hints = _hints(type(value))
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        plain = canonical(_declared(getattr(value, field.name), hints[field.name]))
        if "absent" in field.metadata and _text(plain) == _text(canonical(_declared(field.metadata["absent"], hints[field.name]))):
            continue
        found[field.name] = plain
    return found


def canonical(value: Any) -> Any:
    """A JSON-able form of a spec value in which equal values are equal and different ones differ."""
    if isinstance(value, Canonical):
        return value.canonical()
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    if isinstance(value, float):
        return repr(value)
    return value


def digest_of(value: Any) -> str:
    """Sixteen hex digits that name a JSON-able value."""
    return hashlib.sha256(_text(canonical(value)).encode()).hexdigest()[:16]


def _text(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def apart(text: str, names: Sequence[str]) -> tuple[dict[str, str], str]:
    """Of a text of options those of these names, which no spec has, and the text of the others.

    The first item may leave the first name out, unless it is a number.

    Raises:
        UsageError: one of them twice.
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    for position, item in enumerate(_split(text, ",")):
        key, equals, value = _partition(item)
        if not equals and position == 0 and not _NUMBER.fullmatch(item.strip()):
            key, value = names[0], item
        key = key.strip().replace("-", "_")
        if key not in names:
            rest.append(item)
        elif key in found:
            raise UsageError(f"'{text}' gives '{key}' twice; give it once.")
        else:
            found[key] = _unquote(value)
    return found, ",".join(rest)


def dashed(name: str) -> str:
    """A field's or module's name as it is spelled: ``best_of`` is ``best-of``."""
    return name.replace("_", "-")


def address(cls: type) -> str:
    """What a class outside wisetune is called: its module and itself, ``my_lab.tuning:Mine``."""
    return f"{cls.__module__}:{cls.__qualname__}"


def option_names(cls: type[Spec]) -> str:
    """The options of a spec, as they are spelled."""
    return ", ".join(dashed(field.name) for field in dataclasses.fields(cls)) or "none"


class Told(typing.NamedTuple):
    """An option in words: its name, its default (``needed`` where there is none), what it means, what it takes."""

    name: str
    default: str
    means: str
    takes: str


def options_of(cls: type[Spec]) -> list[Told]:
    """The options of a spec in words."""
    rows: list[Told] = []
    for field in dataclasses.fields(cls):
        hint = _hints(cls)[field.name]
        kinds = [kind for kind in _kinds(hint) if kind is not type(None)]
        takes = " or ".join(map(_in_words, kinds)) + (f", {bounds}" if (bounds := field.metadata.get("range")) else "")
        takes += " or none" if type(None) in _kinds(hint) else ""
        default = "needed" if field.default is dataclasses.MISSING else spell(field.default)
        rows.append(Told(dashed(field.name), default, field.metadata.get("means", ""), takes))
    return rows


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(map(str, arguments))
    if origin is tuple:
        which = "at least one, and joined by + each once, of" if _of_words(hint) else "several joined by +, each"
        return f"{which} {_in_words(arguments[0])}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(hint, str(hint))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """What a field may be: the members of a union, or the one kind."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _declared(value: Any, hint: Any) -> Any:
    """A whole number given where the field declares float is that float: 0 and 0.0 are equal, and must digest equally."""
    arguments = typing.get_args(hint)
    if isinstance(value, tuple) and arguments:
        return tuple(_declared(item, arguments[0]) for item in value)
    return float(value) if type(value) is int and float in (hint, *arguments) and int not in arguments else value


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


def _unquote(text: str) -> str:
    text = text.strip()
    whole = text.startswith("[") and text.endswith("]") and not _uneven(text[1:-1])
    text = text[1:-1] if whole else text
    return re.sub("|".join(_ESCAPES.values()), lambda found: chr(int(found[0][1:], 16)), text)


def _uneven(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if depth < 0:
            return True
    return depth > 0


def _split(text: str, mark: str) -> list[str]:
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


def _partition(item: str) -> tuple[str, str, str]:
    """Split at the first equals sign outside brackets; a path with an equals sign needs brackets."""
    depth = 0
    for at, letter in enumerate(item):
        depth += (letter == "[") - (letter == "]")
        if letter == "=" and depth == 0:
            return item[:at], "=", item[at + 1 :]
    return item, "", ""


def _not_a_word(value: object, hint: Any, where: str) -> str:
    return f"{where} is '{value}'; it can be {', '.join(map(str, typing.get_args(hint)))}."


def _of_words(hint: Any) -> bool:
    """Whether a field takes some of several words."""
    return typing.get_origin(hint) is tuple and typing.get_origin(typing.get_args(hint)[0]) is typing.Literal


def _check_words(value: tuple[object, ...], hint: Any, where: str) -> None:
    for word in value:
        if word not in typing.get_args(hint):
            raise UsageError(_not_a_word(word, hint, where))
    if not value or len(set(value)) < len(value):
        known = ", ".join(map(str, typing.get_args(hint)))
        raise UsageError(f"{where} is {spell(value) or 'empty'}; it takes at least one of {known}, each once.")


def _read(text: str, hint: Any, where: str) -> Any:
    """Text to the type that a field declares: bool, int, float, str, tuple of these, Literal, or None."""
    origin, arguments, kinds = typing.get_origin(hint), typing.get_args(hint), _kinds(hint)
    if len(kinds) > 1:
        if text == "none" and type(None) in kinds:
            return None
        return _read(text, next(kind for kind in kinds if kind is not type(None)), where)
    if origin is typing.Literal:
        if text not in arguments:
            raise UsageError(_not_a_word(text, hint, where))
        return text
    if origin is tuple:
        parts = map(_unquote, _split(text, "+")) if arguments[0] is str else (part for part in text.split("+") if part)
        return tuple(_read(part, arguments[0], where) for part in parts)
    if hint is bool:
        if text.lower() not in _WORDS:
            raise UsageError(f"{where} is '{text}'; it can be true or false.")
        return _WORDS[text.lower()]
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise UsageError(f"{where} is '{text}'; it must be {'a whole number' if hint is int else 'a number'}.") from None
    return text
