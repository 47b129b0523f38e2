"""What is told beforehand of how much there is to do is what is done."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

import pico
from pico import FIT, HEAD_FIT, QUICK, Counting
from wisetune.build import runner as runner_module
from wisetune.build.meter import weigh
from wisetune.build.work import earlier, plan, work
from wisetune.fit import loop
from wisetune.measure.corruption import Corruption
from wisetune.measure.subject import Subject
from wisetune.measure.svm import Svm
from wisetune.measure.transfer import Transfer
from wisetune.measure.voting import Voting
from wisetune.recipe import Tune, digest
from wisetune.results import Variant
from wisetune.stories.ft import Ft
from wisetune.stories.lp import Lp
from wisetune.stories.lp_ft import LpFt
from wisetune.stories.wise_ft import WiseFt
from wisetune.stories.wise_ft_lp import WiseFtLp

STORY = WiseFtLp((0.0, 0.5))
FULL = {**QUICK, "measures": (Svm("others", "0.01"), Transfer("others", "shared"))}


@pytest.mark.parametrize("corrupted", [None, Corruption(items=4)])
def test_the_meter_ends_where_it_was_told_to_expect(tmp_path, corrupted):
    meter = Counting()
    runner = pico.runner(tmp_path, STORY, meter, **FULL | {"corruption": corrupted})
    expected = work(runner)
    runner.run()
    # One model less is corrupted where the chosen one is a baseline: at alpha 0 it is linear probing.
    fewer = {**expected, "corruption": expected["corruption"] - 36 * 4} if corrupted else expected
    assert meter.done in (expected, fewer)
    clouds = len(runner.experiment.downstream.train)
    assert (expected["train"], expected["mix"]) == (3 * clouds, clouds)
    assert (expected["look"], expected["head"]) == (3 * clouds, 3 * HEAD_FIT.epochs * clouds)
    assert "training full fine-tuning, seed 0" in meter.said
    assert any(said.startswith("training full fine-tuning, seed 0: epoch 1 of 1, loss ") for said in meter.said)
    assert "mixing WiSE-FT at alpha 0.5, seed 0" in meter.said
    assert "measuring svm of WiSE-FT at alpha 0.5, seed 0" in meter.said
    assert "measuring svm of WiSE-FT-LP at alpha 0.5, seed 0" not in meter.said, "its backbone is that of WiSE-FT"
    if corrupted:
        again = pico.runner(tmp_path, STORY, **FULL | {"corruption": corrupted})
        assert work(again) == {}


def test_measures_that_keep_no_features_look_anew_for_every_head(tmp_path, monkeypatch):
    looked, once = [], Subject.once
    monkeypatch.setattr(Subject, "once", lambda self, split: looked.append(len(split)) or once(self, split))
    meter = Counting()
    runner = pico.runner(tmp_path, STORY, meter, **QUICK | {"measures": (Voting(draws=2),)})
    expected = work(runner)
    runner.run()
    assert meter.done == expected
    assert expected["voting"] == sum(looked) == len(set(runner.experiment.trees().values())) * 2 * 48
    # Of two models with one backbone, corrupted clouds are looked at for each.
    monkeypatch.setattr(runner_module, "choose", lambda *_: ([], Variant("wise-ft-lp", 1.0)))
    meter = Counting()
    runner = pico.runner(tmp_path, WiseFtLp((0.5,)), meter, **QUICK | {"measures": (), "corruption": Corruption(items=4)})
    expected = work(runner)
    runner.run()
    assert meter.done["corruption"] == expected["corruption"] == 3 * 36 * 4


@pytest.mark.parametrize("story", [Ft(), Lp(), LpFt()], ids=str)
def test_so_it_does_without_a_sweep(tmp_path, story):
    meter = Counting()
    runner = pico.runner(tmp_path, story, meter, **FULL | {"corruption": Corruption(items=4)})
    expected = work(runner)
    runner.run()
    assert meter.done == expected


def test_the_epochs_of_a_training_that_was_killed_are_not_expected_again(tmp_path, monkeypatch):
    class Stop(Counting):
        def advance(self, clouds: float, kind: str) -> None:
            super().advance(clouds, kind)
            if self.done["train"] >= 2 * epoch:
                raise KeyboardInterrupt

    hours = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: 3600.0 * next(hours))  # every epoch is saved
    fit = dataclasses.replace(FIT, epochs=3)
    first = pico.runner(tmp_path, Ft(), Stop(), **QUICK | {"fit": fit})
    epoch, whole = len(first.experiment.downstream.train), work(first)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    meter = Counting()
    again = pico.runner(tmp_path, Ft(), meter, **QUICK | {"fit": fit})
    expected = work(again)
    assert expected == {**whole, "train": whole["train"] - 2 * epoch}
    assert earlier(again) == ["Of full fine-tuning, seed 0, 2 of 3 epochs were done before; going on with epoch 3."]
    again.run()
    assert meter.done == expected


def test_a_plan_counts_and_trains_nothing(tmp_path):
    runner = pico.runner(tmp_path, WiseFtLp(), **QUICK)
    told = plan(runner)
    assert (told["trainings"], told["mixes"]) == (14, 10)
    assert told["models"] == len(set(runner.experiment.trees().values()))
    todo = work(runner)
    assert told["clouds"] == weigh({**todo, "head": 0}) > 0
    # What a head's own steps take is among it.
    assert told["seconds"] > told["clouds"] / told["clouds_per_second"]
    assert told["seconds"] > 0
    assert [path.name for path in (tmp_path / "objects").glob("*")] == [digest(pico.START)]
    json.dumps(told)


def test_heads_that_draw_from_a_pool_are_expected_to_look_at_clouds_in_every_epoch(tmp_path):
    fits = {"fit": pico.POOLED, "gentle_fit": pico.POOLED, "head_fit": dataclasses.replace(HEAD_FIT, pool=80, pool_of=pico.DENSE)}
    runner = pico.runner(tmp_path, WiseFt((0.5,)), load=pico.denser, **fits)
    heads = sum(isinstance(tree, Tune) and tree.tuning.name == "linear" for tree in runner.experiment.trees().values())
    expected = work(runner)
    assert expected["look"] == heads * HEAD_FIT.epochs * len(runner.experiment.downstream.train) > 0
    assert "head" not in expected
