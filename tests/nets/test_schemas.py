"""Names, shapes and settings are the official ones."""

from __future__ import annotations

import json
import re

import pytest
import torch

from net_samples import schema
from wisetune.nets.backbone import Masking, build_empty
from wisetune.nets.create import BACKBONES
from wisetune.nets.families.point_m2ae import PointM2AESpec
from wisetune.nets.families.point_mae import PRESETS
from wisetune.nets.heads import parse_head
from wisetune.nets.model import Model
from wisetune.nets.plain import PlainSpec

CLASSIFIERS = [
    ("point-mae", "modelnet-1k", "point_mae-cls-modelnet1k"),
    ("point-mae", "scanobjectnn", "point_mae-cls-scanobjectnn"),
    ("act", "modelnet-1k", "act-cls-modelnet1k"),
    ("act", "scanobjectnn", "act-cls-scanobjectnn"),
    ("act", "scanobjectnn-linear", "act-cls-scanobjectnn-linearhead"),
    ("point-bert", "modelnet-1k", "point_bert-cls-modelnet1k"),
    ("point-bert", "scanobjectnn", "point_bert-cls-scanobjectnn"),
    ("maskpoint", "modelnet-1k", "maskpoint-cls-modelnet1k"),
    ("maskpoint", "scanobjectnn", "maskpoint-cls-scanobjectnn"),
    ("point-m2ae", "modelnet-1k", "point_m2ae-cls-modelnet1k"),
    ("point-m2ae", "scanobjectnn", "point_m2ae-cls-scanobjectnn"),
    ("recon", "modelnet-1k", "recon-cls-modelnet1k"),
    ("recon", "scanobjectnn", "recon-cls-scanobjectnn"),
    ("recon", "scanobjectnn-linear", "recon-cls-scanobjectnn-linearhead"),
]
FAMILIES = ("act", "maskpoint", "point-bert", "point-mae", "recon")
OFFICIAL = [
    (family, name)
    for family in FAMILIES
    for name, preset in BACKBONES.entry(family).presets().items()
    if preset.classes is not None and " cfgs/" in preset.source
]
"""The presets that are official configurations of classifiers."""


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("family", "preset", "name"), CLASSIFIERS)
def test_classifier_has_the_official_state_dict(shared, family, preset, name):
    chosen = BACKBONES.entry(family).presets()[preset]
    backbone = build_empty(chosen.backbone)
    with torch.device("meta"):
        model = Model(backbone, parse_head(chosen.head).build(backbone.feature_width, chosen.classes))
    assert shapes(model) == schema(shared, name)
    official = json.loads((shared / f"reference/backbones/schemas/{name}.json").read_text())
    assert sum(value.numel() for value in model.parameters()) == official["n_parameters"]


@pytest.mark.parametrize(
    ("preset", "name", "prefix"),
    [
        ("svm", "recon-svm-feature", ""),
        *((preset, f"recon-pretrain{size}", "MAE_encoder.") for preset, size in (("pretrain", ""), ("small", "-small"), ("tiny", "-tiny"))),
    ],
)
def test_recon_alone_has_the_official_state_dict(shared, preset, name, prefix):
    official = schema(shared, name)
    backbone = build_empty(BACKBONES.entry("recon").presets()[preset].backbone)
    assert shapes(backbone) == {key.removeprefix(prefix): shape for key, shape in official.items() if key.startswith(prefix)}


@pytest.mark.parametrize("preset", ["modelnet-1k", "scanobjectnn", "svm", "pretrain"])
def test_presets_of_point_m2ae_are_the_official_configurations(shared, preset):
    chosen = BACKBONES.entry("point-m2ae").presets()[preset]
    file = re.search(r"cfgs/\S+yaml", chosen.source)
    assert file is not None
    official = json.loads((shared / "reference/backbones/configs.json").read_text())[f"Point-M2AE/{file[0]}"]
    spec, model = chosen.backbone, official["model"]
    assert isinstance(spec, PointM2AESpec)
    names = {
        "groups": "num_groups",
        "group_sizes": "group_sizes",
        "widths": "encoder_dims",
        "depths": "encoder_depths",
        "radii": "local_radius",
    }
    assert {field: list(getattr(spec, field)) for field in names} == {field: model[name] for field, name in names.items()}
    assert (spec.heads, spec.drop_path) == (model["num_heads"], model["drop_path_rate"])
    assert spec.points == (official["npoints"] or official["dataset_opts"]["num_points"])
    if preset == "pretrain":
        assert spec.masking == Masking(model["mask_ratio"], model["decoder_depths"][0])


def test_the_pyramid_of_the_linear_svm_has_the_names_of_pre_training(shared):
    backbone = build_empty(BACKBONES.entry("point-m2ae").presets()["svm"].backbone)
    official = schema(shared, "point_m2ae-pretrain")
    decoders = ("h_encoder.encoder_norms.0.", "h_encoder.encoder_norms.1.")
    assert shapes(backbone) == {
        key: shape for key, shape in official.items() if key.startswith("h_encoder.") and not key.startswith(decoders)
    }


@pytest.mark.parametrize(("family", "depth", "count"), [("point-mae", 4, 29006432), ("point-m2ae", 1, 15255856)])
def test_pretraining_model_has_the_official_state_dict(shared, family, depth, count):
    with torch.device("meta"):
        model = BACKBONES.entry(family).presets()["pretrain"].backbone.masked(depth)
    assert shapes(model) == schema(shared, f"{family.replace('-', '_')}-pretrain")
    assert sum(value.numel() for value in model.parameters()) == count


@pytest.mark.parametrize(("family", "preset"), OFFICIAL)
def test_presets_are_the_official_configurations(shared, family, preset):
    chosen = BACKBONES.entry(family).presets()[preset]
    project, _, file = chosen.source.partition(" ")
    official = json.loads((shared / "reference/backbones/configs.json").read_text())[f"{project}/{file}"]
    spec, model = chosen.backbone, official["model"]
    assert isinstance(spec, PlainSpec)
    assert (spec.points, spec.groups, spec.group_size) == (official["npoints"], model["num_group"], model["group_size"])
    width = model.get("trans_dim", model.get("embed_dim"))
    assert (spec.width, spec.depth, spec.heads, spec.drop_path) == (width, model["depth"], model["num_heads"], model["drop_path_rate"])
    assert (spec.token_width or width) == model.get("encoder_dims", width)
    assert chosen.classes == model["cls_dim"]


def test_pretrain_preset_is_the_official_encoder(shared):
    official = json.loads((shared / "reference/backbones/configs.json").read_text())["Point-MAE/cfgs/pretrain.yaml"]
    spec, model = PRESETS["pretrain"].backbone, official["model"]
    assert (spec.points, spec.groups, spec.group_size) == (official["npoints"], model["num_group"], model["group_size"])
    assert (spec.width, spec.depth, spec.heads) == tuple(model["transformer_config"][key] for key in ("trans_dim", "depth", "num_heads"))
    assert not spec.class_token
    assert PRESETS["pretrain"].classes is None
