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
    effective_n,
    interval_over_seeds,
    mean_interval,
    mean_over_seeds,
    paired_difference,
    student,
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


marks = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=60)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_interval_of_answers_of_independent_items_is_wilsons(right):
    assert mean_interval(right) == wilson(sum(right), len(right))
    assert effective_n(right) == len(right)


def test_copies_of_an_item_are_one_item():
    right = [True] * 70 + [False] * 30
    copies, owners = [mark for mark in right for _ in range(3)], [item for item in range(100) for _ in range(3)]
    # As many items as there are, less the one that a sample variance costs.
    assert effective_n(copies, owners) == pytest.approx(99)
    assert mean_interval(copies, owners) == pytest.approx(wilson(0.7 * 99, 99), abs=2e-3)
    other = [True] * 64 + [False] * 36
    _, low, high = paired_difference(copies, [mark for mark in other for _ in range(3)], groups=owners)
    assert (low, high) == pytest.approx(paired_difference(right, other)[1:], abs=0.025)
    narrow = paired_difference(copies, [mark for mark in other for _ in range(3)])
    assert high - low > 1.5 * (narrow[2] - narrow[1])


def test_the_cluster_standard_error_by_hand():
    # Objects with 3 of 3, 1 of 2, 0 of 1 right: p = 4/6, residuals 1, -1/3, -2/3 summed by object.
    variance = 3 / 2 * (1 + 1 / 9 + 4 / 9) / 36
    assert effective_n([1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 2]) == pytest.approx((4 / 6) * (2 / 6) / variance)


def test_objects_that_are_all_right_count_once_each():
    assert effective_n([1.0] * 12, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]) == 3
    low, high = mean_interval([1.0] * 12, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    assert (low < wilson(3, 3)[0], high) == (True, 1.0)
    assert mean_interval([1.0, 0.0], [4, 4]) == (0.0, 1.0)  # of one object nothing is known about others
    assert mean_interval([]) == (0.0, 1.0)


@given(marks)
def test_groups_never_narrow_an_interval_and_every_interval_holds_its_value(rows):
    a, b, owners = ([row[at] for row in rows] for at in range(3))
    for groups in (None, owners):
        low, high = mean_interval(a, groups)
        assert -1e-12 <= low <= statistics.fmean(a) + 1e-9
        assert statistics.fmean(a) - 1e-9 <= high <= 1 + 1e-12
        difference, low, high = paired_difference(a, b, groups=groups)
        assert difference == pytest.approx(statistics.fmean(a) - statistics.fmean(b))
        assert -1 - 1e-9 <= low <= difference + 1e-9 <= high + 2e-9 <= 1 + 3e-9
        assert paired_difference(b, a, groups=groups) == pytest.approx((-difference, -high, -low))
    assert effective_n(a, owners) <= effective_n(a) * (1 + 1e-9)


def test_the_mean_of_copied_seeds_is_one_seed():
    a, b = paired(80, 4, 1, 15)
    mean = [statistics.fmean([mark] * 3) for mark in a], [statistics.fmean([mark] * 3) for mark in b]
    assert paired_difference(*mean) == paired_difference(a, b)


def test_marks_in_between_say_more_than_single_answers():
    # Each of 200 items right in two of three seeds or so: the mean of an item varies less than one answer.
    sure = [2 / 3, 1 / 3, 2 / 3, 1.0] * 50
    low, high = mean_interval(sure)
    wide_low, wide_high = wilson(sum(sure), 200)
    assert wide_low < low < statistics.fmean(sure) < high < wide_high
    half = t95(199) * statistics.stdev(sure) / math.sqrt(200)
    assert (high - low) / 2 == pytest.approx(half, rel=0.01)


def test_difference_interval_of_independent_proportions_is_newcombes():
    # Newcombe 1998, Stat. Med. 17:873, table II: 56/70 - 48/80, method 10.
    low, high = difference_interval(56 / 70, wilson(56, 70), 48 / 80, wilson(48, 80))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=6e-5)


@pytest.mark.parametrize(("a", "b", "groups"), [([], [], None), ([True], [True, False], None), ([True], [True], [0, 1])])
def test_paired_difference_refuses_other_items(a, b, groups):
    with pytest.raises(UsageError):
        paired_difference(a, b, groups=groups)


def test_mean_over_seeds_by_hand():
    # sd of 1, 2, 3 is 1; t(2) = 4.302653; half width 4.302653 / sqrt(3).
    assert mean_over_seeds([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1.0))
    assert interval_over_seeds([1.0, 2.0, 3.0]) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))


def test_two_seeds_have_no_interval():
    assert interval_over_seeds([0.70, 0.75]) is None


@pytest.mark.parametrize("values", [[], [0.5], [0.5, float("nan")], [0.5, float("inf")]])
def test_mean_over_seeds_refuses_what_has_no_spread(values):
    with pytest.raises(UsageError, match="at least two finite"):
        mean_over_seeds(values)


@pytest.mark.parametrize("freedom", [1, 2, 9, 19, 20, 21, 30, 99, 1000])
def test_t_quantile_matches_scipy(freedom):
    assert t95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-6)


@pytest.mark.parametrize(("freedom", "error"), [(1, 0.05), (2, 3e-3), (5, 1e-4), (20, 1e-6), (83, 1e-8)])
def test_one_sided_t_quantile_matches_scipy(freedom, error):
    assert student(freedom, Z95_ONE_SIDED) == pytest.approx(stats.t.ppf(0.95, freedom), rel=error)
