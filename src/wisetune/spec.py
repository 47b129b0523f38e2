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
import itertools
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from wisetune.canonical import canonical_fields, hints_of
from wisetune.errors import UsageError, did_you_mean
from wisetune.spelling import dashed, partition, quote, spell, split, unquote

S = TypeVar("S", bound="Spec")
NOTHING: Mapping[str, Any] = types.MappingProxyType({})
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
        hints = hints_of(type(self))
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
        hints = hints_of(cls)
        given: dict[str, Any] = {}
        items = split(text, ",")
        for position, item in enumerate(items):
            key, equals, value = partition(item)
            if not equals and position == 0 and fields:
                key, value = next(iter(fields)), item
            elif not equals and given and typing.get_origin(hints[last := next(reversed(given))]) is tuple:
                more = itertools.takewhile(lambda item: not partition(item)[1], items[position:])
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
            given[key] = _read(value if texts else unquote(value), hints[key], f"option '{dashed(key)}' of '{cls.name}'")
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
        hint = hints_of(cls)[field.name]
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


def _kinds(hint: Any) -> tuple[Any, ...]:
    """What a field may be: the members of a union, or the one kind."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


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
        parts = map(unquote, split(text, "+")) if arguments[0] is str else (part for part in text.split("+") if part)
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
