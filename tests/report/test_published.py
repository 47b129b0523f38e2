"""What papers report, beside what was measured."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from studies import comparison, fold

from wisetune.report.board import Board, Estimate
from wisetune.report.together import together

ROOT = Path(__file__).parents[2]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.published")


def test_the_section_stands_before_the_costs_and_once(published: Any) -> None:
    runs = [comparison(n=100)] * 2
    boards, page = [Board(run) for run in runs], together(runs, "Two")
    made = published.with_beside(page, boards)
    assert published.with_beside(made, boards) == made
    assert made.index(published.HEADING) < made.index("## What each costs")
    assert made.replace(published.beside(boards) + "\n\n", "") == page
    assert "They are of other data and another size of network" in " ".join(made.split())


def test_a_published_difference_beside_the_one_measured_here(published: Any) -> None:
    run = fold(0, {"ft": 50, "bitfit": 80, "lp": 40, "vpt:prompts=40,deep=false": 9}, n=100)
    text = published.beside([Board(run)])
    assert "| BitFit | 0.3 | 82.62 | −2.6 | **+30.0** |" in text
    assert "| linear probing | 0.3 | 75.99 | −9.2 | −10.0 |" in text
    assert "VPT" not in text
    # As published but for BitFit, which is above full fine-tuning here.
    assert "stand in the published order: 2 of 3 on " in text


def test_pairs_that_are_equal_stand_in_no_order(published: Any) -> None:
    gains = {name: Estimate(value, 0.0, 0.0, 10) for name, value in (("lora", -0.1), ("ssf", -0.1), ("dapt", -0.2))}
    # full > lora, ssf, dapt as published; dapt is the highest of the others there and the lowest here; lora and ssf are equal.
    assert published.same_order(gains) == (3, 5)


def test_few_shot_figures_beside_the_folds(published: Any) -> None:
    boards = [Board(fold(number, {"ft": 10, "dapt": 10 + number})) for number in range(3)]
    text = published.beside(boards)
    assert "| tuning | 5 ways, 10 shots |" in text
    assert "| DAPT, published difference | +0.5 |" in text
    assert "| DAPT, difference here | +5.0 (−7.4 to +17.4) |" in text
    assert "| IDPT, difference here | – |" in text


def test_runs_of_nothing_published_are_refused(published: Any) -> None:
    with pytest.raises(SystemExit, match="nothing was published"):
        published.beside([Board(fold(0, {"ft": 10, "ppt": 9}))])
