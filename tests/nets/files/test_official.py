"""Released files into models: the official load report, reproduced; and every way in which a file can be the wrong one."""

from __future__ import annotations

import json
import re

import pytest
import torch

from net_samples import TINY, TINY_OPTIONS, TINY_PLAIN, cloud, same_state, schema
from wisetune.errors import BadFile, UsageError, WeightsError
from wisetune.nets.create import create, fresh_backbone, parse_backbone, with_options
from wisetune.nets.families.point_mae import PointMAESpec
from wisetune.nets.files.identify import identify
from wisetune.nets.files.official import load_official
from wisetune.nets.masked import MaskedAutoencoder


@pytest.fixture
def model():
    return create("point-mae", classes=3, **TINY_OPTIONS)


@pytest.fixture
def pretraining():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return MaskedAutoencoder(TINY_PLAIN, decoder_depth=1)


def frozen(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("swapped", [True, False])
def test_arguments_of_another_kind_are_told_with_the_right_call(model, swapped):
    given = ("pretrain.pth", model) if swapped else (model, model)
    said = rf"load_official was given {type(given[0]).__name__} and Model; .*: wisetune\.load_official\(model, 'pretrain.pth'\)"
    with pytest.raises(UsageError, match=said):
        load_official(*given)


def refused(model, source, says: str, error: type[Exception] = WeightsError, **options) -> None:
    before = frozen(model)
    with pytest.raises(error, match=says):
        load_official(model, source, **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


REPORTS = {
    "point-m2ae": ("point_m2ae-pretrain", "", 231, ()),
    "recon": ("recon-pretrain", "MAE_encoder", 306, ()),
    "point-mae": ("point_mae-pretrain", "MAE_encoder", 156, ()),
    "act": ("act-pretrain", "ACT_encoder", 158, ()),
    "point-bert": ("point_bert-pretrain", "transformer_q", 160, ("transformer_k.", "queue", "dvae.", "transformer_q.cls_head.")),
    "maskpoint": (
        "maskpoint-pretrain",
        "transformer_q",
        160,
        ("transformer_k.", "queue", "transformer_q.cls_head."),
    ),
}
"""Of each family: its pre-training model, under what the encoder is there, how much of it is loaded, and what the official loader takes out first."""


class TestOfficialReport:
    """schemas/*-cls-modelnet1k-load-report.json are what the official loaders said of files of these layouts."""

    @pytest.mark.parametrize("family", REPORTS)
    @pytest.mark.parametrize("prefix", ["module.", ""])
    def test_pretraining_file_into_the_classifier(self, shared, tmp_path, family, prefix):
        pretraining, encoder, count, taken_out = REPORTS[family]
        name = f"{family.replace('-', '_')}-cls-modelnet1k-load-report.json"
        official = json.loads((shared / "reference/backbones/schemas" / name).read_text())
        values = {name: torch.full(shape, 0.5) if shape else torch.tensor(7) for name, shape in schema(shared, pretraining).items()}
        file = {"base_model": {prefix + name: value for name, value in values.items()}, "epoch": 300, "metrics": 0.0}
        torch.save(file, tmp_path / "pretrain.pth")
        model = create(family, preset="modelnet-1k")
        before = frozen(model)
        report = load_official(model, tmp_path / "pretrain.pth")
        assert report.loaded == official["loaded"]
        assert len(report.loaded) == official["n_loaded"] == count
        assert set(report.fresh) == set(official["missing_in_checkpoint"])
        left = [key for key in report.ignored if not key.startswith(taken_out)] if taken_out else list(report.ignored)
        # The official loaders tell names without the encoder's prefix where they took that off.
        told = official["unexpected_ignored"]
        assert {key if key in told else key.removeprefix(f"{encoder}.") for key in left} == set(told)
        assert len(left) == len(told)
        assert (report.layout, report.prefix, report.coverage, report.mismatched) == ("base_model", prefix, 1.0, ())
        state = model.state_dict()
        assert all(torch.equal(state[target], values[source]) for target, source in report.loaded.items())
        assert all(torch.equal(state[name], before[name]) for name in report.fresh)

    def test_in_words(self, shared, tmp_path):
        values = {
            name: torch.full(shape, 0.5) if shape else torch.tensor(7) for name, shape in schema(shared, "point_mae-pretrain").items()
        }
        torch.save({"base_model": values}, tmp_path / "pretrain.pth")
        text = str(load_official(create("point-mae", preset="modelnet-1k"), tmp_path / "pretrain.pth"))
        assert "pretrain.pth: 100.0% of the backbone's values" in text
        assert "loaded      156  encoder (18), pos_embed (4), blocks (132), norm (2)" in text.replace("  loaded", "loaded")
        assert "ignored      53  mask_token, decoder_pos_embed (4), MAE_decoder (46), increase_dim (2)" in text


def test_a_fine_tuned_classifier_comes_back_whole(model, tmp_path):
    other = create("point-mae", classes=3, seed=9, **TINY_OPTIONS)
    torch.save({"base_model": other.state_dict()}, tmp_path / "w.pth")
    report = load_official(model, tmp_path / "w.pth")
    assert (report.fresh, report.ignored) == ((), ())
    points = cloud(0, 2, 64)
    with torch.no_grad():
        assert torch.equal(model(points), other(points))


def test_our_own_pretraining_loads_as_the_official_does(model, pretraining, tmp_path):
    torch.save({"base_model": {f"module.{name}": value for name, value in pretraining.state_dict().items()}}, tmp_path / "w.pth")
    report = load_official(model, tmp_path / "w.pth")
    assert {"cls_token", "cls_pos"} <= set(report.fresh)
    encoder = pretraining.MAE_encoder.state_dict()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in encoder.items())


def test_a_backbone_alone_leaves_heads_out(pretraining):
    whole = create("point-mae", classes=3, seed=9, **TINY_OPTIONS)
    backbone = fresh_backbone(TINY, 0)
    report = load_official(backbone, whole.state_dict())
    assert {name.split(".")[0] for name in report.ignored} == {"cls_head_finetune"}
    assert report.fresh == ()
    plain = fresh_backbone(TINY_PLAIN, 0)
    assert load_official(plain, pretraining.state_dict()).coverage == 1
    # A classifier's class token has no place in a backbone without one; that is too little to be another model.
    assert {"cls_token", "cls_pos"} <= set(load_official(plain, {**whole.state_dict()}, min_coverage=0.9).ignored)


def test_another_class_count_leaves_the_whole_head_fresh(model):
    source = create("point-mae", classes=5, seed=9, **TINY_OPTIONS).state_dict()
    before = frozen(model)
    report = load_official(model, source)
    assert [name for name, _, _ in report.mismatched] == ["cls_head_finetune.8.weight", "cls_head_finetune.8.bias"]
    assert ("cls_head_finetune.8.weight", (5, 256), (3, 256)) in report.mismatched
    head = {name for name in before if name.startswith("cls_head_finetune.")}
    assert set(report.fresh) == head
    assert set(report.ignored) == head
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in head)
    assert torch.equal(model.state_dict()["norm.weight"], source["norm.weight"])
    assert "cls_head_finetune.8.bias: 5 in the file, 3 here" in str(report)


