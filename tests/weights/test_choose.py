from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisetune.errors import UsageError
from wisetune.records import wilson
from wisetune.weights.choose import Curve, greedy_alpha, interval_alpha

READINGS = {
    "strict_ref_ft": {},
    "strict_ref_previous": {"reference": "previous"},
    "first_step_free_ref_ft": {"first_step": "free"},
    "first_step_free_ref_previous": {"reference": "previous", "first_step": "free"},
}
GRID = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


def curve(alphas: list[float], accuracy: list[float | None], robustness: list[float | None], **more: object) -> Curve:
    """Percentages, as published; alphas whose values were not published are left out."""
    rows = [row for row in zip(alphas, accuracy, robustness, strict=True) if None not in row]
    return Curve(
        *([value / scale for value in column] for column, scale in zip(zip(*rows, strict=True), (1, 100, 100), strict=True)), **more
    )


@pytest.fixture
def golden(shared: Path) -> dict:
    return json.loads((shared / "reference/robust/golden/greedy_alpha.json").read_text())


def check(case: dict) -> int:
    for reading, (alpha, accuracy, robustness) in case["readings"].items():
        choice = greedy_alpha(curve(case["alphas"], case["acc"], case["rob"]), **READINGS[reading])
        assert choice.alpha == alpha, reading
        assert (100 * choice.accuracy, 100 * choice.robustness) == pytest.approx((accuracy, robustness)), reading
    return len(case["readings"])


def test_greedy_reproduces_every_golden_case_under_every_reading(golden):
    checked = sum(check(case) for case in golden["seed_cases"].values())
    checked += check(golden["synthetic_acc_limited"]) + check(golden["synthetic_rob_dip"])
    assert checked == 6 * 4 + 2 + 1


def test_greedy_says_what_stopped_it_and_shows_its_tests(golden):
    case = golden["synthetic_acc_limited"]
    choice = greedy_alpha(curve(case["alphas"], case["acc"], case["rob"]))
    assert choice.stopped_by == "accuracy"
    assert [(step.alpha, step.accepted) for step in choice.steps] == [(0.9, True), (0.8, True), (0.7, True), (0.6, True), (0.5, False)]
    assert choice.steps[-1].accuracy_change == pytest.approx(-0.15)
    assert choice.steps[-1].robustness_change == pytest.approx(1)
    words = choice.explain()
    told = "alpha 0.5: accuracy 89.85 % (-0.15 points), robustness 84.00 % (+1 points): refused, accuracy is more than 0.1 points below alpha 1."
    assert told in words.splitlines()
    assert choice.steps[0].why == "accuracy and robustness hold"
    assert "Chosen: alpha 0.6, accuracy 89.92 % (-0.08 points against alpha 1), robustness 83.00 % (+3 points)" in words
    case = golden["synthetic_rob_dip"]
    choice = greedy_alpha(curve(case["alphas"], case["acc"], case["rob"]))
    assert choice.stopped_by == "robustness"
    assert choice.steps[-1].why == "robustness is below alpha 0.9"
    assert "Stopped because robustness fell" in choice.explain()


def test_a_drop_of_exactly_the_tolerance_is_accepted():
    for top in range(2, 1001):
        ends = [top / 10, (top - 1) / 10]
        assert greedy_alpha(curve([1, 0], ends, [50, 50])).alpha == 0, ends
        assert greedy_alpha(curve([1, 0], [ends[0], ends[1] - 0.0001], [50, 50])).alpha == 1, ends


def test_equal_values_walk_to_the_end_of_the_grid():
    choice = greedy_alpha(curve(GRID, [80] * 11, [70] * 11))
    assert (choice.alpha, choice.stopped_by, len(choice.steps)) == (0.0, "end of grid", 10)
    assert "Every alpha was tried: none is refused." in choice.explain()


def test_small_drops_add_up_only_under_the_previous_reference():
    slide = curve(GRID, [90 - 0.08 * step for step in range(11)], [70] * 11)
    assert greedy_alpha(slide).alpha == 0.9
    assert greedy_alpha(slide, reference="previous").alpha == 0.0
    assert greedy_alpha(slide, tolerance=0.4).alpha == 0.5


def test_a_free_first_step_is_free_once():
    fall = curve([1, 0.9, 0.8], [90, 80, 70], [70, 60, 80])
    choice = greedy_alpha(fall, first_step="free")
    assert (choice.alpha, choice.stopped_by) == (0.9, "accuracy")
    assert "the first step is free" in choice.steps[0].why
    assert greedy_alpha(fall).alpha == 1


def test_when_both_fall_accuracy_is_named():
    assert greedy_alpha(curve([1, 0], [90, 80], [70, 60])).stopped_by == "accuracy"


