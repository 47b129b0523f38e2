"""What a tuning may graft."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
from torch import nn

import pico
from my_tunings import Adapter, Bottleneck, Factor, tuned
from wisetune.errors import UsageError
from wisetune.nets.model import Model
from wisetune.tune.full import Full
from wisetune.tune.graft import Grafting
from wisetune.tune.tunings import TUNINGS


@dataclasses.dataclass(frozen=True)
class By(Full):
    """Grafts by any function."""

    what: Callable[[Model], object]

    def graft(self, model):
        self.what(model)

    def __str__(self):
        return "by"

    in_full = __str__


def prompt(model):
    model.backbone.prompt = nn.Parameter(torch.zeros(1, 2, 16))


def table(model):
    model.backbone.register_buffer("table", torch.zeros(2))


def gain(model):
    model.backbone.norm.weight = nn.Parameter(torch.ones(16))


def mean(model):
    model.backbone.encoder.norm1.running_mean = torch.zeros(8)


def closure(model):
    factor = model.backbone.norm.factor = Factor(2.0)
    model.backbone.norm.register_forward_hook(lambda *at: factor.after(*at))


def outside(model):
    model.backbone.norm.register_forward_hook(Factor(2.0).after)


def partly(model):
    factor = model.backbone.norm.factor = Factor(2.0)
    model.backbone.norm.register_forward_pre_hook(functools.partial(factor.after, None))


def on_the_head(model):
    factor = model.backbone.norm.factor = Factor(2.0)
    model.head.register_forward_hook(factor.after)


def instead(model):
    norm = model.backbone.norm
    was, norm.factor = norm.forward, Factor(2.0)
    norm.forward = lambda x: 2 * was(x)


@pytest.mark.parametrize(("graft", "name"), [(prompt, "prompt"), (table, "table"), (gain, "norm.weight"), (mean, "encoder.*running_mean")])
def test_a_parameter_or_buffer_is_not_replaced(graft, name):
    first = [By(graft)] if name in ("prompt", "table") else []
    model = tuned(*first)
    with pytest.raises(UsageError, match=f"'by' grafts in the place of '{name}', which the backbone had before"):
        By(graft).graft_into(model)


def test_what_has_two_names_is_refused():
    """A file has two tensors of it, and what is read from it would be trained as two."""

    def shared(model):
        first, second = model.backbone.blocks.blocks
        first.adapter = second.adapter = Bottleneck(16, 2)

    with pytest.raises(UsageError, match=r"'by' grafts 'blocks.blocks.0.adapter.down.weight' under another name too"):
        By(shared).graft_into(tuned())


@pytest.mark.parametrize(
    ("graft", "place"),
    [
        (closure, r"backbone.norm.forward_hooks\[\d+\]"),
        (outside, r"backbone.norm.forward_hooks\[\d+\]"),
        (partly, r"backbone.norm.forward_pre_hooks\[\d+\]"),
        (on_the_head, r"head.forward_hooks\[\d+\]"),
        (instead, "backbone.norm.forward"),
    ],
)
def test_what_a_copy_would_not_call_as_its_own_is_refused(graft, place):
    with pytest.raises(UsageError, match=f"'by' grafts a call at '{place}' that a copy of the backbone would lack"):
        By(graft).graft_into(tuned())


def extra(model):
    model.head.extra = Bottleneck(16, 2)


def another_head(model):
    model.head = Bottleneck(16, 2)


def beside(model):
    model.register_buffer("table", torch.ones(2))


@pytest.mark.parametrize(("graft", "name"), [(extra, "head.extra"), (another_head, "head"), (beside, "table")])
def test_nothing_is_grafted_outside_the_backbone(graft, name):
    """The file of a model has its backbone's grafts, and a head that its spec builds."""
    with pytest.raises(UsageError, match=f"'by' grafts '{name}' outside the backbone"):
        By(graft).graft_into(tuned())


def test_hooks_that_were_there_are_not_the_grafts():
    model = tuned()
    model.backbone.norm.register_forward_hook(lambda *_: None)
    Adapter().graft_into(model)
    assert isinstance(model.backbone.blocks.blocks[0].adapter, Bottleneck)


@dataclasses.dataclass(frozen=True)
class Mlp(Grafting):
    """Its class has the name of a part of a block."""

    def graft(self, model):
        for site in model.backbone.anatomy.sites:
            graft = self.put(model, site.fc2, Bottleneck(site.width, 2))
            model.backbone.get_submodule(site.fc2).register_forward_hook(graft.after)


class Weight(Mlp):
    """Its class has the name of a parameter."""


class Attn(Grafting):
    """Its class has the name of a part that is there."""

    def graft(self, model):
        self.put(model, model.backbone.anatomy.sites[0].block, Bottleneck(16, 2))


def test_what_trains_is_what_was_grafted_and_not_what_is_called_like_it():
    tuning, model = Mlp(), tuned(Mlp(), spec=pico.TOKEN_SPEC)
    parts = [f"backbone.{site.fc2}.mlp.{part}" for site in model.backbone.anatomy.sites for part in PARTS]
    assert list(tuning.trained(model)) == [*parts, "head.weight", "head.bias", "backbone.cls_token", "backbone.cls_pos"]
    grafts = [model.backbone.get_submodule(f"{site.fc2}.mlp") for site in model.backbone.anatomy.sites]
    assert tuning.in_training(model) == [*grafts, model.head]


PARTS = ("down.weight", "down.bias", "up.weight", "up.bias")


@pytest.mark.parametrize(("tuning", "name"), [(Weight(), "mlp.fc2.weight"), (Attn(), "attn")])
def test_a_graft_called_like_what_is_there_is_refused(tuning, name):
    with pytest.raises(UsageError, match=f"grafts in the place of 'blocks.blocks.0.{name}', which the backbone had before"):
        tuning.graft_into(tuned())


@pytest.mark.parametrize("text", ["ppt", "pointlora:rank=4", "linear:class-token=true", "idpt:reading=as_published"])
def test_what_trains_is_said_in_one_place(text):
    """Of a class token too, of positions and the tokenizer, and of what a published filter of names misses."""
    tuning = TUNINGS.parse(text)
    model = tuned(tuning, spec=pico.TOKEN_SPEC)
    trained = tuning.trained(model)
    assert set(trained) == {name for name, _ in model.named_parameters() if tuning.trains(name, model.backbone)}
    assert tuning.trains("backbone.cls_token", model.backbone)
    assert tuning.trains("backbone.pos_embed.0.weight", model.backbone) == (text in ("ppt", "pointlora:rank=4"))
    assert not tuning.trains("backbone.blocks.blocks.1.norm1.weight", model.backbone)
    assert "backbone.blocks.idpt.position" not in trained
    last = ["cls_token", "cls_pos"]
    if text.startswith("p"):
        last += [f"pos_embed.{part}" for part in ("0.weight", "0.bias", "2.weight", "2.bias")]
        last += [f"encoder.first_conv.{part}" for part in ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")]
    assert list(trained)[-len(last) :] == [f"backbone.{name}" for name in last], "the order in which they are summed and stored"


@pytest.mark.parametrize("text", ["lora:at=", "lora:at=q+q", "adapter:after=", "adapter:after=mlp+mlp"])
def test_a_tuning_that_would_graft_nothing_or_one_thing_twice_is_refused(text):
    with pytest.raises(UsageError, match=r"it takes at least one of .*, each once"):
        TUNINGS.parse(text)
