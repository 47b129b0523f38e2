"""A tuning that grafts, from outside wisetune and in a few lines, keeps all that the builder promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import pico
from my_tunings import Adapter, Forgetful, Loose, Reading, Scaled, ScaledProbe
from pico import FIT, HEAD_FIT, START, bits
from wisetune.build.builder import backbone_of
from wisetune.build.grafts import grafts_of
from wisetune.catalog import Catalog
from wisetune.errors import UsageError
from wisetune.nets.create import fresh_head
from wisetune.nets.heads import LinearHead
from wisetune.recipe import Mix, Tune, digest, walk
from wisetune.results import Variant
from wisetune.store import Store
from wisetune.stories.lp_ft import LpFt
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.tune.tunings import TUNINGS
from wisetune.weights.uniform import Uniform
from wisetune.weights.wise import Wise

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
    assert catalog.parse("my_tunings:Adapter:rank=3") == Adapter(3)
    assert str(Adapter(3)) == "my_tunings:Adapter:rank=3"


TUNED = Tune(ADAPTED, Full(), LinearHead(), DATA.training_digest, QUICK, head_from="start")
"""All of it trains on, the adapters too."""


@pytest.mark.parametrize("recipe", [START, ADAPTED, PROBED, TUNED, Mix((ADAPTED, TUNED), Wise(0.5))])
def test_the_recipe_tells_what_the_backbone_notes(tmp_path, recipe):
    noted = build(tmp_path, recipe).backbone.grafts
    assert grafts_of(recipe) == noted
    assert tuple(graft.tuning for graft in noted) == (() if recipe == START else ("my_tunings:Adapter:rank=2",))


def test_an_option_with_which_nothing_is_grafted_is_no_graft(tmp_path):
    nothing = dataclasses.replace(ADAPTED, tuning=Adapter(0))
    assert grafts_of(nothing) == ()
    assert build(tmp_path, Mix((START, nothing), Wise(0.5))).backbone.grafts == ()
    assert (
        backbone_of(dataclasses.replace(ADAPTED, tuning=ScaledProbe()))
        != START
        == backbone_of(Tune(START, Linear(), LinearHead(), "", FIT))
    )


def test_a_tuning_whose_buffer_would_not_be_stored_is_refused_before_it_trains(tmp_path):
    with pytest.raises(UsageError, match=r"'my_tunings:Forgetful' grafts the buffer 'norm.table'.*persistent=True"):
        build(tmp_path, dataclasses.replace(ADAPTED, tuning=Forgetful()))
    with pytest.raises(UsageError, match=r"'my_tunings:Loose' grafts the tensor 'norm.factor.by'.*a parameter or a buffer"):
        build(tmp_path, dataclasses.replace(ADAPTED, tuning=Loose()))
    assert [row.digest for row in Store(tmp_path).list()] == [digest(START)]


@pytest.mark.parametrize("way", ["item", "numpy"])
def test_a_tuning_that_reads_values_while_it_grafts_is_refused(way):
    """What it adds has to be known before anything is built."""
    with pytest.raises(
        UsageError, match=r"Reading.* reads values while it grafts \(.*\)\. What it adds is looked at on a model without values"
    ):
        grafts_of(dataclasses.replace(ADAPTED, tuning=Reading(way=way)))


def test_what_is_grafted_twice_is_refused(tmp_path):
    """The first adapter would go on being called, and be in no file. The first is not trained for it."""
    with pytest.raises(UsageError, match=r"grafts in the place of 'blocks.blocks.0.adapter'.* names of its own"):
        build(tmp_path, dataclasses.replace(TUNED, tuning=Adapter()))
    assert [row.digest for row in Store(tmp_path).list()] == [digest(START)]


def test_a_head_alone_trains_on_what_the_grafts_let_it_see(tmp_path):
    """Not on the features of the start, which are at hand."""
    builder = pico.builder(tmp_path)
    builder.model(Tune(START, Linear(), LinearHead(), DATA.training_digest, HEAD_FIT))
    blind = Tune(START, ScaledProbe(0.0), LinearHead(), DATA.training_digest, dataclasses.replace(HEAD_FIT, weight_decay=0.0))
    assert backbone_of(blind) == blind
    model = builder.model(blind)
    fresh = fresh_head(LinearHead(), model.backbone, len(DATA.classes), 0)
    assert torch.equal(model.head.weight, fresh.weight)
    assert not torch.equal(model.head.bias, fresh.bias)


def features(model):
    with torch.inference_mode():
        return model.features(torch.from_numpy(DATA.test.points))


@pytest.mark.parametrize("merge", [Wise(0.5), Uniform()], ids=str)
def test_backbones_with_the_same_grafts_are_mixed_adapters_too(tmp_path, merge):
    builder = pico.builder(tmp_path)
    mixed, *parts = (builder.model(recipe) for recipe in (Mix((ADAPTED, TUNED), merge), ADAPTED, TUNED))
    key = "blocks.blocks.1.adapter.up.weight"
    one, other, middle = (model.state_dict()[key] for model in (*parts, mixed))
    assert not torch.equal(one, other)
    torch.testing.assert_close(middle, (one + other) / 2)
    ends = [builder.model(Mix((ADAPTED, TUNED), Wise(alpha))) for alpha in (0.0, 1.0)]
    assert [torch.equal(features(end), features(part)) for end, part in zip(ends, parts, strict=True)] == [True, True]


MIXES = [
    Mix((START, ADAPTED), Wise(0.0)),
    Mix((ADAPTED, Tune(START, Full(), LinearHead(), DATA.training_digest, QUICK)), Wise(0.5)),
    Mix((dataclasses.replace(ADAPTED, tuning=Adapter(3)), ADAPTED), Uniform()),
    Mix((dataclasses.replace(ADAPTED, tuning=Scaled(0.5)), dataclasses.replace(ADAPTED, tuning=Scaled(2.0))), Uniform()),
]


@pytest.mark.parametrize("mixed", MIXES, ids=str)
def test_backbones_with_other_grafts_are_refused_before_anything_is_trained(tmp_path, mixed):
    """Copied to all of the line, adapters of a backbone that rests would be the tuned model at every alpha, and at 0 be called the start."""
    for recipe in (mixed, Tune(mixed, Linear(), LinearHead(), DATA.training_digest, HEAD_FIT)):
        assert mixed in set(walk(recipe))
        with pytest.raises(UsageError, match=r"mixes backbones with different grafts: .* Mix models with the same ones"):
            build(tmp_path, recipe)
    assert [row.digest for row in Store(tmp_path).list()] == [digest(START)]


@pytest.mark.parametrize(("text", "near"), [("dapt:rank=4", 1e-5), ("idpt:neighbours=3,readout=prompt", 0.02), ("ppt:rank=4", 1e-5)])
def test_a_head_goes_on_from_what_it_read_beside_untrained_grafts(tmp_path, text, near):
    """LP-FT: at the first step the model is the probed one, its head and its grafts; of these BatchNorms have statistics, which move in training."""
    tuning = TUNINGS.parse(text)
    setting = pico.setting(
        tuning=tuning, task=DATA.training_digest, head_fit=HEAD_FIT, gentle_fit=dataclasses.replace(QUICK, lr=1e-12, epochs=1, batch=36)
    )
    lp_ft = LpFt().recipes(setting)[Variant("lp-ft")]
    builder = pico.builder(tmp_path)
    before, after = builder.model(lp_ft.start), builder.model(lp_ft)
    assert backbone_of(lp_ft.start) == lp_ft.start
    assert [graft.tuning for graft in before.backbone.grafts] == [graft.tuning for graft in after.backbone.grafts] == [tuning.in_full()]
    within = (logits(after) - logits(before)).abs() < near
    assert within.float().mean() > 0.9, "a cloud may have other neighbours"
    now = before.backbone.state_dict()
    assert bits({name: now[name] for name in pico.backbone().state_dict()}) == bits(pico.backbone().state_dict()), "the backbone rests"
    means = [value for name, value in now.items() if ".idpt." in name and name.endswith("running_mean")]
    assert all(value.all() for value in means)
    assert len(means) == (4 if tuning.name == "idpt" else 0)
    assert not torch.equal(before.head.weight, fresh_head(LinearHead(), before.backbone, len(DATA.classes), 0).weight)
    fresh = pico.builder(tmp_path)
    for recipe in (lp_ft, lp_ft.start):
        assert bits(fresh.model(recipe).state_dict()) == bits(builder.model(recipe).state_dict())


def test_a_head_that_reads_other_tokens_than_there_are_does_not_go_on(tmp_path):
    probed = Tune(START, Linear(), LinearHead(), DATA.training_digest, HEAD_FIT)
    wider = Tune(probed, TUNINGS.parse("dapt:rank=4"), LinearHead(), DATA.training_digest, QUICK, head_from="start")
    with pytest.raises(
        UsageError, match=r"goes on from a head that reads 32 numbers \(max\+mean\), and with what 'dapt:rank=4' grafts there are 48"
    ):
        build(tmp_path, wider)
    assert [row.digest for row in Store(tmp_path).list()] == [digest(START)]