def test_another_head_is_left_fresh():
    linear = create("point-mae", classes=3, head="linear", **TINY_OPTIONS)
    report = load_official(linear, create("point-mae", classes=3, seed=9, **TINY_OPTIONS).state_dict())
    assert set(report.fresh) == {"cls_head_finetune.weight", "cls_head_finetune.bias"}
    assert report.mismatched == ()


def test_a_head_with_a_tensor_missing_is_left_fresh(model):
    source = create("point-mae", classes=3, seed=9, **TINY_OPTIONS).state_dict()
    del source["cls_head_finetune.4.bias"]
    assert {name for name in load_official(model, source).fresh if "cls_head" in name} == {
        name for name in model.state_dict() if "cls_head" in name
    }


def test_only_a_leading_prefix_is_stripped(model):
    source = {f"module.module.{name}": value for name, value in model.state_dict().items()}
    source["module.extra_module.weight"] = torch.ones(2)
    report = load_official(model, source)
    assert len(report.loaded) == len(model.state_dict())
    assert report.ignored == ("extra_module.weight",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(model, dtype):
    source = {name: value.to(dtype) if value.is_floating_point() else value for name, value in model.state_dict().items()}
    load_official(model, source)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["norm.weight"], source["norm.weight"].float())


def test_counters_are_not_needed(model):
    source = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert all(name.endswith("num_batches_tracked") for name in load_official(model, source).fresh)


