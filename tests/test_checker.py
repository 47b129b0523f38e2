from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np
import pytest
from jaxtyping import Float, Float64, jaxtyped  # noqa: F401 - Float is named in a text

from checker import check, of_array, sparing
from wisetune import canonical
from wisetune.points import corrupt

Alias = Float64[np.ndarray, "n 3"]
Pair = tuple[Alias, Alias]
Maybe = Alias | None
Rows = dict[str, "Alias | int"]
Words = Literal["Alias"]
KNOWN = vars(sys.modules[__name__])


@pytest.mark.parametrize(
    "hint",
    ['Float[np.ndarray, "n 3"]', "Alias", "Alias | None", "Maybe", "list[Pair]", "list[Rows]", Alias, Pair, "Callable[[Alias], int]"],
)
def test_arrays_are_seen_under_any_name(hint):
    assert of_array(hint, KNOWN)


@pytest.mark.parametrize(
    "hint", ["int", "Any", "np.ndarray", "dict[str, int]", "Literal['Alias']", "Words", "Unknown", int, Any, np.ndarray]
)
def test_other_types_are_none_of_its_business(hint):
    assert not of_array(hint, KNOWN)


def test_only_arrays_are_checked():
    @jaxtyped(typechecker=check)
    def same(points: Alias, word: int) -> Alias:
        return points[:1] if word == 1 else points

    assert len(same(np.zeros((2, 3)), "no number")) == 2
    with pytest.raises(Exception, match="return value"):
        same(np.zeros((2, 3)), 1)
    for wrong in (np.zeros((2, 4)), np.zeros((2, 3), np.float32)):
        with pytest.raises(Exception, match="points"):
            same(wrong, 0)


def test_what_has_no_arrays_is_left_as_it_is():
    class Row:
        def __init__(self, points: Alias) -> None:
            self.points = points

    class Word:
        def __init__(self, word: str) -> None:
            self.word = word

    def size(points: Alias) -> int:
        return len(points)

    def double(word: str) -> str:
        return 2 * word

    seen = []
    decorator = sparing(lambda **_: lambda one: seen.append(one) or one)(typechecker=check)
    assert [decorator(one) for one in (Row, Word, size, double)] == [Row, Word, size, double]
    assert seen == [Row, size]
    assert not hasattr(canonical.canonical, "__wrapped__")
    assert hasattr(corrupt._jitter, "__wrapped__")


def test_the_kernels_of_corruptions_are_checked():
    with pytest.raises(Exception, match="points"):
        corrupt._jitter(np.zeros((4, 2)), 1, np.random.default_rng(0))
