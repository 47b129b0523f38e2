"""Several models with grafts in one mix: it is that of what they do, or is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import pico
from my_tunings import tuned
from pico import FIT, HEAD_FIT, START
from wisetune import fold, mix
from wisetune.build.builder import backbone_of
from wisetune.build.grafts import grafts_of
from wisetune.errors import UsageError, WeightsError
from wisetune.nets.heads import LinearHead
from wisetune.recipe import Mix, Tune, digest, to_json, tree_in_words
from wisetune.store import Store
from wisetune.tune.linear import Linear
from wisetune.tune.tunings import TUNINGS
from wisetune.weights.uniform import Uniform
from wisetune.weights.wise import Wise

DATA = pico.data()
QUICK = dataclasses.replace(FIT, epochs=2)


def tune(text, start=START, seed=0, head_from="fresh"):
    return Tune(start, TUNINGS.parse(text), LinearHead(), DATA.training_digest, QUICK, seed, head_from)


LORAS = [tune("lora:rank=4"), tune("lora:rank=4", seed=1), tune("lora:rank=2,at=proj+fc1", seed=2)]
QKV = "blocks.blocks.1.attn.qkv.weight"


def of_weights(builder, recipe):
    """A model's weights, what was grafted put into them."""
    return fold(builder.model(recipe)).backbone.state_dict()


@pytest.mark.parametrize(
    ("parts", "merge", "counts"),
    [
        ((LORAS[0], LORAS[1]), Uniform(), (0.5, 0.5)),
        ((START, LORAS[0], LORAS[1]), Uniform(), (1 / 3, 1 / 3, 1 / 3)),
        ((LORAS[0], LORAS[1]), Wise(0.25), (0.75, 0.25)),
        ((LORAS[0], LORAS[2], tune("ssf"), tune("bitfit"), tune("full")), Uniform(), (0.2,) * 5),
    ],
)
def test_folded_models_are_mixed_as_weights(tmp_path, parts, merge, counts):
    builder, recipe = pico.builder(tmp_path), Mix(parts, merge, fold=True)
    soup = builder.model(recipe)
    assert soup.backbone.grafts == grafts_of(recipe) == ()
    weights = [of_weights(builder, part) for part in parts]
    assert not torch.equal(weights[0][QKV], weights[1][QKV])
    for key, value in soup.backbone.state_dict().items():
        if value.is_floating_point():
            wanted = sum(count * state[key].double() for count, state in zip(counts, weights, strict=True))
            torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-6, msg=key)
    again = pico.builder(tmp_path).model(recipe)
    assert pico.bits(again.state_dict()) == pico.bits(soup.state_dict())
    headed = Tune(recipe, Linear(), LinearHead(), DATA.training_digest, HEAD_FIT)
    assert backbone_of(headed) == recipe
    assert builder.model(headed).backbone.grafts == ()


def test_a_mix_that_folds_has_another_digest_and_says_so():
    plain, folded = Mix(tuple(LORAS[:2]), Wise(1.0)), Mix(tuple(LORAS[:2]), Wise(1.0), fold=True)
    assert digest(plain) != digest(folded)
    assert "fold" not in to_json(plain)
    assert next(tree_in_words(to_json(folded))) == "mix wise at alpha 1, grafts folded into weights first"
    assert backbone_of(folded) == folded, "its weights are those of the last part up to rounding, and not its bits"


ADAPTED = tune("adapter:rank=4")


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            (LORAS[0], LORAS[1]),
            r"'lora:.*' have learnt apart: a mean of factors is not .* on from the other; or put .*Mix\(parts, merge, fold=True\)",
        ),
        ((START, LORAS[0], LORAS[1]), "have learnt apart: a mean of factors"),
        ((LORAS[0], tune("full", LORAS[0], head_from="start")), "have learnt apart: a mean of factors"),
        ((LORAS[0], LORAS[2]), r"mixes backbones with different grafts: .* Mix models with the same ones; or put .*fold=True"),
        (
            (ADAPTED, tune("adapter:rank=4", seed=1)),
            r"'adapter:.*' have learnt apart: they are no change of weights.* on from the other\.$",
        ),
        ((START, tune("dapt:rank=4"), tune("dapt:rank=4", seed=1)), "have learnt apart: they are no change of weights"),
        ((tune("full", ADAPTED, head_from="start"), ADAPTED), "have learnt apart"),
    ],
)
def test_grafts_that_learnt_apart_are_not_mixed_tensor_by_tensor(tmp_path, parts, says):
    with pytest.raises(UsageError, match=says):
        pico.builder(tmp_path).model(Mix(parts, Uniform()))
    assert [row.digest for row in Store(tmp_path).list()] == [digest(START)], "before anything is trained"


