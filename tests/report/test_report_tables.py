from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest
from studies import ALPHAS, CLASSES, KINDS, TEST, VAL, bare, placed, recommended, record, study, unchosen, unswept

from wisetune.records import (
    Record,
    difference_interval,
    interval_over_seeds,
    mean_interval,
    mean_over_seeds,
    paired_difference,
    wilson,
)
from wisetune.report import Table, all_tables, summary, words
from wisetune.report.board import ACCURACY, ROBUSTNESS, Board, Estimate, difference_of, over_seeds
from wisetune.report.rival import judged
from wisetune.report.write import csv_text
from wisetune.results import Chosen, Results, Row, Step, Variant


def results(rows: list[Row], chosen: list[Chosen] | None = None) -> Results:
    return Results(bare(), {}, rows, chosen or [], [], {}, {})


def table(found: Results, name: str) -> Table:
    return next(one for one in all_tables(found) if one.name == name)


def test_numbers_are_spelled_in_one_way() -> None:
    assert words.interval(0.762, 0.7302, 0.79096) == "76.2 (73.0–79.1)"
    assert words.interval(0.762, 0.7302, 0.79096, "%") == "76.2\u00a0% (73.0–79.1)"
    assert words.interval(0.5, None, None) == "50.0"
    assert words.percent(None) == words.percent(float("nan")) == "–"
    assert words.difference(0.007, -0.01, 0.0241) == "+0.7 (−1.0 to +2.4)"
    assert [words.points(value) for value in (-0.0004, 0.0004, -0.01)] == ["0.0", "0.0", "−1.0"]
    assert [words.duration(seconds) for seconds in (89.4, 89.6, 5369, 5399)] == [
        "89\u00a0s",
        "1\u00a0min",
        "89\u00a0min",
        "1\u00a0h\u00a030\u00a0min",
    ]
    assert words.joined(["a", "b", "c"]) == "a, b and c"
    assert (words.capital("full: so"), words.capital("my_lab.gains:Gains has")) == ("Full: so", "my_lab.gains:Gains has")
    assert (words.counted(1, "seed"), words.counted(12, "class")) == ("1 seed", "12 classes")
    assert Board(study((0,))).called("wise-ft-lp", 0.30) == "WiSE-FT-LP at α\u00a0=\u00a00.3"


def test_one_seed_keeps_the_interval_of_the_items() -> None:
    board = Board(results([Row("ft", None, 0, record("accuracy", 0.75, 100))]))
    found = board.mean(ACCURACY, board.fixed("ft"))
    assert found is not None
    assert (found.value, found.low, found.high) == (0.75, *wilson(75, 100))
    assert (found.sd, found.seeds, found.n) == (None, 1, 100)


def test_several_seeds_give_mean_sd_and_the_wider_interval() -> None:
    values = (0.70, 0.75, 0.83)
    board = Board(results([Row("ft", None, seed, record("accuracy", value, 100)) for seed, value in enumerate(values)]))
    found = board.mean(ACCURACY, board.fixed("ft"))
    mean, sd = mean_over_seeds(values)
    assert found is not None
    assert (found.value, found.sd, found.seeds) == (mean, sd, 3)
    assert (found.low, found.high) == interval_over_seeds(values)  # 8 points to each side, the items' are 9 to 8 wide
    agreeing = Board(results([Row("ft", None, seed, record("accuracy", 0.75, 100)) for seed in range(3)]))
    found = agreeing.mean(ACCURACY, agreeing.fixed("ft"))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(wilson(75, 100))


def test_two_seeds_keep_the_interval_of_the_items_and_show_both_values() -> None:
    """One degree of freedom made 0.0 to 100.0 of 98.0 and 93.0, and -100 to +100 of their difference."""
    ours, theirs = (0.98, 0.93), (0.90, 0.91)
    rows = [placed("wise-ft-lp", 0.5, seed, record("accuracy", value, 200)) for seed, value in enumerate(ours)]
    rows += [placed("ft", None, seed, record("accuracy", value, 200)) for seed, value in enumerate(theirs)]
    board = Board(results(rows))
    found = board.mean(ACCURACY, board.fixed("wise-ft-lp", 0.5))
    assert found is not None
    assert (found.seeds, found.sd) == (2, pytest.approx(0.05 / 2**0.5))
    items = [wilson(200 * value, 200) for value in ours]
    assert (found.low, found.high) == pytest.approx([(items[0][end] + items[1][end]) / 2 for end in (0, 1)])
    assert words.spread(found.value, found.sd, found.seeds) == "seeds 93.0–98.0"
    gain = board.difference(ACCURACY, board.fixed("wise-ft-lp", 0.5), board.fixed("ft"))
    assert gain is not None
    pairs = [difference_of([record("accuracy", a, 200)], [record("accuracy", b, 200)]) for a, b in zip(ours, theirs, strict=True)]
    assert (gain.low, gain.high) == pytest.approx([(getattr(pairs[0], end) + getattr(pairs[1], end)) / 2 for end in ("low", "high")])
    (note,) = summary(board.results)["notes"]
    assert note.startswith("Two seeds: how far another seed would be from them is not known")


