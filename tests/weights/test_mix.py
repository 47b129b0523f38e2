from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pico
from my_tunings import Adapter, Scaled, tuned
from wisetune.errors import DataError, UsageError, WeightsError
from wisetune.nets.create import BACKBONES, assemble, create, parse_any_head
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter
from wisetune.weights.mix import mix, unmixed

FRESH = {"point-mae": {"cls_token", "cls_pos"}, "point-m2ae": {"norm.weight", "norm.bias"}}
EVERY_PART: dict[str, dict[str, object]] = {"point-mae": {"class_token": True, "readout": "lead+max"}}


def start() -> dict[str, Tensor]:
    return {"backbone.w": torch.zeros(2), "header.w": torch.zeros(1), "head.w": torch.full((5, 2), 9.0), "decoder.w": torch.ones(1)}


def finetuned() -> dict[str, Tensor]:
    return {
        "backbone.w": torch.ones(2),
        "header.w": torch.ones(1),
        "head.w": torch.ones(3, 2),
        "head.n": torch.tensor(7),
        "backbone.n": torch.tensor(3),
    }


def test_the_trained_head_is_kept_and_only_the_backbone_mixed():
    before = finetuned()
    mixed = mix(start(), before, 0.25)
    assert list(mixed) == list(before)
    assert mixed["backbone.w"].tolist() == [0.25, 0.25]
    assert torch.equal(mixed["head.w"], before["head.w"])
    assert mixed["head.w"].data_ptr() != before["head.w"].data_ptr()
    assert int(mixed["head.n"]) == 7
    # 'header' is not below 'head'.
    assert mixed["header.w"].tolist() == [0.25]


def test_the_head_may_be_dropped():
    assert list(mix(start(), finetuned(), 0.5, head="drop")) == ["backbone.w", "header.w", "backbone.n"]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_are_the_backbones_of_the_two_models(alpha):
    mixed = mix(start(), finetuned(), alpha)
    end = finetuned() if alpha else start()
    assert torch.equal(mixed["backbone.w"], end["backbone.w"])
    assert torch.equal(mixed["head.w"], finetuned()["head.w"])


def test_the_head_of_an_official_checkpoint_is_named_by_its_prefix():
    def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key.replace("head.", "cls_head_finetune."): tensor for key, tensor in state.items()}

    with pytest.raises(UsageError, match=r"head prefix 'head'.*head_prefixes"):
        mix(official(start()), official(finetuned()), 0.5)
    mixed = mix(official(start()), official(finetuned()), 0.5, head_prefixes=["cls_head_finetune."])
    assert torch.equal(mixed["cls_head_finetune.w"], torch.ones(3, 2))


def test_without_a_head_everything_is_mixed():
    mixed = mix({"w": torch.zeros(1)}, {"w": torch.ones(1)}, 0.5, head_prefixes=())
    assert mixed["w"].tolist() == [0.5]


def model(seed: int, spec=pico.TOKEN_SPEC) -> Model:
    torch.manual_seed(seed)
    return Model(pico.backbone(spec, seed), LinearHead().build(32, 3), LinearHead(), ("a", "b", "c"))


def test_two_models_make_a_model():
    start, tuned = model(0), model(1)
    before = [pico.bits(one.state_dict()) for one in (start, tuned)]
    mixed = mix(start, tuned, 0.25)
    assert [pico.bits(one.state_dict()) for one in (start, tuned)] == before
    assert (mixed.classes, mixed.training) == (("a", "b", "c"), False)
    states = [one.state_dict() for one in (start, tuned, mixed)]
    assert list(states[2]) == list(states[1])
    for key in states[2]:
        # The head, and what a pre-trained checkpoint does not have, are those of the tuned model.
        a, b, m = (state[key] for state in states)
        kept = key.startswith("cls_head_finetune.") or key in start.backbone.anatomy.fresh or not a.is_floating_point()
        torch.testing.assert_close(m, b if kept else 0.75 * a + 0.25 * b)
    assert start.backbone.anatomy.fresh
    assert torch.isfinite(mixed(torch.randn(2, pico.POINTS, 3))).all()