class TestRefused:
    def test_another_width(self, model):
        other = create("point-mae", classes=3, **{**TINY_OPTIONS, "width": 32})
        refused(
            model,
            other.state_dict(),
            r"of its tensors have another size: .*It looks like act or point-mae with width=32.*Nothing was loaded",
        )

    def test_a_deeper_network_is_not_cut_silently(self, model):
        other = create("point-mae", classes=3, **{**TINY_OPTIONS, "depth": 4})
        refused(model, other.state_dict(), r"22 of its tensors have no place in point-mae:.*depth=2.*: blocks \(22\).*depth=4")

    def test_a_shallower_network(self, model):
        other = create("point-mae", classes=3, **{**TINY_OPTIONS, "depth": 1})
        refused(model, other.state_dict(), r"of the backbone's values, not 100.0%; missing: .*blocks \(11\)")

    def test_lower_coverage_on_request(self, model):
        source = {name: value for name, value in model.state_dict().items() if name.startswith("blocks.")}
        refused(model, source, "missing: ")
        report = load_official(model, source, min_coverage=0.5)
        assert 0.5 < report.coverage < 0.99
        assert any(name.startswith("encoder.") for name in report.fresh)

    def test_nothing_matches(self, model):
        refused(
            model,
            {"conv1.weight": torch.ones(3), "fc.bias": torch.ones(2)},
            "none of its 2 tensors has a place in point-mae:",
            min_coverage=0,
        )

    def test_only_a_head_matches(self, model):
        head = {name: value for name, value in model.state_dict().items() if name.startswith("cls_head")}
        refused(model, head, "none of its", min_coverage=0)

    def test_an_empty_state_dict(self, model):
        refused(model, {}, "none of its 0 tensors")

    def test_a_norm_without_its_statistics(self, model):
        source = {name: value for name, value in model.state_dict().items() if "running_var" not in name}
        refused(model, source, "weights of a BatchNorm but not its statistics 'encoder.first_conv.1.running_var'")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_not_finite(self, model, value):
        source = frozen(model)
        source["blocks.blocks.1.mlp.fc1.bias"][3] = value
        refused(model, source, "not finite, in 'blocks.blocks.1.mlp.fc1.bias'")

    def test_whole_numbers_for_weights(self, model):
        refused(model, {name: value.long() for name, value in model.state_dict().items()}, "another type: cls_token is torch.int64 in")

    def test_another_type_of_numbers_is_told_as_that(self, model):
        source = {name: value.half() for name, value in model.state_dict().items()}
        refused(
            model,
            source,
            r"2 of its tensors .*: encoder\.first_conv\.1\.num_batches_tracked is torch\.float16 in the file and torch\.int64 here",
        )

    def test_a_head_of_another_type_of_numbers_is_left_fresh_and_told(self, model):
        source = frozen(model)
        source["cls_head_finetune.1.num_batches_tracked"] = torch.ones(())
        report = load_official(model, source)
        assert report.mistyped == (("cls_head_finetune.1.num_batches_tracked", "torch.float32", "torch.int64"),)
        assert "other type       cls_head_finetune.1.num_batches_tracked: torch.float32 in the file, torch.int64 here" in str(report)
        assert any(name.startswith("cls_head_finetune.") for name in report.fresh)

    @pytest.mark.parametrize("share", [2, -0.1, float("nan"), True, "all"])
    def test_a_share_that_is_none(self, model, share):
        with pytest.raises(UsageError, match=r"min_coverage is .*; it is a share of the backbone's values, from 0 to 1"):
            load_official(model, model.state_dict(), min_coverage=share)

    def test_what_only_pre_training_files_have(self):
        tuned = create("act-mini", classes=3).state_dict()
        spec = with_options(parse_backbone("act-mini"), {"readout": "projected"})
        refused(
            fresh_backbone(spec, 0),
            tuned,
            r"not 100\.0%; missing: cls_head \(4\), which pre-training files have and those of classifiers have not\. It fits act-mini\. Nothing",
        )

    def test_two_models_in_one_file(self, model, pretraining):
        refused(model, {**pretraining.state_dict(), **model.state_dict()}, "same place; it holds two models")
        refused(model, {**model.state_dict(), "module.norm.weight": torch.ones(16)}, "differ only by a leading 'module.'")

    def test_a_bad_file(self, model, tmp_path):
        (tmp_path / "w.pth").write_bytes(b"<html>")
        refused(model, tmp_path / "w.pth", "a web page", BadFile)