def test_one_point_is_its_own_choice():
    choice = greedy_alpha(curve([1], [90], [70]))
    assert (choice.alpha, choice.steps, choice.stopped_by) == (1, (), "end of grid")
    assert interval_alpha(curve([1], [90], [70])).alpha == 1


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=11, max_size=11), st.randoms(use_true_random=False))
def test_the_order_of_points_and_dusty_alphas_change_nothing(values, shuffle: random.Random):
    accuracy, robustness = ([value[column] / 10 for value in values] for column in (0, 1))
    rows = list(zip([step * 0.1 for step in range(11)][::-1], accuracy, robustness, strict=True))
    straight = curve(GRID, accuracy, robustness, n=1000)
    shuffle.shuffle(rows)
    shuffled = curve(*(list(column) for column in zip(*rows, strict=True)), n=1000)
    assert straight == shuffled
    for rule in (greedy_alpha, interval_alpha):
        choice = rule(shuffled)
        assert choice == rule(straight)
        assert choice.alpha in GRID
        at = GRID.index(choice.alpha)
        assert (100 * choice.accuracy, 100 * choice.robustness) == pytest.approx((accuracy[at], robustness[at]))


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=11, max_size=11))
def test_greedy_keeps_its_promise(values):
    choice = greedy_alpha(curve(GRID, *([value[column] / 10 for value in values] for column in (0, 1))))
    assert choice.accuracy >= choice.finetuned_accuracy - 0.001 - 1e-9
    assert choice.robustness >= choice.finetuned_robustness
    assert all(step.accepted for step in choice.steps[:-1])
    assert (choice.stopped_by == "end of grid") == (not choice.steps or choice.steps[-1].accepted)


def answers(right: int, n: int, lost: int = 0, won: int = 0) -> list[bool]:
    """Answers of a model that differs from one with ``right`` right of ``n`` by items lost and won."""
    return [False] * lost + [True] * (right - lost) + [True] * won + [False] * (n - right - won)


def paired(*changes: tuple[int, int], robustness: list[float]) -> Curve:
    rows = [answers(350, 400), *(answers(350, 400, lost, won) for lost, won in changes)]
    alphas = GRID[: len(rows)]
    return Curve(alphas, [sum(row) / 400 for row in rows], robustness, right=rows)


def test_the_interval_rule_takes_the_most_robust_without_a_shown_loss():
    # Ten lost and six won are noise; ten lost and none won are not, nor do they bar what lies beyond.
    choice = interval_alpha(
        paired((10, 6), (4, 3), (10, 0), (4, 3), (40, 0), robustness=[0.7, 0.8, 0.75, 0.9, 0.85, 0.95]), margin=math.inf
    )
    assert (choice.alpha, choice.stopped_by) == (0.6, "end of grid")
    assert [step.accepted for step in choice.steps] == [True, True, False, True, False]
    refused = choice.steps[2]
    assert refused.accuracy_change == pytest.approx(-2.5)
    assert refused.change_low < -2.5 < refused.change_high < 0
    assert "alpha 0.7: accuracy 85.00 % (-2.5 points, by the data " in choice.explain()
    assert refused.why == "a loss of accuracy is shown"
    assert choice.steps[0].why == "no loss of accuracy is shown"


def test_with_few_items_the_margin_decides():
    # 12 lost and 6 won of 400: 1.5 points are seen, no loss is shown.
    measured = paired((12, 6), robustness=[0.7, 0.8])
    assert interval_alpha(measured, margin=1.5).alpha == 0.9
    choice = interval_alpha(measured)
    assert choice.alpha == 1.0
    assert choice.steps[0].why == "accuracy is more than 1 point lower"
    # With many items a sure loss is one, however small.
    assert interval_alpha(curve([1, 0.9], [90, 89.5], [70, 80], n=10**6)).alpha == 1
    for bad in (-0.1, float("nan")):
        with pytest.raises(UsageError, match="margin is"):
            interval_alpha(measured, margin=bad)


def test_pairing_shows_losses_that_two_intervals_do_not():
    with_pairs = paired((12, 0), robustness=[0.7, 0.8])
    without = Curve(with_pairs.alphas, with_pairs.accuracy, with_pairs.robustness, n=400)
    assert interval_alpha(with_pairs, margin=5).alpha == 1
    assert interval_alpha(without, margin=5).alpha == 0.9


def test_more_items_show_smaller_losses():
    assert interval_alpha(curve([1, 0.9], [90, 88], [70, 80], n=300), margin=5).alpha == 0.9
    assert interval_alpha(curve([1, 0.9], [90, 88], [70, 80], n=30000), margin=5).alpha == 1


def test_given_intervals_are_used_at_their_level():
    n = 1800
    intervals = [wilson(0.90 * n, n), wilson(0.882 * n, n)]
    # One-sided 95 % sees this loss, two-sided 95 % intervals do not.
    assert interval_alpha(curve([1, 0.9], [90, 88.2], [70, 80], n=n), margin=5).alpha == 1
    assert interval_alpha(curve([1, 0.9], [90, 88.2], [70, 80], intervals=intervals), margin=5).alpha == 0.9
    assert interval_alpha(curve([1, 0.9], [90, 88.2], [70, 80], intervals=[(0.9, 0.9), (0.882, 0.882)])).alpha == 1


