"""What a tuning may graft."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from my_tunings import Adapter, Bottleneck, Factor, tuned
from wisetune.errors import UsageError
from wisetune.nets.model import Model
from wisetune.tune.full import Full


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
