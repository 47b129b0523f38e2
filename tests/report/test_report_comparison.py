"""Ways to tune beside one another: what is shown of each, what each costs, and no winner by luck."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.text import Text
from studies import comparison, plain_page, study

from wisetune.report import page, summary, words
from wisetune.report.board import Board
from wisetune.report.costs import as_text
from wisetune.report.drawing import Labels, png
from wisetune.report.markdown import markdown
from wisetune.report.tables import costs_table
from wisetune.report.verdict import summary as verdict
from wisetune.results import Results

METHODS = list(comparison((0,), n=20).costs)


@pytest.fixture(scope="module")
def made() -> Results:
    return comparison()


def lifted(made: Results, **right: int) -> Results:
    """Each scan of these methods right up to a number, in every seed."""
    rows = []
    for row in made.rows:
        if row.record.role == "accuracy" and (count := right.get(row.method.partition(":")[0])) is not None:
            n = row.record.n
            record = dataclasses.replace(row.record, value=count / n, detail={"right": "1" * count + "0" * (n - count)})
            row = dataclasses.replace(row, record=record)
        rows.append(row)
    return dataclasses.replace(made, rows=rows)


def test_the_line_says_of_which_a_difference_is_shown_and_recommends_none(made: Results) -> None:
    said = summary(made)
    assert said["conclusion"] == (
        "Accuracy against full fine-tuning: a loss is shown for linear probing (−5.7 points) and VPT (prompts=40,deep=false) (−3.3 points), no "
        "difference for the other 9. Robustness against full fine-tuning: no difference is shown for any of the 11 others."
    )
    told = " ".join(said["sentences"])
    assert not {"Take", "Keep", "recommend", "best"} & set(told.split())
    assert "Of 22 differences about 1 would be shown by chance alone." in said["sentences"]
    assert (
        "Of the 9 without a shown loss BitFit trains the fewest values (8.5 k) and takes the least memory (43.0 MiB); that none is shown does not "
        "show that there is none."
    ) in said["sentences"]
    assert said["rival"] is None
    assert said["model"].endswith(" Those of others: wisetune run ft --tuning TUNING, or wisetune run lp, with the same options.")


def test_gains_and_losses_stand_with_the_largest_first() -> None:
    found = lifted(comparison(n=400), ft=200, lp=100, dapt=300, idpt=250, ssf=150, **dict.fromkeys(("bitfit", "adapter", "prefix"), 200))
    assert summary(lifted(found, lora=200, vpt=200, adaptformer=200))["conclusion"].startswith(
        "Accuracy against full fine-tuning: a gain is shown for DAPT (+25.0 points) and IDPT (+12.5 points), a loss for linear probing (−25.0 "
        "points) and SSF (−12.5 points), no difference for the other 7. "
    )


def test_what_one_seed_shows_is_of_these_models() -> None:
    few = "That is of these models: train with at least 3 seeds before you rely on it."
    found = lifted(comparison((0,), n=400), ft=200, dapt=300)
    assert summary(found)["conclusion"].endswith(few)
    assert few not in summary(lifted(comparison(n=400), ft=200, dapt=300))["conclusion"]


def test_a_run_of_full_fine_tuning_alone_compares_nothing(made: Results) -> None:
    alone = dataclasses.replace(made, rows=[row for row in made.rows if row.method == "ft"])
    assert not Board(alone).compares
    assert summary(alone)["conclusion"] == ""


def test_a_line_a_method_in_a_hundred_columns(made: Results) -> None:
    lines = as_text(Board(made))
    assert max(map(len, lines)) <= 100
    (probing,) = (line for line in lines if line.startswith("linear probing"))
    assert probing.split() == [
        "linear",
        "probing",
        "51.3",
        "(47.9–54.8)",
        "−5.7",
        "(−8.5,",
        "−2.8)*",
        "63.3",
        "+1.3",
        "2.3k",
        "42.9M",
        "0.01x",
        "9.0K",
    ]
    at = lines.index("AdaptFormer (rank=32,scale=0.5)")
    assert len(lines[at + 1]) == len(probing)  # its name is too long for the line
    assert lines[at + 1].split()[0] == "55.2"
    assert " 0.41 s" in " ".join(lines)
    assert as_text(Board(study((0,)))) == []


def test_without_probes_there_is_no_robustness(made: Results) -> None:
    bare = dataclasses.replace(made, rows=[row for row in made.rows if row.record.role == "accuracy"])
    lines = as_text(Board(bare))
    assert lines[1].split() == ["accuracy", "diff", "trains", "memory", "step", "file"]
    assert "robust" not in " ".join(lines)
    assert "robustness" not in summary(bare)["conclusion"].lower()
    assert "What each gains and costs" in plain_page(bare)


def test_the_table_has_the_reference_first_and_what_each_costs_against_it(made: Results) -> None:
    rows = costs_table(Board(made)).rows
    assert [row["method"] for row in rows] == METHODS
    for row in rows:
        cost = made.costs[row["method"]]
        assert {name: row[name] for name in dataclasses.asdict(cost)} == dataclasses.asdict(cost)
        assert row["memory_against"] == cost.memory_peak / made.costs["ft"].memory_peak
        assert row["step_against"] == cost.step_seconds / made.costs["ft"].step_seconds
    assert json.loads(json.dumps(verdict(made)["costs"])) == rows


def test_what_shapes_do_not_tell_is_a_dash(made: Results) -> None:
    unknown = {"memory_peak": None, "memory_held": None, "macs_published": None, "macs_true": None}
    found = dataclasses.replace(made, costs={**made.costs, "dapt": dataclasses.replace(made.costs["dapt"], **unknown)})
    row = next(row for row in costs_table(Board(found)).rows if row["method"] == "dapt")
    assert row["memory_against"] is None
    line = next(line for line in as_text(Board(found)) if line.startswith("DAPT"))
    assert line.split()[-3:] == [words.NOTHING, "0.80x", "0.5M"]
    assert "<td>–</td><td>–</td></tr>" in plain_page(found)
    assert "| – | – |" in markdown(found, "A title")


def test_page_and_markdown_have_costs_where_they_were_told(made: Results) -> None:
    text, plain = page(made), plain_page(study((0,)))
    assert "What each gains and costs" in text
    assert "<td>2.3 k<small>0.2 % of all</small></td><td>42.9 MiB<small>−53 %</small></td><td>4.1 ms<small>0.01x</small></td>" in text
    assert "The scans full fine-tuning got most wrong" in plain_page(dataclasses.replace(made, clouds=study((0,)).clouds))
    assert "<span>Compared with</span><b>full fine-tuning</b>" in text
    assert "What each gains and costs" not in plain
    written = markdown(made, "A title")
    assert "| linear probing | 2,313 | 0.2 | 42.9 MiB | 0.01x | 9.0 KiB | 0.074 G | 0.064 G |" in written
    assert "## What each costs" not in markdown(study((0,)), "A title")


def test_full_fine_tuning_that_does_not_suit_is_not_blamed_for_mixes_that_are_not_there(made: Results) -> None:
    notes = summary(lifted(made, ft=300, lp=500))["notes"]
    (told,) = (note for note in notes if note.startswith("Full fine-tuning is below linear probing"))
    assert "mixes" not in told


def test_every_mark_is_seen_on_paper() -> None:
    """One that is a line alone has no inside, and its edge has the colour of the paper."""
    assert all(MarkerStyle(mark).is_filled() for mark in (*words.MARKS.values(), *words.MORE_MARKS))
    assert len(words.MORE_MARKS) >= len(METHODS) - 2


def test_names_of_a_dozen_near_one_another_cover_no_mark() -> None:
    drawn: list[Labels] = []
    spots = [(50.0 + 2.5 * (number % 4), 40.0 + 2.5 * (number // 4)) for number in range(12)]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        figure.draw_without_rendering()
        labels = Labels(axes, spots, 9.5)
        for number, spot in enumerate(spots):
            labels.put(f"tuning\n(rank={number})", spot, "#000000")
        drawn.append(labels)

    png((4.3, 5.4), draw)
    (labels,) = drawn
    boxes = [Text.get_window_extent(text) for text in labels.axes.texts]
    assert len(boxes) == 12
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert not any(box.contains(*mark) for box in boxes for mark in labels.axes.transData.transform(spots))


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        (words.short(132), "132"),
        (words.short(14_601), "14.6 k"),
        (words.short(22_093_327), "22.1 M"),
        (words.size(9_252), "9.0 KiB"),
        (words.size(300_000), "0.3 MiB"),
        (words.size(27_165_000_000), "25.30 GiB"),
        (words.size(None), "–"),
        (words.giga(4_957_000_000), "4.957 G"),
        (words.times(0.004), "<0.01x"),
        (words.times(1.399), "1.40x"),
        (words.less(0.466), "−53 %"),
        (words.less(1.04), "+4 %"),
        (words.less(1.001), "0 %"),
        (words.seconds(1.054), "1.05 s"),
        (words.seconds(0.0085), "8.5 ms"),
    ],
)
def test_sizes_are_spelled_short(spelled: str, said: str) -> None:
    assert spelled == said
