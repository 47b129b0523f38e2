"""Which BatchNorms a mix measures again: those whose statistics moved in training, whoever mixes."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

import pico
from pico import FIT
from wisetune import mix
from wisetune.nets.heads import LinearHead, Mlp3Head
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Start, to_json
from wisetune.results import Variant
from wisetune.stories.story import norms_that_train
from wisetune.stories.wise_ft import WiseFt
from wisetune.tune.tunings import TUNINGS
from wisetune.weights.batchnorm import trained_norms
from wisetune.weights.merge import with_shares
from wisetune.weights.mix import mixable

DATA = pico.data()
QUICK = dataclasses.replace(FIT, epochs=3)
HEAD = Mlp3Head(hidden=8)
TOKENIZER = {"backbone.encoder.first_conv.1", "backbone.encoder.second_conv.1"}
OF_HEAD = {"head.1", "head.5"}
IDPT = {f"backbone.blocks.idpt.{part}norm" for part in ("", "edges.0.", "edges.1.", "edges.2.")}


def trees(text, head=HEAD, spec=pico.TOKEN_SPEC, alpha=0.5):
    setting = pico.setting(
        start=Start(spec, "random:0"), task=DATA.training_digest, fit=QUICK, head=head, tuning=TUNINGS.parse(text), complete=False
    )
    return WiseFt((alpha,)).recipes(setting)


def made(root, text, **options):
    """A mix as ``wisetune run`` makes it, the tuned model, and the BatchNorms that were measured again."""
    builder = pico.builder(root, spec=options.get("spec", pico.TOKEN_SPEC))
    found = trees(text, **options)
    recipe = next(tree for variant, tree in found.items() if variant.alpha not in (None, 1.0))
    mixed, tuned = builder.model(recipe), builder.model(found[Variant("ft")])
    lines = [line for line in builder.log(recipe) if line["audit"] == "batchnorm"]
    return mixed, tuned, set(lines[0]["updated"]) if lines else set(), builder.model(recipe.parts[0])


@pytest.mark.parametrize(
    ("text", "measured"),
    [
        ("full", TOKENIZER | OF_HEAD),
        ("lora:rank=4", OF_HEAD),
        ("lora:rank=4,reading=as_published", TOKENIZER | OF_HEAD),
        ("bitfit:biases=all", OF_HEAD),
        ("ppt:rank=4", OF_HEAD),
        ("ppt:rank=4,reading=as_published", TOKENIZER | OF_HEAD),
        ("pointlora:rank=4,reading=as_published", TOKENIZER | OF_HEAD),
        ("idpt", OF_HEAD | IDPT),
        ("linear", set()),
        ("linear:class-token=true", set()),
    ],
)
def test_a_run_and_mix_measure_what_moved_in_training_and_no_more(tmp_path, text, measured):
    mixed, tuned, updated, start = made(tmp_path, text)
    assert updated == measured
    again = mix(start, tuned, 0.5, clouds=DATA.train.points)
    assert pico.bits(again.state_dict()) == pico.bits(mixed.state_dict()), "mix does as a run does"
    without = mix(start, tuned, 0.5)
    moved = {name.rpartition(".")[0] for name, value in without.state_dict().items() if not torch.equal(value, again.state_dict()[name])}
    named = {name.removeprefix("backbone.").replace("head.", "cls_head_finetune.") for name in measured}
    assert moved == named


def seen_by_the_head(model, points):
    """What enters the head's first BatchNorm."""
    seen = []
    handle = model.head[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.from_numpy(points))
    handle.remove()
    return torch.cat(seen)


@pytest.mark.parametrize("text", ["full", "lora:rank=4", "dapt:rank=4", "vpt:prompts=2"])
def test_the_statistics_of_a_head_fit_the_features_of_the_mix(tmp_path, text):
    mixed, *_ = made(tmp_path, text)
    values = seen_by_the_head(mixed, DATA.train.points)
    norm = mixed.head[1]
    off = (norm.running_mean - values.mean(dim=0)) / values.std(dim=0)
    assert off.abs().max() < 0.15, "in standard deviations; of full the batches are normalised by their own in the tokenizer"


@pytest.mark.parametrize("spec", [pico.TOKEN_SPEC, pico.PYRAMID], ids=["plain", "pyramid"])
@pytest.mark.parametrize("text", ["bitfit:biases=all", "ppt:rank=4", "lora:rank=4"])
def test_where_a_tokenizer_rested_the_line_leads_to_the_tuned_model(tmp_path, text, spec):
    """Its statistics are what the weights before it learnt with: measured again, features just below alpha 1 would be a third off."""
    mixed, tuned, updated, start = made(tmp_path, text, spec=spec, alpha=0.99)
    points = torch.from_numpy(DATA.test.points)

    def far(model):
        with torch.no_grad():
            return float((model.features(points) - tuned.features(points)).norm() / tuned.features(points).norm())

    assert far(mixed) < 0.05
    assert updated == OF_HEAD
    assert tuned.backbone.grafts == mixed.backbone.grafts
    assert start.backbone.grafts == ()


@pytest.mark.parametrize("text", ["lora:rank=4", "dapt:rank=4", "bitfit:biases=all", "linear:class-token=true"])
def test_a_linear_head_has_nothing_to_measure(text):
    found = trees(text, head=LinearHead())
    assert {tree.task for tree in found.values() if isinstance(tree, Mix)} == {None}


@pytest.mark.parametrize("name", TUNINGS.names())
@pytest.mark.parametrize("head", [LinearHead(), HEAD], ids=str)
@pytest.mark.parametrize("reading", ["as_intended", "as_published"])
def test_the_recipe_says_before_training_what_is_found_after_it(name, head, reading):
    """Of every tuning: what is in training mode, and what moved in a step."""
    tuning = pico.tuning(name)
    if hasattr(tuning, "reading"):
        tuning = dataclasses.replace(tuning, reading=reading)
    said = norms_that_train(tuning, pico.TOKEN_SPEC, head)
    start = pico.backbone(pico.TOKEN_SPEC)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bare = Model(copy.deepcopy(start), nn.Identity())
        tuning.graft_into(bare)
        model = Model(bare.backbone, head.build(bare.backbone.feature_width, 4), head, DATA.classes)
        chosen = tuning.freeze(model).values()
        for module in tuning.in_training(model.eval()):
            module.train()
        points = torch.from_numpy(DATA.train.points[:8])
        torch.nn.functional.cross_entropy(model(points), torch.arange(8) % 4).backward()
        torch.optim.SGD(chosen, lr=0.1).step()
    found = trained_norms(model, with_shares([mixable(start, is_start=True), mixable(model.backbone, is_start=False)]))
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert said == ("none" if not found else "all" if set(found) == norms else "trained")
    assert set(found) <= norms


def test_a_recipe_says_which_are_measured_and_full_fine_tuning_is_spelled_as_before():
    whole, some = (trees(text)[Variant("wise-ft", 0.5)] for text in ("full", "lora:rank=4"))
    assert "norms" not in to_json(whole)
    assert to_json(some)["norms"] == "trained"
