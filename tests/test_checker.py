from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float, Float64, jaxtyped  # noqa: F401 - Float is named in a text

from checker import check, of_array
from wisetune.points import corrupt

Alias = Float64[np.ndarray, "n 3"]
Pair = tuple[Alias, Alias]
Maybe = Alias | None
KNOWN = vars(sys.modules[__name__])


@pytest.mark.parametrize(
    "hint", ['Float[np.ndarray, "n 3"]', "Alias", "Alias | None", "Maybe", "list[Pair]", Alias, Pair, "Callable[[Alias], int]"]
)
def test_arrays_are_seen_under_any_name(hint):
    assert of_array(hint, KNOWN)


@pytest.mark.parametrize("hint", ["int", "Any", "np.ndarray", "dict[str, int]", "Literal['Alias']", "Unknown", int, Any, np.ndarray])
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


def test_the_kernels_of_corruptions_are_checked():
    with pytest.raises(Exception, match="points"):
        corrupt._jitter(np.zeros((4, 2)), 1, np.random.default_rng(0))