def test_what_data_parallel_puts_in_front_hides_nobody():
    shapes = {name: tuple(value.shape) for name, value in TINY.build().state_dict().items()}
    family = str(identify(shapes))
    assert family.startswith("act or point-mae with width=16, depth=2")
    for prefix in ("module.", "module.module."):
        assert str(identify({prefix + name: shape for name, shape in shapes.items()})) == family


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("act-pretrain", "act with width=384, depth=12, tokenizer=128+256+512, class-token=true"),
        ("maskpoint-pretrain", "maskpoint with width=384, depth=12, tokenizer=128+256+512, token-width=256"),
        (
            "maskpoint-cls-modelnet1k",
            "maskpoint or point-bert with width=384, depth=12, tokenizer=128+256+512, token-width=256",
        ),
        ("point_bert-pretrain", "point-bert with width=384, depth=12, tokenizer=128+256+512, token-width=256"),
        (
            "point_bert-cls-modelnet1k",
            "maskpoint or point-bert with width=384, depth=12, tokenizer=128+256+512, token-width=256",
        ),
        ("point_bert-dvae", "the dVAE of Point-BERT"),
        ("point_m2ae-cls-modelnet1k", "point-m2ae with widths=96+192+384, depths=5+5+5, tokenizer=128+256+512"),
        ("point_m2ae-pretrain", "point-m2ae with widths=96+192+384, depths=5+5+5, tokenizer=128+256+512"),
        ("recon-cls-modelnet1k", "recon with width=384, depth=12, tokenizer=128+256+512"),
        ("act-partseg", "act with width=384, depth=12, tokenizer=128+256+512, class-token=false"),
        ("point_mae-partseg", "point-mae with width=384, depth=12, tokenizer=128+256+512, class-token=false"),
        ("point_bert-partseg", "point-bert with width=384, depth=12, tokenizer=128+256+512, token-width=256"),
        ("recon-partseg", "recon with width=384, depth=12, tokenizer=128+256+512"),
        ("point_m2ae-partseg", "point-m2ae with widths=96+192+384, depths=5+5+5, tokenizer=128+256+512"),
        ("recon-pretrain", "recon with width=384, depth=12, tokenizer=128+256+512"),
        ("point_mae-pretrain", "point-mae with width=384, depth=12, tokenizer=128+256+512, class-token=false"),
        (
            "point_mae-cls-scanobjectnn",
            "act or point-mae with width=384, depth=12, tokenizer=128+256+512, class-token=true",
        ),
        (
            "act-cls-modelnet1k",
            "act or point-mae with width=384, depth=12, tokenizer=128+256+512, class-token=true",
        ),
    ],
)
def test_whose_a_file_is(shared, name, family):
    shapes = schema(shared, name)
    assert str(identify(shapes)) == family
    if "point-mae" in family:
        return
    # None of these loads into a Point-MAE of the same width, whatever they share.
    with torch.device("meta"):
        model = PointMAESpec().build()
    source = {key: torch.empty(shape, device="meta", dtype=torch.float32 if shape else torch.int64) for key, shape in shapes.items()}
    with pytest.raises(WeightsError, match=f"It looks like {re.escape(family)}"):
        load_official(model, source)


@pytest.mark.parametrize(
    ("key", "family"), [("visual.conv1.weight", "CLIP"), ("patch_embed.proj.weight", "timm"), ("sa1.mlp.weight", r"PointNet\+\+")]
)
def test_a_guess_from_one_key(model, key, family):
    refused(model, {key: torch.ones(2)}, f"It looks like .*{family}")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", ["point-m2ae", "point-mae"])
def test_an_early_pyramid_is_named_and_not_guessed(name, prefix):
    """The names that Point-M2AE's issue #5 shows; those of its position embeddings it does not."""
    early = {"token_embed": "encoders", "encoder_blocks": "blocks", "encoder_norms": "norms"}
    source = {}
    for key, value in create("point-m2ae-mini", classes=3).state_dict().items():
        part = key.split(".")[1]
        if part in early:
            source[key.replace(f"h_encoder.{part}", f"{prefix}MAE_encoder.{early[part]}")] = value
    source[f"{prefix}MAE_decoders.0.blocks.0.norm1.weight"] = torch.ones(4)
    refused(
        create(f"{name}-mini", classes=3),
        source,
        "looks like an early Point-M2AE .*not all of its names are known, and none is guessed: get",
    )


@pytest.mark.parametrize("front", ["MAE_encoder.", "model.point_encoder."])
def test_what_stands_before_known_names_is_told(front):
    source = {f"{front}{key}": value for key, value in create("point-m2ae-mini", classes=3).state_dict().items()}
    told = rf"looks like point-m2ae with widths=48.*, with '{front}' before its names; take it off .*name\.removeprefix\('{front}'\)"
    refused(create("point-m2ae-mini", classes=3), source, told)