def test_the_start_may_be_a_backbone_alone_and_the_head_be_dropped():
    start, tuned = model(0), model(1)
    whole = mix(start, tuned, 0.5)
    assert pico.bits(mix(start.backbone, tuned, 0.5).state_dict()) == pico.bits(whole.state_dict())
    bare = mix(start.backbone, tuned, 0.5, head="drop")
    assert pico.bits(bare.state_dict()) == pico.bits(whole.backbone.state_dict())
    assert bare.features(torch.randn(2, pico.POINTS, 3)).shape == (2, 32)
    assert pico.bits(mix(start, bare, 1.0).state_dict()) == pico.bits(bare.state_dict())


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="head_prefixes were given with models"):
        mix(model(0), model(1), 0.5, head_prefixes=("head",))
    with pytest.raises(UsageError, match=r"Model and OrderedDict cannot be mixed"):
        mix(model(0), model(1).state_dict(), 0.5)
    with pytest.raises(UsageError, match=r"Linear and Model cannot be mixed"):
        mix(nn.Linear(2, 2), model(1), 0.5)
    second = r"the second model given to wisetune\.mix is a backbone \(PointMAE\) without a head, where the fine-tuned model belongs: "
    with pytest.raises(UsageError, match=second + r"the first one has a head\. Change places"):
        mix(model(0), model(1).backbone, 0.5)
    with pytest.raises(UsageError, match=second + r"give the model .*wisetune\.load_model.* head_prefixes=\(\)\)"):
        mix(model(0).backbone, model(1).backbone, 0.5)
    broken = copy.deepcopy(model(1))
    next(broken.head.parameters()).data[0] = float("nan")
    with pytest.raises(WeightsError, match="holds values"):
        mix(model(0), broken, 0.5)


def clouds(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, pico.POINTS, 3)).astype(np.float32)


def statistics(model: Model) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if "running_" in name}


def test_clouds_change_the_statistics_of_the_mix_and_nothing_else():
    start, tuned = model(0), model(1)
    plain, seen = mix(start, tuned, 0.5), mix(start, tuned, 0.5, clouds=clouds())
    assert not seen.training
    differing = {name for name, value in seen.state_dict().items() if not torch.equal(value, plain.state_dict()[name])}
    assert {name for name in differing if "num_batches" not in name} == set(statistics(plain))
    assert pico.bits(mix(start, tuned, 0.5, clouds=clouds(), head="drop").state_dict()) == pico.bits(seen.backbone.state_dict())
    for alpha in (0.0, 1.0):
        assert pico.bits(mix(start, tuned, alpha, clouds=clouds()).state_dict()) == pico.bits(mix(start, tuned, alpha).state_dict())


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (clouds()[0], DataError, r"clouds= is float32 \[64, 3\]; it takes coordinates \[clouds, points, 3\]"),
        ([], DataError, r"clouds= is float64 \[0\]"),
        ("scans", DataError, "clouds= is <U5"),
        ([clouds()[0], clouds()[1][:50]], DataError, "different numbers of points"),
        (clouds() * np.float32("nan"), DataError, "cloud 0 of the batch has coordinates that are not finite"),
        (clouds()[:, :4], DataError, "clouds have 4 points"),
    ],
)
def test_clouds_that_cannot_be_looked_at_are_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        mix(model(0), model(1), 0.5, clouds=wrong)


PARTS = {"stick": ("end", "middle"), "box": ("side",)}


