"""Files of the package torch-pointcloud by their names alone. ``torch_pointcloud_names.json`` lists the names and shapes of its models at
version 0.0.18, each under our schema of the same model; ``{12}`` stands for blocks 0 to 11."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from net_samples import TINY_OPTIONS, schema
from wisetune.errors import UsageError, WeightsError
from wisetune.nets.create import create
from wisetune.nets.files.identify import identify
from wisetune.nets.files.official import load_official
from wisetune.nets.files.pretrained import resolve
from wisetune.nets.files.torch_pointcloud import released, translate, widened

FILE = Path(__file__).parent / "torch_pointcloud_names.json"
DECODER = r"(label_conv|propagations?_?\d?|convs\d|bns\d|token_prop|rec_head|decoder)\."
"""Parts that keep the package's names."""


def theirs(model: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in json.loads(FILE.read_text())[model].items():
        many = re.search(r"\{(\d+)\}", name)
        for block in range(int(many[1])) if many else [0]:
            found[name.replace(many[0], str(block)) if many else name] = tuple(shape)
    return found


def state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Every tensor's values tell its name."""
    return {
        name: torch.arange(math.prod(shape), dtype=torch.float32).view(shape) + at if shape else torch.tensor(at)
        for at, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("model", sorted(json.loads(FILE.read_text())))
def test_every_name_and_shape_is_the_released_one(shared, model):
    shapes = theirs(model)
    names = released(shapes)
    ours = {names[key][0]: widened(shape, names[key][1]) for key, shape in shapes.items()}
    official = schema(shared, model)
    if model == "point_bert-pretrain":  # the package keeps the one encoder alone
        official = {
            key.removeprefix("transformer_q."): shape for key, shape in official.items() if key.startswith(("transformer_q.", "lm_head."))
        }
    keep = {key: shape for key, shape in official.items() if not re.match(DECODER, key)}
    assert {key: shape for key, shape in ours.items() if not re.match(DECODER, key)} == keep
    assert len(keep) > 20
    assert len(ours) == len(shapes)


MODELS = {
    "point_mae-cls-modelnet1k": ("point-mae", "modelnet-1k", set()),
    "point_mae-pretrain": ("point-mae", "pretrain", {"head"}),
    "point_bert-cls-modelnet1k": ("point-bert", "modelnet-1k", set()),
    "point_bert-pretrain": ("point-bert", "modelnet-1k", {"head"}),
    "point_m2ae-cls-modelnet1k": ("point-m2ae", "modelnet-1k", set()),
    "point_m2ae-pretrain": ("point-m2ae", "modelnet-1k", {"head", "norm"}),
    "point_mae-partseg": ("point-mae", "pretrain", {"head"}),
    "point_m2ae-partseg": ("point-m2ae", "modelnet-1k", {"head", "norm"}),
}


@pytest.mark.parametrize("file", MODELS)
def test_a_file_into_the_model(tmp_path, file):
    family, preset, fresh = MODELS[file]
    values = state(theirs(file))
    safetensors.torch.save_file(values, tmp_path / "model.safetensors")
    model = create(family, preset=preset, classes=40)
    report = load_official(model, tmp_path / "model.safetensors")
    assert (report.names, report.coverage, report.layout) == ("torch-pointcloud", 1.0, "plain")
    assert {name.split(".")[0].replace("cls_head_finetune", "head") for name in report.fresh} == fresh
    placed = model.state_dict()
    assert all(torch.equal(placed[target].flatten(), values[key].flatten()) for target, key in report.loaded.items())
    assert set(report.loaded.values()) | set(report.ignored) == set(values)
    assert "names of torch-pointcloud" in str(report)


def test_a_small_file_with_another_class_count():
    """The map is of names, not of sizes; a head of another class count stays fresh."""
    source = create("point-mae", classes=5, seed=3, **TINY_OPTIONS).state_dict()
    named = {name: key for key, (name, _) in released(theirs("point_mae-cls-modelnet1k")).items()}
    file = {
        f"module.{named[key]}": value.squeeze(-1) if value.dim() == 3 and "conv" in key else value
        for key, value in source.items()
        if key in named
    }
    assert len(file) == len(source)
    model = create("point-mae", classes=3, **TINY_OPTIONS)
    report = load_official(model, file)
    assert report.mismatched[0] == ("cls_head_finetune.8.weight", (5, 256), (3, 256))
    assert all(torch.equal(value, source[name]) for name, value in model.backbone.state_dict().items())
    with pytest.raises(WeightsError, match=r"It looks like act or point-mae with width=16"):
        load_official(create("point-mae", classes=3, **{**TINY_OPTIONS, "width": 32}), file)


def test_a_segmentation_head_is_no_classifier_s():
    report = load_official(create("point-mae", preset="pretrain", classes=50), state(theirs("point_mae-partseg")))
    assert {name.split(".")[0] for name in report.ignored} == {"label_conv", "propagation_0", "head"}
    assert {name.split(".")[0] for name in report.fresh} == {"cls_head_finetune"}


def test_whose_such_a_file_is(tmp_path):
    assert str(identify(theirs("point_bert-pretrain"))).startswith("point-bert with width=384, depth=12")
    assert str(identify(theirs("point_m2ae-cls-modelnet1k"))) == "point-m2ae with widths=96+192+384, depths=5+5+5, tokenizer=128+256+512"
    assert str(identify(theirs("point_bert-dvae"))) == "the dVAE of Point-BERT"
    safetensors.torch.save_file(state(theirs("point_bert-cls-modelnet1k")), tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match=r"m.safetensors does not say what backbone it is for. It looks like maskpoint or point-bert with"):
        resolve(tmp_path / "m.safetensors")
    assert resolve(tmp_path / "m.safetensors", "point-bert-modelnet-1k").report.names == "torch-pointcloud"


def test_two_names_of_one_place():
    file = state(theirs("point_mae-cls-modelnet1k"))
    with pytest.raises(WeightsError, match="two tensors for one place under the names of torch-pointcloud"):
        load_official(create("point-mae", classes=40), {**file, "norm.weight": torch.ones(384)})


def test_others_files_stay_as_they_are():
    source = create("point-mae", classes=3, **TINY_OPTIONS).state_dict()
    assert translate(source) == (source, {})
