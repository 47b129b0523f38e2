from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wisetune.errors import UsageError
from wisetune.records import (
    Z95_ONE_SIDED,
    Record,
    class_mean_interval,
    difference_interval,
    mean_over_seeds,
    paired_difference,
    t95,
    wilson,
)


def paired(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


def test_record_survives_json():
    record = Record("w", "probe", "d", "x", "val", "accuracy", 0.5, 10, 0.2, 0.8, {"c": 0.1})
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe 1998, Stat. Med. 17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_intervals(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_takes_another_level_and_no_trials():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(81, 263, Z95_ONE_SIDED)
    wide_low, wide_high = wilson(81, 263)
    assert wide_low < low < 81 / 263 < high < wide_high
    assert statistics.NormalDist().inv_cdf(0.95) == pytest.approx(Z95_ONE_SIDED, abs=1e-12)


def test_class_mean_of_one_class_is_agresti_and_coulls_interval():
    # R package statpsych, ci.prop: 12 of 100.
    assert class_mean_interval([12], [100]) == pytest.approx((0.06901848, 0.2002123), abs=1e-7)


def test_class_mean_of_two_classes_is_agresti_and_caffos_interval():
    # R package statpsych, ci.prop2: the difference of 35/150 and 21/150; p1 - p2 = 2 mean(p1, 1 - p2) - 1.
    low, high = class_mean_interval([35, 150 - 21], [150, 150])
    assert (2 * low - 1, 2 * high - 1) == pytest.approx((0.004375769, 0.1798348), abs=1e-7)


def test_class_mean_weighs_classes_equally_and_skips_empty_ones():
    low, high = class_mean_interval([9, 10, 0], [10, 1000, 0])
    assert low < (0.9 + 0.01) / 2 < high
    assert (low, high) == class_mean_interval([9, 10], [10, 1000])
    # By far most of the variance comes from the class of ten items.
    assert high - low > 0.15


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40))
def test_class_mean_interval_holds_its_value_and_stays_in_the_unit_interval(pairs):
    classes = [(min(x, n), n) for x, n in pairs]
    if not any(n for _, n in classes):
        return
    low, high = class_mean_interval([x for x, _ in classes], [n for _, n in classes])
    value = statistics.fmean(x / n for x, n in classes if n)
    assert 0.0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1.0


@pytest.mark.parametrize(("right", "n"), [([1], [1, 2]), ([0, 0], [0, 0]), ([], [])])
def test_class_mean_interval_refuses_what_has_no_mean(right, n):
    with pytest.raises(UsageError):
        class_mean_interval(right, n)


@pytest.mark.parametrize(
    ("table", "difference", "low", "high"),
    [
        # Altman et al. 2000, Statistics with confidence, table 6.2.
        ((14, 5, 0, 22), 0.122, 0.011, 0.226),
        # Fagerland, Lydersen & Laake 2017, chapter 8 (data of Cavo et al. 2012), as in the R package contingencytables.
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),
    ],
)
def test_paired_difference_gives_published_intervals(table, difference, low, high):
    places = 5e-4 if table[0] == 14 else 5e-5
    assert paired_difference(*paired(*table)) == pytest.approx((difference, low, high), abs=places)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_paired_difference_holds_its_value_and_turns_with_its_arguments(pairs):
    a, b = [one for one, _ in pairs], [other for _, other in pairs]
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(statistics.fmean(a) - statistics.fmean(b))
    assert -1 - 1e-12 <= low <= difference <= high <= 1 + 1e-12
    assert paired_difference(b, a) == pytest.approx((-difference, -high, -low))


def test_pairing_narrows_the_interval_of_models_that_agree():
    a, b = paired(80, 4, 1, 15)
    _, low, high = paired_difference(a, b)
    apart_low, apart_high = difference_interval(0.84, wilson(84, 100), 0.81, wilson(81, 100))
    assert high - low < 0.7 * (apart_high - apart_low)


def test_difference_interval_of_independent_proportions_is_newcombes():
    # Newcombe 1998, Stat. Med. 17:873, table II: 56/70 - 48/80, method 10.
    low, high = difference_interval(56 / 70, wilson(56, 70), 48 / 80, wilson(48, 80))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=6e-5)


@pytest.mark.parametrize(("a", "b"), [([], []), ([True], [True, False])])
def test_paired_difference_refuses_other_items(a, b):
    with pytest.raises(UsageError):
        paired_difference(a, b)


def test_mean_over_seeds_by_hand():
    # sd of 1, 2, 3 is 1; t(2) = 4.302653; half width 4.302653 / sqrt(3).
    assert mean_over_seeds([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1.0, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))


@pytest.mark.parametrize("values", [[], [0.5], [0.5, float("nan")], [0.5, float("inf")]])
def test_mean_over_seeds_refuses_what_has_no_spread(values):
    with pytest.raises(UsageError, match="at least two finite"):
        mean_over_seeds(values)


@pytest.mark.parametrize("freedom", [1, 2, 9, 19, 20, 21, 30, 99, 1000])
def test_t_quantile_matches_scipy(freedom):
    assert t95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-6)
