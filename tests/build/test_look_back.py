"""What a tuning finds of its grafts at the end of a training is said where the training is."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

import pico
from wisetune.build.builder import Builder
from wisetune.build.meter import LOOK, Silent
from wisetune.build.study import study_of
from wisetune.build.work import work
from wisetune.recipe import Tune, digest
from wisetune.report.protocol import facts_of
from wisetune.results import Results
from wisetune.store import Store
from wisetune.stories.ft import Ft
from wisetune.stories.wise_ft import WiseFt
from wisetune.tune.dapt import DAPT, open_shares

TUNING = DAPT(rank=4)
QUICK = dataclasses.replace(pico.FIT, epochs=1, lr=1e-9)
SHUT = "of DAPT's 2 gates 1 (50 %) were open for at least one training cloud at the end, and closed for all: blocks.blocks.0"


class Hearing(Silent):
    def __init__(self) -> None:
        self.told, self.looked = [], 0.0

    def tell(self, text: str) -> None:
        self.told.append(text)

    def advance(self, clouds: float, kind: str) -> None:
        self.looked += clouds * (kind == LOOK)


@pytest.fixture
def shut(monkeypatch):
    """DAPT whose first gate no token opens, and whose last one every token does."""
    graft = DAPT.graft

    def closed(self, model):
        graft(self, model)
        first, *_, last = (model.backbone.get_submodule(f"{site.block}.dapt.adapter.scale") for site in model.backbone.anatomy.sites)
        if not first.bias.is_meta:
            torch.nn.init.constant_(first.bias, -100.0)
            torch.nn.init.constant_(last.bias, 100.0)

    monkeypatch.setattr(DAPT, "graft", closed)


def ft(**fit) -> Tune:
    return Ft().recipes(pico.setting(tuning=TUNING, task=pico.data().training_digest, fit=dataclasses.replace(QUICK, **fit))).popitem()[1]


@pytest.mark.usefixtures("shut")
def test_gates_of_dapt_that_stayed_closed_are_told_counted_and_stored(tmp_path):
    meter = Hearing()
    builder = pico.builder(tmp_path, meter=meter)
    model = builder.model(ft())
    assert f"{builder.called(ft())}: {SHUT}." in meter.told
    shares = open_shares(model, torch.from_numpy(pico.data().train.points))
    assert Store(tmp_path).load(digest(ft())).extra["found"] == {
        "found": SHUT,
        **{f"open {block}": share for block, share in shares.items()},
    }
    assert (shares["blocks.blocks.0"], meter.looked) == (0.0, len(pico.data().train))
    again = Hearing()
    assert pico.builder(tmp_path, meter=again).noted(ft()) == SHUT
    assert again.told == []


@pytest.mark.usefixtures("shut")
def test_the_page_of_a_job_has_them_of_every_model_and_the_bar_knows_of_the_look(tmp_path):
    meter = Hearing()
    runner = pico.runner(tmp_path, WiseFt((0.5,)), meter, tuning=TUNING, fit=QUICK, seeds=(0, 1), measures=())
    expected = work(runner)[LOOK]
    results = runner.run().results
    assert results.study.noted == {f"DAPT (rank=4), seed {seed}": SHUT for seed in (0, 1)}
    assert meter.looked == expected
    assert dict(facts_of(results.study))["Noted of trainings"] == results.study.noted
    assert Results.from_json(json.loads(json.dumps(results.to_json()))).study.noted == results.study.noted


def test_a_training_that_finds_nothing_says_nothing(tmp_path):
    meter = Hearing()
    runner = pico.runner(tmp_path, Ft(), meter, fit=QUICK, measures=())
    assert runner.run().results.study.noted == {}
    assert "Noted of trainings" not in dict(facts_of(study_of(runner.experiment)))
    assert (meter.told, meter.looked) == ([], 0.0)


def test_it_looks_at_as_many_points_as_training_does(tmp_path, monkeypatch):
    """Read denser than the backbone takes, clouds would have other patches."""
    data = pico.data()
    dense = dataclasses.replace(data, train=dataclasses.replace(data.train, points=data.train.points.repeat(2, axis=1)))
    recipe = dataclasses.replace(ft(pool=64, pool_of=128), task=dense.training_digest)
    found, group = set(), pico.PointMAE.group
    monkeypatch.setattr(pico.PointMAE, "group", lambda self, points: found.add(points.shape[1]) or group(self, points))
    builder: Builder = pico.builder(tmp_path, dense)
    builder.model(recipe)
    assert found == {pico.POINTS}
    assert "were open for at least one training cloud at the end" in builder.noted(recipe)