def test_robustness_is_the_mean_of_the_probes_and_missing_when_one_is() -> None:
    probes = {"a": 0.9, "b": 0.5}
    rows = [Row("wise-ft", 0.5, 0, record("probe accuracy", value, 100, data=data)) for data, value in probes.items()]
    rows.append(Row("wise-ft", 1.0, 0, record("probe accuracy", 0.8, 100, data="a")))
    board = Board(results(rows))
    found = board.mean(ROBUSTNESS, board.fixed("wise-ft", 0.5))
    assert found is not None
    down = [value - wilson(100 * value, 100)[0] for value in probes.values()]
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - (down[0] ** 2 + down[1] ** 2) ** 0.5 / 2)
    assert found.n == 200
    assert board.mean(ROBUSTNESS, board.fixed("wise-ft", 1.0)) is None


@pytest.mark.parametrize("baseline_first", [True, False])
def test_the_end_of_a_curve_is_no_baseline_unless_its_weights_are_equal(baseline_first: bool) -> None:
    """At alpha 0 a backbone with a class token, or a warm head, is not that of linear probing."""
    probing = dataclasses.replace(record("accuracy", 0.8, 100), weights="probed start")
    end = dataclasses.replace(record("accuracy", 0.5, 100), weights="mixed")
    tuned = dataclasses.replace(record("accuracy", 0.7, 100), weights="tuned")
    rows = [Row("lp", None, 0, probing), Row("wise-ft-lp", 0.0, 0, end), Row("ft", None, 0, tuned), Row("wise-ft", 1.0, 0, tuned)]
    found = results(rows if baseline_first else rows[::-1])
    assert {row["method"]: row["accuracy"] for row in table(found, "baselines").rows} == {"lp": 0.8, "ft": 0.7}
    sweep = {(row["method"], row["alpha"]): row for row in table(found, "sweep").rows}
    assert sweep["wise-ft-lp", 0.0]["accuracy"] == 0.5
    assert sweep["wise-ft-lp", 0.0]["accuracy_gain"] == pytest.approx(-0.2)
    assert sweep["wise-ft", 1.0]["accuracy_gain"] is None  # full fine-tuning itself
    board = Board(found)
    assert board.same(("wise-ft", 1.0), ("ft", None), 0)
    assert not board.same(("wise-ft-lp", 0.0), ("lp", None), 0)


def test_differences_are_paired_by_seed() -> None:
    pairs = [(0.75, 0.70), (0.80, 0.76), (0.71, 0.65)]
    rows = [placed("wise-ft-lp", 0.5, seed, record("accuracy", ours, 100)) for seed, (ours, _) in enumerate(pairs)]
    rows += [placed("ft", None, seed, record("accuracy", theirs, 100)) for seed, (_, theirs) in enumerate(pairs)]
    row = table(results(rows), "sweep").rows[0]
    gains = [0.05, 0.04, 0.06]
    expected = [*mean_over_seeds(gains), *(interval_over_seeds(gains) or ())]
    assert [row[f"accuracy_gain{end}"] for end in ("", "_sd", "_low", "_high")] == pytest.approx(expected)


@pytest.mark.parametrize("paired", [True, False])
def test_the_difference_of_one_seed_is_paired_by_item_where_items_are_known(paired: bool) -> None:
    ours, theirs = "1" * 70 + "0" * 30, "1" * 60 + "0" * 40
    details = [{"right": right} if paired else {} for right in (ours, theirs)]
    rows = [
        placed("wise-ft-lp", 0.5, 0, record("accuracy", 0.7, 100, **details[0])),
        placed("ft", None, 0, record("accuracy", 0.6, 100, **details[1])),
    ]
    row = table(results(rows), "sweep").rows[0]
    exact = paired_difference([x == "1" for x in ours], [x == "1" for x in theirs])
    apart = (0.7 - 0.6, *difference_interval(0.7, wilson(70, 100), 0.6, wilson(60, 100)))
    assert [row[f"accuracy_gain{end}"] for end in ("", "_low", "_high")] == pytest.approx(exact if paired else apart)


def test_the_sweep_holds_every_alpha_of_both_methods_on_both_splits() -> None:
    found = table(study(), "sweep")
    assert [(row["split"], row["method"], row["alpha"]) for row in found.rows] == [
        (split, method, alpha) for split in ("test", "val") for method in ("wise-ft-lp", "wise-ft") for alpha in ALPHAS
    ]
    assert all(tuple(row) == found.columns for row in found.rows)
    ends = [row for row in found.rows if row["alpha"] == 1.0]
    assert all(row["robustness_gain"] is None for row in ends)  # the same backbone as full fine-tuning


