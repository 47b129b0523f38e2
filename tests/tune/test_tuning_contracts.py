"""What every tuning promises: those of the catalog, and those from outside that graft."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

import pico
from my_tunings import Adapter, Inside, Scaled, ScaledProbe
from pico import bits
from wisetune import load_model, save_model
from wisetune.fit.finetune import set_drop_path
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.tune.tunings import TUNINGS

CLOUDS = torch.from_numpy(pico.data(train=1, val=0, test=2).test.points)
TUNINGS_HERE = [*map(pico.tuning, TUNINGS.names()), Adapter(), Inside(), Scaled(), ScaledProbe()]


def logits(model):
    with torch.inference_mode():
        return model(CLOUDS)


@pytest.fixture(params=[pico.SPEC, pico.TOKEN_SPEC], ids=["plain", "token"])
def model(request):
    torch.manual_seed(0)
    return Model(pico.backbone(request.param), LinearHead().build(32, 3), LinearHead(), ("a", "b", "c")).eval()


def step(model, tuning):
    """One step of training, by a rate at which every value moves; with drop path."""
    chosen = tuning.parameters(model)
    set_drop_path(model, 0.5)
    for module in tuning.in_training(model):
        module.train()
    F.cross_entropy(model(CLOUDS), torch.arange(len(CLOUDS)) % 3).backward()
    torch.optim.SGD(chosen.values(), lr=0.1).step()
    model.eval()
    return chosen


@pytest.mark.parametrize("tuning", TUNINGS_HERE, ids=str)
def test_grafted_copied_trained_saved_and_loaded(tuning, model, tmp_path):
    tuning.graft_into(model)
    model = Model(model.backbone, LinearHead().build(model.backbone.feature_width, 3), LinearHead(), ("a", "b", "c")).eval()
    before, first = bits(dict(model.named_parameters())), logits(model)
    twin = copy.deepcopy(model)
    assert twin.backbone.grafts == model.backbone.grafts
    assert torch.equal(logits(twin), first)
    chosen = step(model, tuning)
    assert not torch.equal(logits(model), first)
    assert torch.equal(logits(twin), first), "a copy has grafts of its own"
    now = bits(dict(model.named_parameters()))
    assert {name for name in now if now[name] != before[name]} <= set(chosen)
    save_model(tmp_path / "m", model)
    loaded = load_model(tmp_path / "m")
    assert bits(loaded.state_dict()) == bits(model.state_dict())
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.backbone.grafts == model.backbone.grafts
    with torch.no_grad():
        for value in loaded.parameters():
            value.fill_(0.0)
    assert not torch.equal(logits(loaded), logits(model))


def test_branches_that_drop_path_leaves_out_see_the_kept_rows_alone(model):
    Inside().graft_into(model)
    last, seen = model.backbone.get_submodule(model.backbone.anatomy.sites[-1].mlp).adapter.down, []
    last.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    set_drop_path(model, 0.5)
    logits(model.train())
    logits(model.eval())
    assert seen[0] < seen[1] == len(CLOUDS)
