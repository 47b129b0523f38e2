"""Killed at any epoch's end, a training goes on to the same bits."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from kept import Kept, save_each_epoch, until_done

import pico
from pico import CPU, FIT, bits
from wisetune.fit.finetune import Labelled, tune
from wisetune.fit.fit import Fit
from wisetune.fit.pretrain import Pretrain, Shapes, pretrain
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import Head, LinearHead, Mlp3Head
from wisetune.nets.model import Model
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.tune.tuning import Tuning

EPOCHS = 3
PLAIN = dataclasses.replace(FIT, epochs=EPOCHS, batch=18)
CASES: dict[str, tuple[Tuning, Head, Fit]] = {
    "full": (Full(), LinearHead(), dataclasses.replace(PLAIN, drop_path=0.4)),
    "full with augmentation": (Full(), LinearHead(), dataclasses.replace(PLAIN, augment="scale-translate+jitter")),
    "full, best on validation": (Full(), LinearHead(), dataclasses.replace(PLAIN, select="best")),
    "full with a deep head": (Full(), Mlp3Head(hidden=8), dataclasses.replace(PLAIN, smoothing=0.2)),
    "full as published": (
        Full(),
        LinearHead(),
        dataclasses.replace(PLAIN, cosine="timm-late", cosine_epochs=2, clip_percentile=10.0, pool=64, group=("head.",), group_lr=10.0),
    ),
    "probe of kept features": (Linear(), LinearHead(), PLAIN),
    "probe with augmentation": (Linear(), LinearHead(), dataclasses.replace(PLAIN, augment="scale-translate")),
    "probe, best on validation": (Linear(), LinearHead(), dataclasses.replace(PLAIN, select="best")),
    "probe with a deep head": (Linear(), Mlp3Head(hidden=8), PLAIN),
}


def fine_tuning(case: str, data, spec=pico.SPEC):
    tuning, head, fit = CASES[case]

    def run(kept: Kept):
        backbone = pico.backbone(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = Model(backbone, head.build(backbone.feature_width, 4))
        train, val = (Labelled(part.points, part.labels, part.names, part.digest) for part in (data.train, data.val))
        frozen = None if tuning.moves_features else "start"
        log = tune(model, tuning.freeze(model), fit, train, val, 0, frozen_key=frozen, bank=FeatureBank(CPU), resume=kept)
        return log, bits(model.state_dict())

    return run


def pre_training(data, spec=pico.SPEC, **options):
    shapes = [Shapes(data.train.points[:12].astype("float16"), "z"), Shapes(data.train.points[12:20].astype("float16"), "y")]

    def run(kept: Kept):
        backbone, log = pretrain(spec, shapes, Pretrain(epochs=EPOCHS, batch=10, warmup=1.0, decoder_depth=1, **options), kept)
        return log, bits(backbone.state_dict())

    return run


def check(run, monkeypatch: pytest.MonkeyPatch) -> None:
    save_each_epoch(monkeypatch)
    never = Kept()
    expected = until_done(run, never, 0, 0)
    assert never.loads == []
    kept = Kept()
    assert until_done(run, kept, 1, 1) == expected, "killed after the first epoch"
    assert kept.loads == [1]
    kept = Kept()
    assert until_done(run, kept, 1, EPOCHS) == expected, "killed after every epoch"
    assert kept.loads == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("case", CASES)
def test_a_killed_tuning_ends_with_the_bits_of_one_that_was_not(case, pico_data, monkeypatch):
    check(fine_tuning(case, pico_data), monkeypatch)


def test_so_does_one_with_a_class_token(pico_data, monkeypatch):
    check(fine_tuning("full", pico_data, pico.TOKEN_SPEC), monkeypatch)


def _pre_trainings():
    """What is drawn for a view is no family's own: of the dearer one by default a single setting."""
    settings = ({}, {"contrast": 0.0, "block": 1.0}, {"turned": 0.0, "augment": "none", "block": 0.0})
    for family, options in itertools.product(pico.FAMILIES, settings):
        marks = pytest.mark.slow if options and family == "point-m2ae" else []
        yield pytest.param(family, options, id=f"{family}-{options}", marks=marks)


@pytest.mark.parametrize(("family", "options"), [*_pre_trainings()])
def test_so_does_pre_training(family, options, pico_data, monkeypatch):
    check(pre_training(pico_data, pico.FAMILIES[family], **options), monkeypatch)


def test_the_best_weights_travel_with_the_state(pico_data, monkeypatch):
    """Where the best epoch lies before the kill, they cannot come from anywhere else."""
    from wisetune.fit import finetune

    save_each_epoch(monkeypatch)
    ends = []
    for kills in (0, 1):
        accuracies = [0.1, 0.9, 0.3]
        monkeypatch.setattr(finetune._Tuned, "accuracy", lambda *_, rest=accuracies: rest.pop(0))
        ends.append(until_done(fine_tuning("full, best on validation", pico_data), Kept(), 2, kills))
    assert ends[0] == ends[1]
    monkeypatch.setattr(finetune._Tuned, "accuracy", lambda *_: 0.5)
    assert until_done(fine_tuning("full, best on validation", pico_data), Kept(), 0, 0)[1] != ends[0][1]