@pytest.mark.parametrize(
    "parts", [(START, ADAPTED), (tune("lora:rank=4"), tune("adapter:rank=4", LORAS[0])), (tune("prefix:length=2,hidden=4"),) * 2]
)
def test_what_is_no_change_of_weights_is_not_folded(tmp_path, parts):
    with pytest.raises(UsageError, match=r"folds what was grafted into weights, and .* which cannot be"):
        pico.builder(tmp_path).model(Mix(parts, Uniform(), fold=True))


@pytest.mark.parametrize(
    "parts",
    [
        (ADAPTED, tune("full", ADAPTED, head_from="start")),
        (LORAS[0], Tune(LORAS[0], Linear(), LinearHead(), DATA.training_digest, HEAD_FIT)),
        (LORAS[0], tune("adapter:rank=4", LORAS[0])),
        (Mix((START, LORAS[0]), Wise(0.5)), LORAS[0]),
    ],
)
def test_grafts_of_which_one_learnt_on_or_that_are_the_same_are_mixed(tmp_path, parts):
    builder = pico.builder(tmp_path)
    soup, *models = (builder.model(recipe) for recipe in (Mix(parts, Uniform()), *parts))
    one, other, middle = (model.backbone.state_dict() for model in (*models, soup))
    for key, value in middle.items():
        if key in one and value.is_floating_point():
            torch.testing.assert_close(value, (one[key] + other[key]) / 2)


def pair(text):
    return [tuned(TUNINGS.parse(text), seed=seed) for seed in (0, 1)]


def test_two_models_whose_grafts_are_factors_are_mixed_once_they_are_folded():
    one, other = pair("lora:rank=4")
    with pytest.raises(WeightsError, match=r"both models have what 'lora:.*' grafts, .*wisetune\.mix\(wisetune\.fold\(start\), "):
        mix(one, other, 0.25)
    mixed = mix(fold(one), fold(other), 0.25).backbone.state_dict()[QKV]
    weights = [fold(model).backbone.state_dict()[QKV] for model in (one, other)]
    torch.testing.assert_close(mixed, 0.75 * weights[0] + 0.25 * weights[1])
    assert mix(one, one, 0.25).backbone.grafts == one.backbone.grafts, "the same factors are on no line"


@pytest.mark.parametrize("text", ["lora:rank=4", "ssf", "adapter:rank=4"])
def test_of_states_with_grafts_of_other_values_nobody_knows_what_multiplies(text):
    one, other = (model.state_dict() for model in pair(text))
    with pytest.raises(WeightsError, match=r"both states have a tuning's graft with other values, first .*give these themselves"):
        mix(one, other, 0.5, head_prefixes=("cls_head_finetune",))


def features(model):
    with torch.inference_mode():
        return model.features(torch.from_numpy(DATA.test.points))


@pytest.mark.parametrize("text", ["lora:rank=4", "dapt:rank=4", "vpt:prompts=2"])
def test_in_state_dicts_too_a_graft_that_the_start_lacks_counts_by_alpha(text):
    start, end = tuned(), tuned(TUNINGS.parse(text), seed=1)
    for alpha in (0.0, 0.25, 1.0):
        state = mix(start.state_dict(), end.state_dict(), alpha, head_prefixes=("cls_head_finetune",))
        assert pico.bits(state) == pico.bits(mix(start, end, alpha).state_dict())


def test_a_soup_of_states_loses_no_graft():
    start, (one, other) = tuned().state_dict(), (model.state_dict() for model in pair("lora:rank=4"))
    half = Uniform().merge([start, one])
    assert {float(value) for key, value in half.items() if key.endswith(".share")} == {0.5}
    for states in ([start, one, other], [one, start]):
        with pytest.raises(
            WeightsError, match=r"grafted at 'blocks.*' is in . states? of ., .* Put the one state that has it last; .*wisetune\.fold"
        ):
            Uniform().merge(states)