def segmenter(seed: int) -> Segmenter:
    head = parse_any_head("parts:categories=2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = assemble(pico.backbone(seed=seed), head, PARTS)
        made.train()(torch.randn(6, pico.POINTS, 3), [0, 1] * 3)
    return made.eval()


def test_part_segmentation_models_are_mixed_and_their_statistics_measured_with_categories():
    start, tuned = segmenter(0), segmenter(1)
    random = np.random.default_rng(0)
    clouds, categories = random.standard_normal((40, pico.POINTS, 3)), ["stick", "box"] * 20
    plain, measured = mix(start, tuned, 0.5), mix(start, tuned, 0.5, clouds=clouds, categories=categories)
    assert (type(measured), measured.categories) == (Segmenter, PARTS)
    other = {key for key, value in plain.state_dict().items() if not torch.equal(value, measured.state_dict()[key])}
    norms = {name for name, module in measured.named_modules() if isinstance(module, nn.BatchNorm1d)}
    assert len(norms) == 7, "those of the head too"
    assert {name.rpartition(".")[0] for name in other} == {name.removeprefix("backbone.").removeprefix("head.") for name in norms}
    turned = mix(start, tuned, 0.5, clouds=clouds, categories=[1, 1] * 20)
    assert not torch.equal(turned.state_dict()["label_conv.1.running_mean"], measured.state_dict()["label_conv.1.running_mean"])
    assert pico.bits(mix(start.backbone, tuned, 0.5).state_dict()) == pico.bits(plain.state_dict())


@pytest.mark.parametrize(
    ("of", "given", "error", "says"),
    [
        (segmenter, {"clouds": torch.zeros(2, pico.POINTS, 3)}, UsageError, "clouds= was given without categories="),
        (segmenter, {"categories": [0, 1]}, UsageError, "categories= was given without clouds="),
        (
            segmenter,
            {"clouds": torch.randn(2, pico.POINTS, 3), "categories": [0, 2]},
            DataError,
            "categories are 0 to 2; this model knows 2",
        ),
        (segmenter, {"clouds": torch.randn(2, pico.POINTS, 3), "categories": ["stik", "box"]}, UsageError, "Did you mean 'stick'"),
        (model, {"clouds": torch.zeros(2, pico.POINTS, 3), "categories": [0, 1]}, UsageError, "categories= was given with a classifier"),
    ],
)
def test_categories_that_do_not_belong_are_refused(of, given, error, says):
    with pytest.raises(error, match=says):
        mix(of(0), of(1), 0.5, **given)


def test_state_dicts_cannot_look_at_clouds():
    with pytest.raises(UsageError, match="clouds= was given with state dicts"):
        mix(start(), finetuned(), 0.5, clouds=clouds())


def test_mistakes_are_refused():
    for alpha, says in (("half", "alpha is 'half'; it must be a number from 0, which"), (None, "alpha is None; it must be a number")):
        with pytest.raises(UsageError, match=says):
            mix(start(), finetuned(), alpha)
    with pytest.raises(UsageError, match=r"float and Model cannot be mixed; .*wisetune\.mix\("):
        mix(0.5, model(0), model(1))
    with pytest.raises(UsageError, match="head is 'keep'"):
        mix(start(), finetuned(), 0.5, head="keep")
    with pytest.raises(
        UsageError, match=r"alpha is 50; .* to 1, which gives the fine-tuned model; 0\.5 is halfway\. Of percent .*: 0\.5\.$"
    ):
        mix(start(), finetuned(), 50)
    with pytest.raises(UsageError, match=r"alpha is -0\.1; .* halfway\.$"):
        mix(start(), finetuned(), -0.1)
    with pytest.raises(UsageError, match="head prefix ''"):
        mix(start(), finetuned(), 0.5, head_prefixes=("",))
    with pytest.raises(WeightsError, match="1 key that another state lacks"):
        mix(start(), finetuned(), 0.5, missing="error")
    with pytest.raises(WeightsError, match=r"'head.w' holds values"):
        mix(start(), {**finetuned(), "head.w": torch.tensor([float("nan")])}, 0.5)


def features(model: Model) -> Tensor:
    with torch.inference_mode():
        return model.features(torch.randn(3, pico.POINTS, 3, generator=torch.Generator().manual_seed(0)))


def test_models_with_the_same_grafts_are_mixed():
    start, end = tuned(Adapter(), Scaled(), seed=0), tuned(Adapter(), Scaled(), seed=1)
    mixed = mix(start, end, 0.25)
    key = "blocks.blocks.0.adapter.up.weight"
    one, other, middle = (model.state_dict()[key] for model in (start, end, mixed))
    torch.testing.assert_close(middle, 0.75 * one + 0.25 * other)
    assert torch.equal(features(mix(start, end, 1.0)), features(end))
    assert torch.equal(features(mix(start.backbone, end, 0.0)), features(start))


def by_hand(*tunings) -> Model:
    model = tuned(*tunings)
    Adapter().graft(model)
    return model


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (tuned, lambda: tuned(Adapter()), "the start has nothing grafted into it, and the fine-tuned model my_tunings:Adapter:rank=2"),
        (lambda: tuned(Scaled()), tuned, "the start has my_tunings:Scaled:by=0.5 grafted into it, and the fine-tuned model nothing"),
        (lambda: tuned(Scaled(2.0)), lambda: tuned(Scaled()), "has my_tunings:Scaled:by=2.0 grafted into it, and"),
        (tuned, by_hand, "the fine-tuned model 'blocks.blocks.0.adapter'"),
        (lambda: tuned(Scaled()), lambda: by_hand(Scaled()), "the fine-tuned model my_tunings:Scaled:by=0.5, 'blocks.blocks.0.adapter'"),
    ],
)
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_models_with_other_grafts_are_not(start, end, says, alpha):
    with pytest.raises(WeightsError, match=f"{says}.*Mix models with the same grafts"):
        mix(start(), end(), alpha)


def test_of_state_dicts_missing_says_what_becomes_of_a_graft():
    start, end = tuned().state_dict(), tuned(Adapter(), seed=1).state_dict()
    mixed = mix(start, end, 0.5, head_prefixes=("cls_head_finetune",))
    key = "blocks.blocks.0.adapter.up.weight"
    assert torch.equal(mixed[key], end[key])


@pytest.mark.parametrize("family", BACKBONES.names())
def test_what_is_told_to_be_unmixed_is_the_fine_tuned_model_s_and_all_else_is_mixed(family):
    start, tuned = (create(f"{family}-mini", classes=3, seed=seed, **EVERY_PART.get(family, {})) for seed in (1, 2))
    told = unmixed(start.backbone)
    assert told[-1].name == f"{start.backbone.head_name} (the head)"
    assert all(part.at_zero.startswith("the fine-tuned model's, as at every alpha") for part in told)
    fresh = {part.name for part in told[:-1]}
    assert fresh == FRESH.get(family, set())
    before, after = start.state_dict(), tuned.state_dict()
    for alpha in (0.0, 0.5):
        for name, value in mix(start, tuned, alpha).state_dict().items():
            if name in fresh or name.startswith(start.head_prefixes) or not value.is_floating_point():
                assert torch.equal(value, after[name]), name
            else:
                torch.testing.assert_close(value, torch.lerp(before[name], after[name], alpha), rtol=1e-6, atol=1e-7, msg=name)
