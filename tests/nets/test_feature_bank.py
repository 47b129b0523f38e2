from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import pico
from pico import CPU
from wisetune.nets import features as module
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import Mlp3Head
from wisetune.nets.model import Model


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(pico.backbone(), Mlp3Head(hidden=8).build(32, 4)).eval()


@pytest.fixture
def calls(model, monkeypatch) -> dict[str, list[int]]:
    """How many clouds were grouped and encoded, call by call."""
    seen: dict[str, list[int]] = {"group": [], "encode": []}
    group, encode = model.group, model.encode
    monkeypatch.setattr(model, "group", lambda points: seen["group"].append(len(points)) or group(points))
    monkeypatch.setattr(model, "encode", lambda groups: seen["encode"].append(len(groups[0])) or encode(groups))
    return seen


def ask(bank: FeatureBank, model: Model, key: str, split) -> np.ndarray:
    return bank.features(model, key, split.points, split.digest)


def test_features_and_logits_are_those_of_the_model_in_eval_mode(model, pico_data):
    split = pico_data.val
    with torch.inference_mode():
        expected = model.features(torch.from_numpy(split.points)).numpy()
        logits = model(torch.from_numpy(split.points)).numpy()
    bank = FeatureBank(CPU)
    np.testing.assert_allclose(ask(bank, model.train(), "k", split), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bank.logits(model, "k", split.points, split.digest), logits, rtol=1e-4, atol=1e-5)


def test_every_part_of_the_model_stays_in_its_mode(model, pico_data):
    """A probe trains its head in train mode on a backbone in eval mode."""
    model.train()
    model.backbone.eval()
    before = [part.training for part in model.modules()]
    assert len(set(before)) == 2
    bank = FeatureBank(CPU)
    bank.logits(model, "k", pico_data.val.points, pico_data.val.digest)
    assert [part.training for part in model.modules()] == before
    model.head = torch.nn.Linear(3, 3)  # does not fit
    before = [part.training for part in model.modules()]
    with pytest.raises(RuntimeError):
        bank.logits(model, "k", pico_data.val.points, pico_data.val.digest)
    assert [part.training for part in model.modules()] == before


def test_patches_are_found_once_a_cloud_and_features_once_a_backbone(model, calls, pico_data):
    bank = FeatureBank(CPU, batch=10)
    first = ask(bank, model, "one", pico_data.val)
    assert ask(bank, model, "one", pico_data.val) is first
    bank.logits(model, "one", pico_data.val.points, pico_data.val.digest)
    assert calls == {"group": [24], "encode": [10, 10, 4]}
    ask(bank, model, "two", pico_data.val)
    assert calls == {"group": [24], "encode": [10, 10, 4] * 2}


def test_another_architecture_has_other_patches(model, pico_data):
    bank = FeatureBank(CPU)
    ask(bank, model, "k", pico_data.val)
    other = Model(pico.backbone(dataclasses.replace(pico.SPEC, groups=4)), torch.nn.Identity()).eval()
    groups = bank.groups(other, pico_data.val.points, pico_data.val.digest)
    assert groups[0].shape[1] == 4
    assert bank.groups(model, pico_data.val.points, pico_data.val.digest)[0].shape[1] == 8


def test_what_is_forgotten_is_found_again(model, calls, pico_data):
    bank = FeatureBank(CPU)
    val, test = pico_data.val, pico_data.test
    for key in ("one", "two"):
        for split in (val, test):
            ask(bank, model, key, split)
    bank.forget("one")
    assert {key for key, _ in bank._features} == {"two"}
    bank.forget_points(val.digest)
    assert set(bank._features) == {("two", test.digest)}
    assert {points for _, points in bank._groups} == {test.digest}
    calls["group"].clear()
    ask(bank, model, "two", val)
    assert calls["group"] == [24]


def test_what_is_known_already_is_not_looked_at(model, calls, pico_data):
    bank, split = FeatureBank(CPU), pico_data.val
    features = ask(bank, model, "w", split)
    part = split.take(np.array([4, 1]))
    bank.keep("w", part.digest, features[[4, 1]])
    calls["encode"].clear()
    np.testing.assert_array_equal(ask(bank, model, "w", part), features[[4, 1]])
    assert not calls["encode"]
    ask(bank, model, "other", part)
    assert sum(calls["encode"]) == 2


def test_beyond_its_budget_the_patches_used_last_stay(model, pico_data, monkeypatch):
    bank = FeatureBank(CPU)
    parts = (pico_data.train, pico_data.val, pico_data.test)
    one = sum(tensor.numel() * 4 for tensor in bank.groups(model, parts[1].points, parts[1].digest))
    monkeypatch.setattr(module, "_GROUPS_BUDGET", int(2.2 * one))
    bank.groups(model, parts[2].points, parts[2].digest)
    bank.groups(model, parts[1].points, parts[1].digest)
    other = pico.split(("ball", "box"), 12, "other")
    bank.groups(model, other.points, other.digest)
    assert [points for _, points in bank._groups] == [parts[1].digest, other.digest]
    monkeypatch.setattr(module, "_GROUPS_BUDGET", 0)
    bank.groups(model, parts[2].points, parts[2].digest)
    assert [points for _, points in bank._groups] == [parts[2].digest]


def test_beyond_its_budget_the_features_used_last_stay(model, calls, pico_data, monkeypatch):
    bank, split = FeatureBank(CPU), pico_data.val
    one = ask(bank, model, "one", split)
    monkeypatch.setattr(module, "_FEATURES_BUDGET", 2 * one.nbytes)
    ask(bank, model, "two", split)
    ask(bank, model, "one", split)
    ask(bank, model, "three", split)
    assert [key for key, _ in bank._features] == ["one", "three"]
    calls["encode"].clear()
    assert np.array_equal(ask(bank, model, "two", split), one)
    assert calls["encode"] == [24]
    monkeypatch.setattr(module, "_FEATURES_BUDGET", 0)
    bank.keep("four", split.digest, one)
    assert [key for key, _ in bank._features] == ["four"]


def test_patches_found_while_looking_can_be_trained_on(model, pico_data):
    bank = FeatureBank(CPU)
    with torch.inference_mode():
        bank.groups(model, pico_data.val.points, pico_data.val.digest)
    groups = bank.groups(model, pico_data.val.points, pico_data.val.digest)
    model.head(model.train().encode(groups)).sum().backward()
    assert model.head[0].weight.grad is not None


def test_the_batch_does_not_change_what_is_known_about_a_cloud(model, pico_data):
    small, large = (ask(FeatureBank(CPU, batch), model, "k", pico_data.val) for batch in (5, 32))
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-6)
