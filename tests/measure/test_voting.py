from __future__ import annotations

import numpy as np
import pytest
import torch

import pico
from wisetune.errors import UsageError
from wisetune.measure.subject import Subject
from wisetune.measure.voting import Voting
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.points.augment import scale_and_translate
from wisetune.points.redraw import redraw
from wisetune.runtime import torch_generator


def subject() -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = LinearHead().build(32, 4)
    return Subject(Model(pico.backbone(), head).eval(), "weights", "backbone", FeatureBank(pico.CPU))


def no_task(text):
    raise AssertionError(text)


def test_a_vote_is_the_mean_of_the_logits_of_its_looks():
    task, one = pico.data(), subject()
    records = list(Voting(draws=3, seed=5).of(one, task, no_task))
    assert [(record.split, record.n, record.name, record.role) for record in records] == [
        ("val", 24, "voted accuracy", "voting"),
        ("test", 24, "voted accuracy", "voting"),
    ]
    for record, split in zip(records, (task.val, task.test), strict=True):
        logits = []
        for draw in range(3):
            random = torch_generator(5, "voting", draw)
            looked = redraw(torch.from_numpy(split.points), pico.POINTS, pico.POINTS, random, shared=False)
            with torch.inference_mode():
                logits.append(one.model(scale_and_translate(looked, random)).numpy())
        right = np.mean(logits, axis=0).argmax(axis=1) == split.labels
        assert record.value == right.mean()
        assert record.detail["draws"] == 3


def test_looks_differ_are_the_same_for_every_model_and_are_not_kept(monkeypatch):
    seen = []
    task = pico.data(val=0)
    monkeypatch.setattr(Subject, "once", lambda _, split: seen.append(split.digest) or np.zeros((len(split), 4)))
    for _ in range(2):
        assert len(list(Voting(draws=4).of(subject(), task, no_task))) == 1
    assert seen[:4] == seen[4:]
    assert len(set(seen)) == 4
    monkeypatch.undo()
    one = subject()
    list(Voting(draws=2).of(one, task, no_task))
    assert not one.bank._groups
    assert not one.bank._features


def test_the_cost_is_each_look_at_each_cloud_that_is_held_out():
    assert Voting(draws=3).cost(pico.data(), no_task) == 3 * 48


def test_a_slip_is_refused():
    with pytest.raises(UsageError, match="'draws' of 'voting' is 0"):
        Voting(draws=0)
    with pytest.raises(UsageError, match="no augmentation 'flip'"):
        Voting(augment="flip")
