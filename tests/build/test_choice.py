"""Which alpha is chosen, from rows alone."""

from __future__ import annotations

import dataclasses

import pytest

from wisetune.build.choice import choose
from wisetune.errors import UsageError
from wisetune.records import Record
from wisetune.results import OVER_SEEDS, Row, Variant
from wisetune.stories.story import Story
from wisetune.stories.wise_ft import WiseFt
from wisetune.stories.wise_ft_lp import WiseFtLp


def row(method, alpha, name, right, split="val", seed=0) -> Row:
    n = len(right)
    role = "accuracy" if name == "accuracy" else "robustness"
    record = Record("w", name, "d", "x", split, name, right.count("1") / n, n, 0.0, 1.0, {"right": right}, role=role)
    return Row(method, alpha, seed, record)


def curve(method: str, marks: dict[float, tuple[str, str]], **place) -> list[Row]:
    return [
        row(method, alpha, name, right, **place)
        for alpha, both in marks.items()
        for name, right in zip(("accuracy", "probe accuracy"), both, strict=True)
    ]


MARKS = {0.0: ("0" * 200, "1" * 10), 0.5: ("1" * 199 + "0", "1" * 9 + "0"), 1.0: ("1" * 200, "1" * 5 + "0" * 5)}


def test_the_choice_looks_at_validation_rows_alone():
    rows = curve("wise-ft", MARKS)
    chosen, best = choose(rows, (0,), "interval", WiseFt())
    assert best == Variant("wise-ft", 0.5)
    noise = curve("wise-ft", {alpha: MARKS[1.0 - alpha] for alpha in MARKS}, split="test")
    assert choose([*noise, *rows, *noise], (0,), "interval", WiseFt()) == (chosen, best)


def test_the_rule_decides():
    rows = curve("wise-ft", MARKS)
    # Greedy: 1 of 200 wrong is half a point, more than the tenth that it tolerates.
    assert choose(rows, (0,), "greedy", WiseFt())[1] == Variant("wise-ft", 1.0)
    assert choose(rows, (0,), "interval", WiseFt())[1] == Variant("wise-ft", 0.5)
    assert choose(rows, (0,), "greedy", WiseFt())[0] == choose(rows, (0,), "interval", WiseFt())[0]


def test_robustness_is_the_mean_over_probes():
    rows = curve("wise-ft", MARKS)
    against = [row("wise-ft", alpha, "probe accuracy", right) for alpha, right in ((0.0, "0000"), (0.5, "0000"), (1.0, "1111"))]
    assert choose([*rows, *against], (0,), "interval", WiseFt())[1] == Variant("wise-ft", 1.0)


def test_wise_ft_lp_is_recommended_before_wise_ft():
    rows = [*curve("wise-ft-lp", MARKS), *curve("wise-ft", MARKS)]
    chosen, best = choose(rows, (0,), "interval", WiseFtLp())
    assert best == Variant("wise-ft-lp", 0.5)
    assert [choice.method for choice in chosen] == ["wise-ft-lp"] * 2 + ["wise-ft"] * 2


class Ewc(Story):
    """A story from elsewhere, about another method than the last of its rows."""

    headline = "ewc"


def test_without_a_sweep_the_story_says_what_is_recommended():
    rows = [row(name, None, "accuracy", "1100") for name in ("ewc", "lp")]
    assert choose(rows, (0,), "interval", Ewc()) == ([], Variant("ewc"))
    with pytest.raises(UsageError, match="is about 'ewc', but its methods are lp"):
        choose(rows[1:], (0,), "interval", Ewc())


def test_without_a_probe_the_end_of_the_sweep_is_recommended():
    rows = [one for one in curve("wise-ft", MARKS) if one.record.role == "accuracy"]
    assert choose(rows, (0,), "interval", WiseFt()) == ([], Variant("wise-ft", 1.0))


def test_seeds_are_pooled():
    other = {0.0: MARKS[0.0], 0.5: ("0" * 200, "1" * 10), 1.0: MARKS[1.0]}
    rows = [*curve("wise-ft", MARKS), *curve("wise-ft", other, seed=1)]
    chosen, best = choose(rows, (0, 1), "interval", WiseFt())
    assert {choice.seed: choice.alpha for choice in chosen} == {0: 0.5, 1: 1.0, OVER_SEEDS: 1.0}
    assert best == Variant("wise-ft", 1.0)
    # A seed without its rows makes no choice for all.
    assert choose(curve("wise-ft", MARKS), (0, 1), "interval", WiseFt())[0] == []


def test_a_seed_copied_three_times_chooses_as_one():
    """More seeds do not make more validation clouds: a loss that one seed does not show, its copies do not either."""
    marks = {0.5: ("1" * 160 + "0" * 40, "1" * 10), 1.0: ("1" * 156 + "0" * 6 + "1" * 6 + "0" * 32, "1" * 5 + "0" * 5)}
    marks[0.5] = ("1" * 156 + "0" * 8 + "1" * 2 + "0" * 34, marks[0.5][1])
    once = choose(curve("wise-ft", marks), (0,), "interval", WiseFt())
    thrice = choose([row for seed in range(3) for row in curve("wise-ft", marks, seed=seed)], (0, 1, 2), "interval", WiseFt())
    assert thrice[1] == once[1]
    of_one, of_all = once[0][1].steps, thrice[0][-1].steps
    assert thrice[0][-1].seed == OVER_SEEDS
    assert of_all == of_one


def test_any_measure_of_that_role_joins_the_choice():
    rows = curve("wise-ft", MARKS)
    other = [row("wise-ft", alpha, "my few-shot", right) for alpha, right in ((0.0, "0000"), (0.5, "0000"), (1.0, "1111"))]
    assert choose([*rows, *other], (0,), "interval", WiseFt())[1] == Variant("wise-ft", 1.0)
    unsaid = [dataclasses.replace(one, record=dataclasses.replace(one.record, role="")) for one in other]
    assert choose([*rows, *unsaid], (0,), "interval", WiseFt()) == choose(rows, (0,), "interval", WiseFt())


def test_scans_of_few_objects_show_less():
    """A loss that is sure of so many clouds, and not of their few objects."""
    marks = {0.5: ("1" * 188 + "0" * 12, "1" * 10), 1.0: ("1" * 190 + "0" * 10, "1" * 5 + "0" * 5)}

    def shown(groups: list[int] | None) -> float:
        rows = curve("wise-ft", marks)
        detail = {} if groups is None else {"objects": groups}
        rows = [
            dataclasses.replace(one, record=dataclasses.replace(one.record, detail=one.record.detail | detail)) for one in rows[::2]
        ] + rows[1::2]
        (step,) = choose(rows, (0,), "interval", WiseFt())[0][1].steps
        return step.change_high - step.change_low

    assert shown([at // 10 for at in range(200)]) > shown(None)