def test_ties_go_to_accuracy_then_to_the_larger_alpha():
    assert interval_alpha(curve([1, 0.9, 0.8, 0.7], [90, 90, 91, 90], [70, 80, 80, 80], n=100)).alpha == 0.8
    assert interval_alpha(curve([1, 0.9, 0.8, 0.7], [90, 91, 91, 91], [70, 80, 80, 80], n=100)).alpha == 0.9
    # 0.1 + 0.2 against 0.3: the same robustness but for rounding.
    assert interval_alpha(Curve([1, 0.5], [0.9, 0.8], [0.3, 0.1 + 0.2], n=20)).alpha == 1


def test_the_interval_rule_needs_to_know_how_sure_the_numbers_are():
    with pytest.raises(UsageError, match="right, intervals or n"):
        interval_alpha(curve([1, 0], [90, 80], [70, 80]))


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        (([0.9, 0.8], [0.9, 0.9], [0.7, 0.7]), {}, "no alpha 1"),
        (([1, 0.5], [0.9, float("nan")], [0.7, 0.7]), {}, r"accuracy at alpha 0\.5 is nan"),
        (([0.5, 1], [0.9, 0.9], [float("nan"), 0.7]), {}, r"robustness at alpha 0\.5 is nan"),
        (([1, 0.5], [91.2, 0.9], [0.7, 0.7]), {}, r"accuracy at alpha 1 is 91\.2; .*divide percentages by 100"),
        (([1, float("nan")], [0.9, 0.9], [0.7, 0.7]), {}, "alpha is nan"),
        (([1, 0.3, 0.1 + 0.2], [0.9] * 3, [0.7] * 3), {}, r"alpha 0\.3 twice"),
        (([1, 0.5], [0.9], [0.7, 0.7]), {}, "2 alphas and 1 values of accuracy"),
        (([1, 0.5], [0.9, 0.9], [0.7, 0.7]), {"intervals": [(0.8, 1.0)]}, "1 values of intervals"),
        (([1, 0.5], [0.9, 0.9], [0.7, 0.7]), {"intervals": [(0.8, 1.0), (0.1, 0.2)]}, r"alpha 0\.5 the accuracy 0\.9 lies outside"),
        (([1, 0.5], [0.5, 0.5], [0.7, 0.7]), {"right": [[True, False], [True, True]]}, r"alpha 0\.5 2 of 2 right do not make"),
    ],
)
def test_curves_that_cannot_be_read_are_refused(arguments, more, message):
    with pytest.raises(UsageError, match=message):
        Curve(*arguments, **more)


def test_options_are_checked():
    flat = curve([1, 0], [90, 90], [70, 70])
    for wrong in (-0.1, float("nan")):
        with pytest.raises(UsageError, match="tolerance is"):
            greedy_alpha(flat, tolerance=wrong)
    with pytest.raises(UsageError, match="reference is 'best'"):
        greedy_alpha(flat, reference="best")
    with pytest.raises(UsageError, match="first_step is 'skipped'"):
        greedy_alpha(flat, first_step="skipped")


def test_at_ties_the_reason_is_the_one_that_decided():
    """Robustness that is the same everywhere did not choose: accuracy did, and where that is the same too, the larger alpha."""

    def decided(accuracy: list[float], robustness: list[float], margin: float = math.inf) -> tuple[float, str]:
        choice = interval_alpha(curve(GRID[: len(accuracy)], accuracy, robustness, n=16), margin=margin)
        assert f"Every alpha was tried: {choice.decided}. Chosen: alpha {choice.alpha:g}," in choice.explain()
        return choice.alpha, choice.decided

    assert decided([50, 50, 50], [70, 80, 75]) == (0.9, "the most robust of those accepted")
    assert decided([88, 92, 96], [87.5] * 3) == (0.8, "all accepted are equally robust, of these the most accurate")
    assert decided([96] * 3, [87.5] * 3) == (1, "all accepted are equally robust, and equally accurate, of these the largest alpha")
    assert decided([90, 92, 96], [70, 80, 80]) == (0.8, "2 of those accepted are equally the most robust, of these the most accurate")
    told = "3 of those accepted are equally the most robust, 2 of these equally the most accurate, of these the largest alpha"
    assert decided([50, 52, 54, 54], [70, 80, 80, 80]) == (0.8, told)
    assert decided([90, 70], [70, 80], margin=1) == (1, "no other is accepted")
    assert decided([90], [70]) == (1, "no other alpha was measured")


def test_rules_say_how_ties_are_broken_and_where_they_ended():
    assert "; of equally robust ones the most accurate, of these the largest." in interval_alpha(curve([1], [90], [70], n=9)).explain()
    assert greedy_alpha(curve([1, 0.5], [90, 80], [70, 70])).decided == "accuracy fell too far at alpha 0.5"
    assert greedy_alpha(curve([1, 0.5], [90, 90], [70, 60])).decided == "robustness fell at alpha 0.5"
    assert greedy_alpha(curve([1, 0.5], [90, 90], [70, 70])).decided == "none is refused"
