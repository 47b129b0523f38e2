"""A tuning that grafts, from outside wisetune and in a few lines, keeps all that the builder promises."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

import pico
from pico import FIT, HEAD_FIT, START, bits
from wisetune.build.builder import backbone_of
from wisetune.nets.heads import LinearHead
from wisetune.recipe import Tune, digest
from wisetune.spec import Catalog
from wisetune.store import Store
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.tune.tunings import TUNINGS


class Bottleneck(nn.Module):
    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up, self.drop = nn.Linear(width, rank), nn.Linear(rank, width), nn.Dropout(0.5)

    def after(self, _module, _inputs, output):
        return output + self.up(self.drop(torch.relu(self.down(output))))


@dataclasses.dataclass(frozen=True)
class Adapter(Full):
    rank: int = 2

    def trains(self, name):
        return name.startswith("head.") or ".adapter." in name

    def graft(self, model):
        for block in model.backbone.blocks.blocks:
            block.adapter = Bottleneck(model.backbone.width, self.rank)
            block.register_forward_hook(block.adapter.after)

    def in_training(self, model):
        return [model.head, *(block.adapter for block in model.backbone.blocks.blocks)]


DATA = pico.data()
QUICK = dataclasses.replace(FIT, epochs=2)
ADAPTED = Tune(START, Adapter(), LinearHead(), DATA.training_digest, QUICK)
PROBED = Tune(ADAPTED, Linear(), LinearHead(), DATA.training_digest, HEAD_FIT)


def build(root, recipe):
    return pico.builder(root).model(recipe)


def logits(model):
    with torch.inference_mode():
        return model(torch.from_numpy(DATA.test.points))


def test_it_is_trained_stored_as_what_was_grafted_and_loads_bit_for_bit(tmp_path):
    built = build(tmp_path, ADAPTED)
    stored = Store(tmp_path).load(digest(ADAPTED)).tensors
    grafts = {f"blocks.blocks.{block}.adapter.{part}.{kind}" for block in (0, 1) for part in ("down", "up") for kind in ("weight", "bias")}
    assert set(stored) == grafts | {"cls_head_finetune.weight", "cls_head_finetune.bias"}
    fresh = pico.backbone().state_dict()
    assert bits({name: value for name, value in built.state_dict().items() if name in fresh}) == bits(fresh), "the backbone rests"
    loaded = build(tmp_path, ADAPTED)
    assert bits(loaded.state_dict()) == bits(built.state_dict())
    assert torch.equal(logits(loaded), logits(built))
    assert not torch.equal(logits(built), logits(build(tmp_path, Tune(START, Linear(), LinearHead(), DATA.training_digest, QUICK))))


def test_what_is_built_on_it_has_grafts_of_its_own(tmp_path):
    """A copy whose hooks called the original's grafts would train, and show, the original."""
    built = build(tmp_path, PROBED)
    loaded = build(tmp_path, PROBED)
    assert backbone_of(PROBED) == ADAPTED
    assert set(Store(tmp_path).load(digest(PROBED)).tensors) == {"cls_head_finetune.weight", "cls_head_finetune.bias"}
    assert torch.equal(logits(loaded), logits(built))
    builder = pico.builder(tmp_path)
    parent, child = (
        builder.model(ADAPTED),
        builder.model(Tune(ADAPTED, Full(), LinearHead(), DATA.training_digest, QUICK, head_from="start")),
    )
    before = logits(parent)
    with torch.no_grad():
        for block in child.backbone.blocks.blocks:
            block.adapter.up.weight.fill_(3.0)
    assert torch.equal(logits(parent), before)


def test_only_what_it_names_is_in_training_mode(tmp_path, monkeypatch):
    """Drop path and BatchNorm of a backbone that rests would else be active, and its statistics move."""
    from wisetune.fit import finetune

    modes = []
    set_modes = finetune._Tuned.to_training_mode

    def look(self):
        set_modes(self)
        modes.append({name for name, module in self.model.named_modules() if module.training})

    monkeypatch.setattr(finetune._Tuned, "to_training_mode", look)
    build(tmp_path / "a", ADAPTED)
    assert len(modes) == QUICK.epochs
    assert all(name.startswith("head") or ".adapter" in name for name in set.union(*modes))
    assert {"backbone.blocks.blocks.1.adapter.drop", "head"} <= modes[-1]
    build(tmp_path / "b", Tune(START, Full(), LinearHead(), DATA.training_digest, QUICK))
    assert "backbone.encoder.first_conv.1" in modes[-1]


def test_initial_values_follow_from_the_seed(tmp_path):
    still = dataclasses.replace(QUICK, epochs=1, lr=1e-12, weight_decay=0.0)
    downs = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        model = build(tmp_path / str(number), dataclasses.replace(ADAPTED, fit=still, seed=seed))
        downs.append(model.backbone.blocks.blocks[0].adapter.down.weight)
    assert torch.allclose(downs[0], downs[1], atol=1e-9)
    assert not torch.allclose(downs[0], downs[2], atol=1e-3)


def test_it_is_an_entry_by_its_address():
    catalog: Catalog = TUNINGS
    assert catalog.parse("test_graft:Adapter:rank=3") == Adapter(3)
    assert str(Adapter(3)) == "test_graft:Adapter:rank=3"
