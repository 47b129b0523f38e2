"""A model is grafted into first, and then its head is built; what refuses, refuses on every way to such a model."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import pico
from net_samples import TINY_OPTIONS, cloud
from wisetune import create
from wisetune.build.memory import compare_memory
from wisetune.errors import UsageError
from wisetune.nets.backbone import build_empty
from wisetune.nets.create import parse_any_head, parse_backbone
from wisetune.nets.heads import LinearHead
from wisetune.stories.compare import Compare
from wisetune.tune.dapt import DAPT
from wisetune.tune.idpt import IDPT
from wisetune.tune.tuned import refusal, tuned_model
from wisetune.tune.tunings import TUNINGS

WIDE = DAPT(rank=4)
"""What a head sees of it is wider than before."""


def test_what_has_no_values_gets_none():
    model = tuned_model(build_empty(pico.SPEC), WIDE, LinearHead(), ("a", "b"))
    assert {value.device.type for value in model.state_dict().values()} == {"meta"}
    assert model.head.weight.shape[1] == 3 * 16 == model.backbone.feature_width


def test_grafts_and_head_are_drawn_each_by_itself():
    first, again, other = (tuned_model(pico.backbone(), WIDE, LinearHead(), ("a", "b"), seed=seed).state_dict() for seed in (1, 1, 2))
    assert pico.bits(first) == pico.bits(again)
    moved = {name for name in first if not torch.equal(first[name], other[name])}
    assert {"cls_head_finetune.weight", "blocks.blocks.0.dapt.adapter.down.weight"} <= moved
    headless = tuned_model(pico.backbone(), WIDE, seed=1)
    assert pico.bits(headless.state_dict()) == {
        name: bits for name, bits in pico.bits(first).items() if not name.startswith("cls_head_finetune.")
    }


def test_without_classes_it_is_grafted_too():
    model = create("point-mae", tuning="lora:rank=2", **TINY_OPTIONS)
    assert model.headless
    assert [graft.tuning.partition(":")[0] for graft in model.backbone.grafts] == ["lora"]
    prompted = create("point-mae", tuning=WIDE, **TINY_OPTIONS)
    with torch.no_grad():
        assert prompted.features(cloud(0, 2, 64)).shape == (2, 3 * 16)


SAYS = "lets a head see prompts alone, and this model answers for every point"


@pytest.mark.parametrize("tuning", [IDPT(readout="prompt"), DAPT(rank=4, readout="prompts")], ids=str)
def test_a_readout_of_prompts_alone_is_refused_where_a_head_is_of_parts(tuning):
    small = {"depth": 3, "width": 24, "heads": 2, "groups": 16, "group_size": 8, "tokenizer": (4, 6, 8)}
    with pytest.raises(UsageError, match=SAYS):
        create("point-mae", preset="shapenetpart", tuning=tuning, **small)
    spec, parts = parse_backbone("point-mae-shapenetpart"), parse_any_head("parts")
    assert SAYS in refusal(tuning, spec, parts)
    assert refusal(tuning, spec, parse_any_head("mlp3")) == refusal(tuning, spec) == ""


def test_one_refusal_is_told_by_all():
    """By the story, and by what counts memory, of a tuning that nobody asked for by name."""
    narrow = dataclasses.replace(pico.SPEC, width=6)
    why = refusal(TUNINGS.parse("adaptformer"), narrow)
    assert "has rank=64, and" in why
    found = compare_memory(["all"], str(narrow), batch=2)
    setting = pico.setting(start=dataclasses.replace(pico.START, backbone=narrow))
    assert found.left_out["adaptformer"] == Compare().left_out(setting)["adaptformer"] == why