def test_all_tables_have_fixed_columns_and_survive_json() -> None:
    for found in (study(), study((0,), probes=False, corruptions=False, clouds=False), results([])):
        for one in all_tables(found):
            assert all(set(row) == set(one.columns) for row in one.rows), one.name
            assert json.loads(json.dumps(one.to_json()))["columns"] == list(one.columns)


def test_the_chosen_model_is_the_recommended_one() -> None:
    made = study()
    assert Board(made).chosen() == dict.fromkeys((0, 1, 2), ("wise-ft-lp", 0.4))
    assert summary(made)["alpha"] == dict.fromkeys("012", 0.4)
    assert table(made, "corruptions").rows[0]["method"] == "chosen"
    assert {row["seeds"] for row in table(made, "corruptions").rows} == {3}
    assert {(row["method"], row["alpha"]) for row in table(made, "confusion").rows} == {("chosen", None)}


def test_without_a_recommendation_a_choice_on_all_seeds_counts() -> None:
    made = study()
    made = dataclasses.replace(
        made, study=bare(), chosen=[dataclasses.replace(one, alpha=0.6) if one.seed == -1 else one for one in made.chosen]
    )
    assert Board(made).chosen() == dict.fromkeys((0, 1, 2), ("wise-ft-lp", 0.6))
    alls = [row for row in table(made, "chosen").rows if row["seed"] == "all"]
    assert [(row["method"], row["rule"], row["seeds"]) for row in alls] == [("wise-ft-lp", "greedy", 3), ("wise-ft", "greedy", 3)]


def test_without_that_the_chosen_model_follows_each_seed() -> None:
    made = study()
    made = dataclasses.replace(made, study=bare(), chosen=[one for one in made.chosen if one.seed >= 0])
    assert Board(made).chosen() == {0: ("wise-ft-lp", 0.4), 1: ("wise-ft-lp", 0.3), 2: ("wise-ft-lp", 0.4)}
    rows = {
        (row.method, row.alpha, row.seed): row.record.value
        for row in made.rows
        if row.record.name == "accuracy" and row.record.split == "test"
    }
    mean = sum(rows["wise-ft-lp", alpha, seed] for seed, alpha in ((0, 0.4), (1, 0.3), (2, 0.4))) / 3
    assert summary(made)["after"]["accuracy"]["value"] == pytest.approx(mean)
    assert "0.3–0.4" in summary(made)["sentences"][0]


def test_the_rule_of_the_study_decides() -> None:
    made = study((0,))
    made = dataclasses.replace(made, study=dataclasses.replace(made.study, rule="interval", recommended=None))
    assert summary(made)["alpha"] == {"0": 0.2}
    assert "interval rule" in summary(made)["sentences"][-1]


def test_a_model_measured_twice_counts_once() -> None:
    rows = [Row("ft", None, 0, record("corrupted accuracy", 0.5, 100, kind="jitter", level=1))] * 2
    assert table(results(rows), "corruptions").rows[0]["seeds"] == 1


def test_clean_clouds_are_no_corruption() -> None:
    made = study((0,))
    assert {row["kind"] for row in table(made, "corruptions").rows} == set(KINDS)
    summed = {row["method"]: row for row in table(made, "corruption_summary").rows}
    assert summed["chosen"]["cells"] == 35
    assert summed["chosen"]["clean"] == pytest.approx(0.772, abs=1e-3)  # of the same clouds, not of the whole split


def marked(name: str, right: str, data: str = "demo:scans", measure: str = "accuracy", **detail: Any) -> Record:
    groups = detail.get("objects")
    found = record(name, right.count("1") / len(right), len(right), data=data, measure=measure, right=right, **detail)
    if groups is None:
        return found
    low, high = mean_interval(list(map(int, right)), groups)
    return dataclasses.replace(found, low=low, high=high, objects=len(set(groups)))


def test_probes_of_the_same_clouds_share_their_luck() -> None:
    rng = np.random.default_rng(0)
    answers = ["".join(rng.choice(["0", "1"], 200, p=[0.3, 0.7])) for _ in range(2)]

    def width(*probes: Record) -> float:
        board = Board(results([placed("ft", None, 0, probe) for probe in probes]))
        found = board.mean(ROBUSTNESS, board.fixed("ft"))
        assert found is not None
        assert found.n == 200 * len({probe.data for probe in probes})
        return found.high - found.low

    one = width(marked("probe accuracy", answers[0], measure="svm:c=cv"))
    again = width(*(marked("probe accuracy", answers[0], measure=f"svm:c={c}") for c in ("cv", "0.01")))
    assert again == pytest.approx(one)
    # On other clouds a second probe does say more.
    apart = width(marked("probe accuracy", answers[0], "a"), marked("probe accuracy", answers[1], "b"))
    assert apart < 0.8 * one