def test_a_file_that_looks_like_another_family_s_alone_is_noted_unless_it_is_said_whose_it_is(model):
    # Those of Point-MAE's classifiers are those of ACT's too: whoever took the model has said whose the file is.
    assert identify({name: tuple(value.shape) for name, value in model.state_dict().items()}).families.keys() == {"act", "point-mae"}
    assert load_official(model, model.state_dict()).notes == ()
    act = with_options(parse_backbone("act"), {**TINY_OPTIONS, "class_token": False, "readout": "max+mean"}).build()
    (note,) = load_official(act, {**fresh_backbone(TINY_PLAIN, 0).state_dict(), "convs1.weight": torch.ones(2)}).notes
    assert note == "its names and sizes are those of point-mae, and it is read as an act; family='act' says that it is one"
    assert load_official(act, fresh_backbone(TINY_PLAIN, 0).state_dict(), family="act").notes == ()


def test_a_part_segmentation_file_gives_its_encoder(shared):
    with torch.device("meta"):
        model = PointMAESpec(class_token=False, readout="max+mean").build()
    shapes = schema(shared, "point_mae-partseg")
    source = {key: torch.zeros(shape, dtype=torch.float32 if shape else torch.int64) for key, shape in shapes.items()}
    report = load_official(model, source)
    assert report.coverage == 1
    assert {name.split(".")[0] for name in report.ignored} == {"label_conv", "propagation_0", "convs1", "convs2", "convs3", "bns1", "bns2"}


def test_a_head_that_is_left_out_is_told():
    whole = create("point-mae", head="mlp3", classes=15, **TINY_OPTIONS)
    parts = create("act", head="parts:categories=3", classes=5, **TINY_OPTIONS | {"class_token": False, "readout": "max+mean"})
    of_classes, of_parts = (
        "its classification head (15 outputs) is left out",
        "this is a part segmentation model's file; its encoder is used",
    )
    assert load_official(create("point-mae", head="mlp3", classes=15, **TINY_OPTIONS), whole.state_dict(), family="point-mae").notes == ()
    for other in (create("point-mae", classes=3, **TINY_OPTIONS), fresh_backbone(TINY, 0)):
        report = load_official(other, whole.state_dict(), family="point-mae")
        assert report.notes == (of_classes,)
        assert of_classes in str(report)
    (note,) = load_official(fresh_backbone(parts.backbone.spec, 0), parts.state_dict()).notes
    assert note.startswith(of_parts)
    (*_, note) = load_official(create("point-mae", classes=3, **TINY_OPTIONS), whole.state_dict(), family="point-mae").notes
    assert note == of_classes


def test_arrays_are_taken_and_other_things_refused():
    whole = create("point-mae", classes=3, seed=4, **TINY_OPTIONS)
    model = create("point-mae", classes=3, **TINY_OPTIONS)
    assert load_official(model, {name: value.numpy() for name, value in whole.state_dict().items()}).fresh == ()
    assert same_state(model, whole)
    with pytest.raises(
        UsageError, match=r"has a OrderedDict as 'base_model'; it takes tensors by name. Give what is in it: checkpoint\['base_model'\]"
    ):
        load_official(model, {"base_model": whole.state_dict()})
    with pytest.raises(UsageError, match="has a int as 'epoch'"):
        load_official(model, {**whole.state_dict(), "epoch": 3})


def test_a_layer_that_is_missing_is_refused_however_few_its_values_and_told_where_that_is_asked_for():
    model, whole = create("point-mae", preset="modelnet-1k"), create("point-mae", preset="modelnet-1k", seed=1).state_dict()
    part = {name: value for name, value in whole.items() if not name.startswith("norm.")}
    refused(model, part, r"it has 99.9% of the backbone's values, not 100.0%; missing: .*norm \(2\)")
    report = load_official(model, part, min_coverage=0.99)
    assert 0.9999 < report.coverage < 1
    assert "99.9% of the backbone's values found" in str(report)
    (note,) = report.notes
    assert note.startswith(
        "2 tensors of the backbone are not in it and fresh, so that this is not the function that was trained: norm.weight"
    )
    assert load_official(model, whole, family="point-mae").notes == ()
    assert "100.0% of the backbone's values found" in str(load_official(model, whole))
