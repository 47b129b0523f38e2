"""Which class of one data set is which of another: by name, never by number, and never silently in part."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from wisetune.errors import DataError, UsageError, counted, did_you_mean, first_of

_SHOWN = 12
_NUMBER = re.compile(r"(class|label|cls|id|c)?\d+")


def plain(name: str) -> str:
    """A class name without what people write differently: case, spaces, underscores, dashes."""
    return re.sub(r"[\s_-]+", "", name.casefold())


@dataclasses.dataclass(frozen=True)
class ClassMap:
    """Pairs of a class of ``left`` (what a model knows) and one of ``right`` (what is asked of it); a left class may have several."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    @property
    def shared(self) -> tuple[str, ...]:
        """Left classes with a partner, in the order of ``left``."""
        partners = {left for left, _ in self.pairs}
        return tuple(name for name in self.left if name in partners)

    @property
    def only_left(self) -> tuple[str, ...]:
        """Left classes without a partner."""
        return tuple(name for name in self.left if name not in self.shared)

    @property
    def only_right(self) -> tuple[str, ...]:
        """Right classes without a partner."""
        partners = {right for _, right in self.pairs}
        return tuple(name for name in self.right if name not in partners)

    @property
    def rows(self) -> Int64[np.ndarray, " right"]:
        """For each right class the index of its left class, or -1."""
        to_left = {right: self.left.index(left) for left, right in self.pairs}
        return np.array([to_left.get(name, -1) for name in self.right], np.int64)

    def table(self) -> str:
        """The map as lines of text, one a pair, and then what has no partner."""
        width = max((len(name) for name in self.left), default=0)
        lines = [f"{left:<{width}} = {right}" for left, right in self.pairs]
        lines += [f"{name:<{width}} =" for name in self.only_left]
        lines += [f"{'':<{width}} = {name}" for name in self.only_right]
        return "\n".join(lines)


def match(left: Sequence[str], right: Sequence[str], given: str = "") -> ClassMap:
    """Match two class lists by name.

    Args:
        left: the classes that a model knows.
        right: those of the data that it is asked about.
        given: what the option ``map`` says: ``a=b,c=d`` pairs left with right names; the word ``shared`` leaves right classes without a partner out.

    Raises:
        DataError: nothing is shared, right classes have no partner, or only numbers or ambiguous names would be matched, unless ``given``
            says so.
        UsageError: ``given`` names a class that is not there, or pairs one right class twice.
    """
    pairs, shared_only = _given(given, left, right)
    taken = {name for _, name in pairs}
    free_right = [name for name in right if name not in taken]
    named_left = {name for name, _ in pairs}
    by_plain: dict[str, list[str]] = defaultdict(list)
    for name in left:
        by_plain[plain(name)].append(name)
    plain_right = [plain(name) for name in free_right]
    matched: list[tuple[str, str]] = []
    for name in free_right:
        partners = [name] if name in left else by_plain.get(plain(name), [])
        if not partners or (partners[0] in named_left and partners[0] != name):
            continue
        if len(partners) > 1 or (name not in left and plain_right.count(plain(name)) > 1):
            raise DataError(f"class '{name}' fits more than one name ({', '.join(partners)}). Say which: map=[{partners[0]}={name}].")
        matched.append((partners[0], name))
    numbers = sorted({name for _, name in matched if _NUMBER.fullmatch(plain(name))})
    if numbers:
        raise DataError(
            f"classes {', '.join(numbers[:5])} are numbers, and equal numbers of two data sets are seldom the same class. "
            f"Give the classes names, or pair them yourself: map=[{numbers[0]}={numbers[0]},...]."
        )
    order = {name: at for at, name in enumerate(left)}
    found = ClassMap(tuple(left), tuple(right), tuple(sorted([*pairs, *matched], key=lambda pair: (order[pair[0]], pair[1]))))
    if not found.pairs:
        raise DataError(
            f"the class lists share no name. Left: {first_of(left, _SHOWN)}. Right: {first_of(right, _SHOWN)}. Pair them: map=[left=right,...]."
        )
    if found.only_right and not shared_only:
        raise DataError(
            f"{counted(len(found.only_right), 'class', 'has', 'have')} no partner: {_suggested(found)}. Pair them with map=[left=right,...], or leave "
            f"them out with map=shared. The map so far:\n{found.table()}"
        )
    return found


def _given(text: str, left: Sequence[str], right: Sequence[str]) -> tuple[list[tuple[str, str]], bool]:
    pairs: list[tuple[str, str]] = []
    shared_only = False
    for word in filter(None, (word.strip() for word in text.split(","))):
        a, equals, b = (part.strip() for part in word.partition("="))
        if not equals and a == "shared":
            shared_only = True
            continue
        if not equals:
            raise UsageError(f"map was given '{word}'; it takes left=right pairs with commas between, and the word 'shared'.")
        for name, names, side in ((a, left, "first"), (b, right, "second")):
            if name not in names:
                hint = did_you_mean(name, names)
                raise UsageError(
                    f"map pairs '{word}', but the {side} data set has no class '{name}'.{hint} It has: {first_of(names, _SHOWN)}."
                )
        if b in {other for _, other in pairs}:
            raise UsageError(f"map pairs '{b}' twice; a class can go to one other only.")
        pairs.append((a, b))
    return pairs, shared_only


def _suggested(found: ClassMap) -> str:
    words: list[str] = []
    for name in found.only_right[:10]:
        near = difflib.get_close_matches(plain(name), [plain(other) for other in found.only_left], 1)
        partner = next((other for other in found.only_left if near and plain(other) == near[0]), None)
        words.append(f"{name} (like '{partner}'?)" if partner else name)
    return ", ".join(words) + (" ..." if len(found.only_right) > 10 else "")