def test_two_probes_of_one_set_differ_from_fine_tuning_no_surer_than_one() -> None:
    ours, theirs = "1" * 150 + "0" * 50, "1" * 130 + "0" * 70

    def gain(*measures: str) -> list[float]:
        rows = [placed("ft", None, 0, marked("accuracy", theirs)), placed("lp", None, 0, marked("accuracy", ours))]
        for measure in measures:
            rows += [
                placed("lp", None, 0, marked("probe accuracy", ours, "x", measure)),
                placed("ft", None, 0, marked("probe accuracy", theirs, "x", measure)),
            ]
        row = next(row for row in table(results(rows), "baselines").rows if row["method"] == "lp")
        return [row[f"robustness_gain{end}"] for end in ("", "_low", "_high")]

    assert gain("svm:c=cv", "svm:c=0.01") == pytest.approx(gain("svm:c=cv"))


def test_the_mean_over_corruptions_has_an_interval_over_clouds() -> None:
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.2, 1.0, 100)
    cells = [
        marked("corrupted accuracy", "".join("1" if one else "0" for one in rng.random(100) < hard), kind=kind, level=level)
        for kind in KINDS
        for level in range(1, 6)
    ]
    clean = marked("corrupted accuracy", "1" * 90 + "0" * 10, kind="clean", level=0)
    (row,) = table(results([placed("ft", None, 0, one) for one in (*cells, clean)]), "corruption_summary").rows
    each = np.mean([[int(mark) for mark in cell.detail["right"]] for cell in cells], axis=0)
    assert (row["corrupted"], row["cells"], row["n"]) == (pytest.approx(each.mean()), 35, 100)
    assert (row["corrupted_low"], row["corrupted_high"]) == pytest.approx(mean_interval(each.tolist()))
    assert (row["corrupted_high"] - row["corrupted_low"]) / 2 == pytest.approx(1.984 * each.std(ddof=1) / 10, rel=0.02)
    assert row["lost_low"] < row["lost"] < row["lost_high"]
    assert row["lost"] == pytest.approx(0.9 - each.mean())


