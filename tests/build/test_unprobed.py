"""What is told of models whose robustness nobody measured."""

from __future__ import annotations

import json
import re

import pytest

import pico
from wisetune.build.request import UNPROBED
from wisetune.fit.fit import Fit
from wisetune.report.board import Board
from wisetune.report.costs import as_text
from wisetune.report.markdown import markdown
from wisetune.report.together import together
from wisetune.report.verdict import summary
from wisetune.report.write import write_report
from wisetune.stories.compare import Compare
from wisetune.stories.lp import Lp

ONE = {"fit": Fit(epochs=1, batch=8, augment="none"), "head_fit": Fit(epochs=2, batch=8, augment="none")}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root, rest = tmp_path_factory.mktemp("unprobed"), {"measures": (), "warnings": (UNPROBED,), **ONE}
    return [pico.runner(root, story, **rest).run("wisetune").results for story in (Compare(("bitfit",)), Lp())]


def test_a_comparison_stands_on_accuracy_alone(found, tmp_path):
    results, board = found[0], Board(found[0])
    told = summary(results)
    assert (told["before"]["robustness"], told["gain"]["robustness"]) == (None, None)
    assert told["conclusion"].startswith("Accuracy against full fine-tuning: ")
    assert UNPROBED in told["notes"]
    # Of robustness the note alone speaks, and no table has an empty column of it.
    texts = [*told["sentences"], *as_text(board), markdown(results, "Compared"), together(found, "Both")]
    assert not [text for text in texts if "obust" in text.replace(UNPROBED, "")]
    assert "| model | accuracy | accuracy against full fine-tuning |" in texts[-2]
    write_report(results, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count(UNPROBED) == 1
    shown = re.sub(r"<(script|style).*?</\1>|<code>.*?</code>", "", page.replace(UNPROBED, ""), flags=re.DOTALL)
    assert "obust" not in shown
    assert json.loads((tmp_path / "results.json").read_text())["study"]["probes"] == []
    assert not (tmp_path / "tradeoff.png").exists()


def test_only_trainings_that_there_were_are_told(found):
    compared, probed = (results.study for results in found)
    assert (compared.fit, compared.gentle_fit, compared.head_fit) == (str(ONE["fit"]), "", str(ONE["head_fit"]))
    assert (probed.fit, probed.gentle_fit, probed.head_fit) == ("", "", str(ONE["head_fit"]))
    assert "low rate" not in markdown(found[0], "Compared")
    # One trains no backbone: that is no other way to train it.
    assert "trained in different ways" not in together(found, "Both")
