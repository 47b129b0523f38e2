"""Names, shapes and settings are the official ones."""

from __future__ import annotations

import json

import pytest
import torch
from net_samples import schema

from wisetune.nets.backbone import build_empty
from wisetune.nets.heads import parse_head
from wisetune.nets.masked import MaskedAutoencoder
from wisetune.nets.model import Model, feature_width
from wisetune.nets.point_mae import PRESETS, PointMAESpec

CONFIGS = {
    "modelnet-1k": "finetune_modelnet",
    "modelnet-8k": "finetune_modelnet_8k",
    "scanobjectnn": "finetune_scan_hardest",
    "few-shot": "fewshot",
}


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("preset", "name"), [("modelnet-1k", "point_mae-cls-modelnet1k"), ("scanobjectnn", "point_mae-cls-scanobjectnn")])
def test_classifier_has_the_official_state_dict(shared, preset, name):
    chosen = PRESETS[preset]
    backbone = build_empty(chosen.backbone)
    with torch.device("meta"):
        model = Model(backbone, parse_head(chosen.head).build(feature_width(backbone), chosen.classes))
    assert shapes(model) == schema(shared, name)
    official = json.loads((shared / f"reference/backbones/schemas/{name}.json").read_text())
    assert sum(value.numel() for value in model.parameters()) == official["n_parameters"]


def test_act_classifier_has_the_same_names(shared):
    assert schema(shared, "act-cls-modelnet1k") == schema(shared, "point_mae-cls-modelnet1k")


def test_pretraining_model_has_the_official_state_dict(shared):
    with torch.device("meta"):
        model = MaskedAutoencoder(PointMAESpec(class_token=False, readout="max+mean"), decoder_depth=4, decoder_heads=6)
    assert shapes(model) == schema(shared, "point_mae-pretrain")
    assert sum(value.numel() for value in model.parameters()) == 29006432


@pytest.mark.parametrize("preset", CONFIGS)
def test_presets_are_the_official_configurations(shared, preset):
    official = json.loads((shared / "reference/backbones/configs.json").read_text())[f"Point-MAE/cfgs/{CONFIGS[preset]}.yaml"]
    spec, model = PRESETS[preset].backbone, official["model"]
    assert (spec.points, spec.groups, spec.group_size) == (official["npoints"], model["num_group"], model["group_size"])
    assert (spec.width, spec.depth, spec.heads, spec.drop_path) == (
        model["trans_dim"],
        model["depth"],
        model["num_heads"],
        model["drop_path_rate"],
    )
    assert PRESETS[preset].classes == model["cls_dim"]
    assert CONFIGS[preset] in PRESETS[preset].source


def test_pretrain_preset_is_the_official_encoder(shared):
    official = json.loads((shared / "reference/backbones/configs.json").read_text())["Point-MAE/cfgs/pretrain.yaml"]
    spec, model = PRESETS["pretrain"].backbone, official["model"]
    assert (spec.points, spec.groups, spec.group_size) == (official["npoints"], model["num_group"], model["group_size"])
    assert (spec.width, spec.depth, spec.heads) == tuple(model["transformer_config"][key] for key in ("trans_dim", "depth", "num_heads"))
    assert not spec.class_token
    assert PRESETS["pretrain"].classes is None