def test_both_counts_are_told_and_intervals_are_over_objects() -> None:
    right, owners = "1" * 60 + "0" * 40, [at // 5 for at in range(100)]
    detail = {"confusion": [[60, 40], [0, 0]], "classes": ["a", "b"]}
    by_class = {"class_objects": {"a": 20}, "class_intervals": {"a": (0.4, 0.77)}}
    rows = [
        placed("ft", None, 0, marked("accuracy", right, objects=owners, **detail)),
        placed("ft", None, 0, record("class-mean accuracy", 0.6, 100, **by_class)),
        placed("lp", None, 0, marked("accuracy", "1" * 50 + "0" * 50, objects=owners)),
    ]
    found = results(rows)
    tuned, probed = table(found, "baselines").rows
    assert (tuned["n"], tuned["objects"]) == (100, 20)
    assert (tuned["accuracy_low"], tuned["accuracy_high"]) == mean_interval(list(map(int, right)), owners)
    assert tuned["accuracy_high"] - tuned["accuracy_low"] > 2 * (wilson(60, 100)[1] - wilson(60, 100)[0]) * 0.9
    _, low, high = paired_difference(list(map(int, "1" * 50 + "0" * 50)), list(map(int, right)), groups=owners)
    assert (probed["accuracy_gain_low"], probed["accuracy_gain_high"]) == pytest.approx((low, high))
    one = table(found, "classes").rows[0]
    assert (one["n"], one["objects"], one["found_low"], one["found_high"]) == (100, 20, 0.4, 0.77)
    assert summary(found)["before"]["accuracy"]["objects"] == 20
    assert "accuracy over 100 clouds of 20 objects." in summary(found)["sentences"][-1]
    assert words.clouds(570, 84) == "570 clouds of 84 objects"
    assert words.clouds(570, None) == "570 clouds"


def test_alpha_zero_chosen_shows_what_was_measured_of_linear_probing() -> None:
    rows = [placed("lp", None, 0, record("corrupted accuracy", 0.5, 100, kind="jitter", level=level)) for level in range(5)]
    rows += [placed(*place, 0, record("accuracy", 0.6, 100)) for place in (("lp", None), ("wise-ft-lp", 0.0))]
    found = results(rows, [Chosen("wise-ft-lp", "greedy", 0, 0.0, "end of grid", "", [])])
    assert {row["method"] for row in table(found, "corruptions").rows} == {"chosen", "lp"}
    summed = table(found, "corruption_summary").rows[0]
    assert (summed["method"], summed["clean"], summed["corrupted"], summed["cells"]) == ("chosen", 0.6, 0.5, 5)
    assert (summed["lost"], summed["lost_low"]) == (pytest.approx(0.1), None)


def test_corruptions_by_kind_and_level() -> None:
    found = table(study((0,)), "corruptions")
    ours = [(row["kind"], row["level"]) for row in found.rows if row["method"] == "ft"]
    assert ours == [(kind, level) for kind in KINDS for level in range(1, 6)]


def test_classes_from_a_confusion_matrix() -> None:
    detail = {"confusion": [[6, 3, 1], [0, 10, 0], [0, 0, 0]], "classes": ["a", "b", "c"]}
    rows = [Row("ft", None, seed, record("accuracy", 0.8, 20, **detail)) for seed in (0, 1)]
    a, b, c = table(results(rows), "classes").rows
    assert (a["n"], a["found"], a["precision"], a["taken_for"], a["taken_for_count"]) == (10, 0.6, 1.0, "b", 6)
    assert (a["found_low"], a["found_high"]) == wilson(6, 10)  # two seeds, but ten items
    assert (b["found"], b["precision"], b["taken_for"]) == (1.0, pytest.approx(20 / 26), None)
    assert (c["n"], c["found"], c["found_low"], c["precision"]) == (0, None, None, 0.0)
    counts = [row["count"] for row in table(results(rows), "confusion").rows]
    assert counts == [12, 6, 2, 0, 20, 0, 0, 0, 0]


def test_summary_says_what_was_selected_on_what() -> None:
    found = summary(study((0,)))
    assert (found["selected_on"], found["shown_on"], found["rule"], found["alpha"]) == ("val", "test", "greedy", {"0": 0.4})
    assert found["before"]["accuracy"]["n"] == TEST
    assert found["gain"]["robustness"]["value"] == pytest.approx(
        found["after"]["robustness"]["value"] - found["before"]["robustness"]["value"]
    )
    assert "validation" in found["sentences"][-1]
    assert "test split" in found["sentences"][-1]
    assert any("One seed" in note for note in found["notes"])
    assert not summary(study())["notes"]
    json.dumps(found)


def test_summary_without_a_sweep_is_about_its_model() -> None:
    found = summary(unswept("lp-ft", "lp"))
    assert (found["method"], found["rule"], found["alpha"]) == ("lp-ft", None, {})
    assert found["sentences"][0] == found["conclusion"]
    assert found["sentences"][1].startswith("LP-FT has an accuracy of 7")
    assert "; linear probing has an accuracy of" in found["sentences"][1]
    assert found["sentences"][2].startswith("Against linear probing LP-FT has ")
    assert found["sentences"][3].startswith("Every number here is from the test split, accuracy over 804 clouds")
    assert found["gain"]["accuracy"]["value"] == pytest.approx(found["after"]["accuracy"]["value"] - found["before"]["accuracy"]["value"])


def test_summary_of_the_reference_itself_compares_nothing() -> None:
    found = summary(unswept("ft", "ft"))
    assert found["after"] == found["before"]
    assert found["gain"] == {"accuracy": None, "robustness": None, "corruption": None}
    assert found["conclusion"] == ""
    only, corrupted, where = found["sentences"]
    assert corrupted.startswith("Under corruption (the mean of 35 corruptions of 804 clouds) full fine-tuning has an accuracy of ")
    assert only.startswith("Full fine-tuning has an accuracy of ")
    assert ";" not in only
    assert where.startswith("Every number here is from the test split")


@pytest.mark.parametrize("probes", [True, False])
def test_the_end_of_the_curve_is_not_compared_with_itself(probes: bool) -> None:
    """WiSE-FT at alpha 1 is full fine-tuning by another name: the same weights."""
    made = recommended("wise-ft", 1.0, probes=probes)
    found = summary(made)
    assert found["gain"] == {"accuracy": None, "robustness": None, "corruption": None}
    _, first, _, itself, *_ = found["sentences"]
    assert first.startswith("WiSE-FT at α\u00a0=\u00a01 has an accuracy of ")
    assert ";" not in first
    assert itself == "WiSE-FT at α\u00a0=\u00a01 is full fine-tuning itself, which needs no sweep."


def test_robustness_of_one_backbone_is_not_compared_with_itself() -> None:
    """WiSE-FT-LP at alpha 1 has a head of its own on the fine-tuned backbone."""
    made = recommended("wise-ft-lp", 1.0)
    found, (row,) = summary(made), [row for row in table(made, "sweep").rows if row["alpha"] == 1 and _is_shown(row, "wise-ft-lp")]
    assert (found["gain"]["robustness"], row["robustness_gain"]) == (None, None)
    assert found["gain"]["accuracy"]["value"] == row["accuracy_gain"]
    assert "points of robustness" not in found["sentences"][2]
    assert found["sentences"][2].endswith("; both have the same backbone.")


def _is_shown(row: dict[str, Any], method: str) -> bool:
    return (row["method"], row["split"]) == (method, "test")


def duel(ours: tuple[float, float], *, val: bool = True, **baselines: tuple[float, float, float, float]) -> dict[str, Any]:
    """The summary of a model at alpha 0.5 with this accuracy and robustness, beside baselines with theirs on test and, if ``val``, on val."""
    rows = []
    named = {"wise-ft-lp": (*ours, *ours), "ft": (0.5, 0.5, 0.5, 0.5)} | {
        name.replace("_", "-"): found for name, found in baselines.items()
    }
    for method, (accuracy, robustness, *on_val) in named.items():
        alpha = 0.5 if method == "wise-ft-lp" else None
        for split, pair in (("test", (accuracy, robustness)), *([("val", on_val)] if val else [])):
            for name, value in zip(("accuracy", "probe accuracy"), pair, strict=True):
                right = "1" * round(400 * value) + "0" * (400 - round(400 * value))
                measure = "accuracy" if name == "accuracy" else "svm:on=[demo:objects]"
                rows.append(placed(method, alpha, 0, record(name, value, 400, split, measure, right=right)))
    said = bare(recommended=Variant("wise-ft-lp", 0.5))
    return summary(dataclasses.replace(results(rows), study=said))


def test_a_baseline_that_is_as_good_in_both_is_advised_where_validation_says_so_too() -> None:
    found = duel((0.980, 0.627), lp=(0.983, 0.65, 0.983, 0.65))
    assert (found["rival"]["method"], found["rival"]["dominates"], found["rival"]["on_val"]) == ("lp", True, True)
    conclusion, *rest = found["sentences"]
    assert conclusion.startswith(
        "Take linear probing rather than WiSE-FT-LP at α\u00a0=\u00a00.5: accuracy and robustness of linear probing are on average no lower on the "
        "test and the validation split, and linear probing costs less. A gain of robustness (+2.2 points) over "
        "WiSE-FT-LP at α\u00a0=\u00a00.5 is shown. Of linear probing against full fine-tuning a gain of accuracy (+48.2 points) and "
        "robustness (+15.0 points) is shown. "
        "That is of these models: train with at least 3 seeds"
    )
    (said,) = [one for one in rest if "linear probing" in one.lower()]
    assert said.startswith(
        "Linear probing is as good or better in both, here (98.2\u00a0% and 65.0\u00a0%) and on the validation split, and linear probing costs less. "
        "Against linear probing WiSE-FT-LP has −0.2 (−"
    )
    assert found["rival"]["gain"]["robustness"]["text"] in said
    assert "points of accuracy (no difference shown) and −2.2 (" in said
    assert said.endswith("points of robustness (a loss for these models).")


def test_a_baseline_that_is_as_good_on_test_alone_is_not_advised() -> None:
    found = duel((0.90, 0.60), lp=(0.91, 0.61, 0.85, 0.61))
    assert (found["rival"]["dominates"], found["rival"]["on_val"]) == (True, False)
    said = " ".join(found["sentences"])
    assert "but not on the validation split: that may be the luck of these scans. Against linear probing" in said
    assert not found["conclusion"].startswith("Take linear probing")


def test_of_several_that_dominate_the_best_is_compared_and_the_others_are_named() -> None:
    found = duel((0.90, 0.60), lp=(0.91, 0.61, 0.91, 0.61), lp_ft=(0.92, 0.62, 0.92, 0.62))
    assert found["rival"]["method"] == "lp-ft"
    assert any(
        "LP-FT is as good or better in both, here " in one and ", as is linear probing, and LP-FT costs less." in one
        for one in found["sentences"]
    )


def test_a_baseline_that_is_as_good_on_both_splits_goes_before_one_that_is_better_on_test_alone() -> None:
    found = duel((0.90, 0.60), lp=(0.91, 0.61, 0.91, 0.61), lp_ft=(0.95, 0.65, 0.80, 0.65))
    assert (found["rival"]["method"], found["rival"]["on_val"]) == ("lp", True)
    assert any(one.startswith("Linear probing is as good or better in both, here ") for one in found["sentences"])
    assert not any("LP-FT" in one.replace("WiSE-FT-LP", "") for one in found["sentences"])


def test_others_are_named_only_where_they_are_as_good_on_the_splits_that_are_told() -> None:
    found = duel((0.90, 0.60), lp=(0.91, 0.61, 0.80, 0.61), lp_ft=(0.92, 0.62, 0.92, 0.62), ft_low_lr=(0.93, 0.63, 0.90, 0.60))
    (said,) = [one for one in found["sentences"] if one.startswith("LP-FT is as good or better")]
    assert "and on the validation split, as is fine-tuning, low rate, and LP-FT costs less" in said
    assert "linear probing" not in said


def test_without_validation_data_it_is_not_said_that_they_are_against_it() -> None:
    found = duel((0.90, 0.60), val=False, lp=(0.91, 0.61, 0.0, 0.0), lp_ft=(0.92, 0.62, 0.0, 0.0))
    assert (found["rival"]["method"], found["rival"]["dominates"], found["rival"]["on_val"]) == ("lp-ft", True, None)
    said = " ".join(found["sentences"])
    assert ", as is linear probing; without validation data it is not known whether that is the luck of these scans. Against LP-FT" in said
    assert "not on the validation split" not in said
    assert "Take LP-FT" not in said


def test_what_all_are_compared_with_is_compared_once() -> None:
    found = duel((0.90, 0.60), ft=(0.91, 0.61, 0.91, 0.61))
    assert found["rival"]["method"] == "ft"
    assert sum(found["gain"]["accuracy"]["text"] in one for one in found["sentences"]) == 1
    assert found["conclusion"].startswith("Take full fine-tuning rather than WiSE-FT-LP at")
    assert any(one.endswith("and on the validation split, and full fine-tuning costs less.") for one in found["sentences"])


def test_of_several_that_dominate_on_both_splits_validation_picks() -> None:
    found = duel((0.90, 0.60), lp=(0.91, 0.61, 0.93, 0.63), lp_ft=(0.95, 0.65, 0.92, 0.62))
    assert found["rival"]["method"] == "lp"


def test_of_baselines_that_are_behind_in_something_the_best_is_compared() -> None:
    found = duel((0.90, 0.60), lp=(0.80, 0.65, 0.80, 0.65), lp_ft=(0.85, 0.50, 0.85, 0.50))
    assert (found["rival"]["method"], found["rival"]["dominates"]) == ("lp", False)
    assert found["conclusion"].startswith(
        "Take WiSE-FT-LP at α\u00a0=\u00a00.5 rather than full fine-tuning: a gain of accuracy (+40.0 points) and robustness (+10.0 points) is shown. "
    )
    (said,) = [one for one in found["sentences"][1:] if "linear probing" in one]
    assert said.startswith(
        "No baseline is as good in both; the best other one is linear probing (80.0\u00a0% and 65.0\u00a0%). Against linear probing "
    )
    assert "+10.0 (" in said
    assert "points of accuracy (a gain for these models) and −5.0 (" in said


def test_a_gain_of_fewer_than_three_seeds_is_one_of_these_models_and_two_that_disagree_show_none() -> None:
    def of(*values: float) -> str:
        found = over_seeds([Estimate(value, value - 0.03, value + 0.03, 400) for value in values], -1.0)
        assert found is not None
        return judged(found)

    assert of(0.08) == of(0.08, 0.02) == "a gain for these models"
    assert of(-0.08) == of(-0.08, -0.02) == "a loss for these models"
    assert of(0.08, -0.007) == of(-0.08, 0.007) == of(0.02, 0.01) == "no difference shown"
    assert (of(0.08, 0.081, 0.082), of(-0.08, -0.081, -0.082)) == ("a gain", "a loss")


def test_linear_probing_chosen_as_alpha_zero_is_called_so() -> None:
    found = summary(recommended("wise-ft-lp", 0.0))
    assert "WiSE-FT-LP at α\u00a0=\u00a00 is linear probing itself, which needs no sweep." in found["sentences"]


def test_robustness_is_said_to_be_what_it_is() -> None:
    assert (
        "Robustness is the mean accuracy of a linear SVM on the backbone's features of demo:objects (600 clouds) and folder:shapes (600 clouds)."
        in (summary(study())["sentences"][-1])
    )
    assert "Robustness" not in summary(study(probes=False))["sentences"][-1]


def test_summary_of_a_sweep_without_a_choice_says_so() -> None:
    found = summary(unchosen())
    assert (found["selected_on"], found["rule"], found["alpha"]) == (None, None, {"0": 1.0})
    assert found["sentences"][1].startswith("WiSE-FT-LP at α\u00a0=\u00a01 has an accuracy of")
    assert found["sentences"][-1].startswith("No alpha was chosen; every number here is from the test split")


@pytest.mark.parametrize("method", ["wise-ft-lp", "wise-ft"])
def test_the_recommended_model_stands_above_the_baselines_though_no_rule_chose_it(method: str) -> None:
    made = recommended(method, 0.5)
    found = table(made, "baselines")
    first, *others = found.rows
    assert (first["method"], first["rule"], first["alphas"]) == (method, None, [0.5])
    assert first["accuracy"] == summary(made)["after"]["accuracy"]["value"]
    assert {row["method"] for row in others} == {"ft", "lp", "lp-ft", "ft-low-lr"}
    assert not any(row["alphas"] for row in others)
    assert (found.heading, found.title) == ("Models", "Models, test split")


def test_a_recommended_model_that_a_rule_chose_or_that_is_a_baseline_stands_once() -> None:
    assert [row["rule"] for row in table(study((0,)), "baselines").rows[:5]] == ["greedy", "interval", "greedy", "interval", None]
    assert [row["method"] for row in table(unswept("lp-ft", "lp"), "baselines").rows] == ["lp-ft", "lp"]


def test_summary_of_little() -> None:
    assert "nothing to recommend" in summary(results([]))["sentences"][0]
    only_val = results([Row("ft", None, 0, record("accuracy", 0.7, 100, "val"))])
    assert any("no test split" in note for note in summary(only_val)["notes"])


def test_without_a_test_part_of_the_task_its_validation_is_shown_whatever_the_probes_have() -> None:
    made = study((0,))
    rows = [row for row in made.rows if row.record.name == "probe accuracy" or row.record.split == "val"]
    found = summary(dataclasses.replace(made, rows=rows))
    assert found["shown_on"] == "val"
    assert found["after"]["accuracy"]["n"] == VAL
    assert found["after"]["robustness"]["value"] == summary(made)["after"]["robustness"]["value"]  # that of the probes' test parts
    (note,) = [note for note in found["notes"] if "no test split" in note]
    assert note.endswith(
        "accuracy is that of the validation split, on which alpha was chosen, and too good; robustness is that of the probes' test parts."
    )
    assert "accuracy is from the validation split, robustness from the probes' test parts" in found["sentences"][-1]
    assert table(dataclasses.replace(made, rows=rows), "baselines").title.endswith("validation split, robustness: test split")


def test_probes_without_a_test_part_show_their_validation() -> None:
    made = study((0,))
    rows = [row for row in made.rows if (row.record.data, row.record.split) != ("folder:shapes", "test")]
    found = summary(dataclasses.replace(made, rows=rows))
    assert (found["shown_on"], found["after"]["accuracy"]["n"]) == ("test", TEST)
    assert found["after"]["robustness"] is not None
    assert any(note.startswith("Not every probe has a test part: robustness is that of their validation parts") for note in found["notes"])


def test_transfer_is_shown_though_the_task_has_no_test_part() -> None:
    made = study((0,))
    rows = [row for row in made.rows if row.record.split == "val" or row.record.name == "transfer accuracy"]
    found = table(dataclasses.replace(made, rows=rows), "transfer")
    assert [row["accuracy"] for row in found.rows] == [0.45, 0.41]
    assert found.title.endswith(", test split")


def voted() -> Results:
    """A study with a vote on both splits."""
    made = study((0,))
    values = (("val", 0.9), ("test", 0.5))
    votes = [placed("ft", None, 0, record("voted accuracy", value, 200, split, "voting:augment=rotate-y")) for split, value in values]
    return dataclasses.replace(made, rows=[*made.rows, *votes])


def test_votes_are_shown_by_model_on_the_split_of_the_page() -> None:
    found = table(voted(), "voting")
    assert [(row["measure"], row["method"], row["accuracy"], row["n"]) for row in found.rows] == [
        ("voting:augment=rotate-y", "ft", 0.5, 200)
    ]
    assert found.title == "Votes: the mean of several looks at a cloud, test split"
    assert table(study((0,)), "voting").rows == []


def test_a_failed_audit_is_a_note() -> None:
    made = dataclasses.replace(study(), audits={"abc": [{"audit": "finite", "ok": False}]})
    assert any("audit" in note and "abc" in note for note in summary(made)["notes"])


def test_csv_keeps_precision_and_defuses_formulas() -> None:
    found = Table("t", "t", ("name", "value", "list", "none"), [{"name": "=cmd()", "value": 1 / 3, "list": [0.3, 0.4], "none": None}])
    (row,) = csv.DictReader(io.StringIO(csv_text(found)))
    assert row == {"name": "'=cmd()", "value": repr(1 / 3), "list": "0.3 0.4", "none": ""}
    assert len(csv_text(table(study((0,)), "classes")).splitlines()) == len(CLASSES) + 1


@pytest.mark.parametrize("rule", ["greedy", "interval"])
def test_robustness_that_is_the_same_everywhere_is_said_to_have_had_no_say(rule: str) -> None:
    """Of all alphas, or of those that the interval rule accepts; not where one of them differs, nor for what the test split shows."""

    def told(apart: float | None, split: str = "val", accepted: bool = True) -> str:
        rows = [
            placed("wise-ft-lp", alpha, 0, record("probe accuracy", 0.5 if alpha == apart and where == split else 0.875, 16, where, "svm"))
            for alpha in (0.0, 0.5, 1.0)
            for where in ("val", "test")
        ]
        rows += [
            placed("wise-ft-lp", alpha, 0, record("accuracy", 0.9, 50, where)) for alpha in (0.0, 0.5, 1.0) for where in ("val", "test")
        ]
        steps = [Step(alpha, 0.9, 0.875, 0.0, 0.0, accepted or alpha == 0.0, "") for alpha in (0.5, 0.0)]
        said = dataclasses.replace(bare(seeds=[0], rule=rule), recommended=Variant("wise-ft-lp", 0.0))
        made = Results(said, {}, rows, [Chosen("wise-ft-lp", rule, 0, 0.0, "end of grid", "", steps)], [], {}, {})
        return summary(made)["notes"][0]

    begins = "On validation data robustness is the same, 87.5\u00a0%, at every alpha"
    assert told(None).startswith(f"{begins}: 16 clouds of the probe cannot tell these models apart, so robustness had no say in the choice")
    assert told(0.5, "test").startswith(f"{begins}: ")
    assert "robustness is the same" not in told(0.5)
    among = told(0.5, accepted=False)
    assert among.startswith(f"{begins} that the interval rule accepts: ") == (rule == "interval")
    assert ("robustness is the same" in among) == (rule == "interval")
