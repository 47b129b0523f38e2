from __future__ import annotations

import numpy as np
import pytest
import torch

import pico
from wisetune.data.task import Split
from wisetune.errors import UsageError
from wisetune.measure.subject import Subject
from wisetune.measure.voting import Voting
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.points import redraw


def subject() -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = LinearHead().build(32, 4)
    return Subject(Model(pico.backbone(), head).eval(), "weights", "backbone", FeatureBank(pico.CPU))


def no_task(text):
    raise AssertionError(text)


def looks_of(monkeypatch) -> list[tuple[Split, np.ndarray]]:
    """What a subject is asked from now on, and what it answers."""
    seen, once = [], Subject.once

    def noting(self, split):
        answer = once(self, split)
        seen.append((split, answer))
        return answer

    monkeypatch.setattr(Subject, "once", noting)
    return seen


def test_a_vote_is_the_mean_of_the_logits_of_its_looks(monkeypatch):
    task, seen = pico.data(), looks_of(monkeypatch)
    records = list(Voting(draws=3, seed=5).of(subject(), task, no_task))
    assert [(record.split, record.n, record.name, record.role) for record in records] == [
        ("val", 24, "voted accuracy", "voting"),
        ("test", 24, "voted accuracy", "voting"),
    ]
    for record, split in zip(records, (task.val, task.test), strict=True):
        looks, seen = seen[:3], seen[3:]
        assert all(look.names == split.names for look, _ in looks)
        right = np.mean([answer for _, answer in looks], axis=0).argmax(axis=1) == split.labels
        assert record.value == right.mean()
        assert record.detail["draws"] == 3


def ordered(points: np.ndarray) -> np.ndarray:
    """Each cloud's points in one order, whatever order they had."""
    return np.stack([cloud[np.lexsort(cloud.T)] for cloud in points])


def test_a_look_is_the_same_points_in_another_order_and_no_sampling_finds_it(monkeypatch):
    def refuse(*_):
        raise AssertionError("an order that is drawn at random needs no farthest points")

    monkeypatch.setattr(redraw, "farthest_points", refuse)
    task, seen = pico.data(val=0), []
    monkeypatch.setattr(Subject, "once", lambda _, split: seen.append(split.points) or np.zeros((len(split), 4)))
    list(Voting(draws=2, augment="none").of(subject(), task, no_task))
    for look in seen:
        np.testing.assert_array_equal(ordered(look), ordered(task.test.points))
        orders = {tuple(np.lexsort(cloud.T).tolist()) for cloud in look}
        assert len(orders) == len(look), "each cloud has an order of its own"
    assert not any((one == other).all(axis=(1, 2)).any() for one, other in zip(seen, [task.test.points, *seen], strict=False))


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
