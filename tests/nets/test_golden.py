"""The official Point-MAE's numbers, at its official size, from its released names."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from net_samples import fill
from torch import nn

from wisetune.nets.backbone import build_empty
from wisetune.nets.heads import parse_head
from wisetune.nets.model import Model, feature_width
from wisetune.nets.point_mae import PRESETS, PointMAE
from wisetune.nets.transformer import Transformer
from wisetune.points.neighbours import patches

CLASSIFIERS = {"cls-modelnet1k": ("modelnet-1k", "input_1024"), "cls-scanobjectnn": ("scanobjectnn", "input_2048")}
TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 2e-5}, torch.float64: {"rtol": 1e-9, "atol": 1e-9}}


@pytest.fixture(scope="module")
def golden(shared: Path):
    with np.load(shared / "reference/backbones/golden/point_mae.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=[(tag, rule) for rule in ("fanin", "std02") for tag in CLASSIFIERS], ids="-".join)
def classifier(request, golden):
    tag, rule = request.param
    preset = PRESETS[CLASSIFIERS[tag][0]]
    backbone = build_empty(dataclasses.replace(preset.backbone, reading="as_published"))
    with torch.device("meta"):
        head = parse_head(preset.head).build(feature_width(backbone), preset.classes)
    return tag, rule, fill(Model(backbone, head), rule), torch.from_numpy(golden[CLASSIFIERS[tag][1]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_classifier(classifier, golden, dtype):
    tag, rule, model, points = classifier
    model = copy.deepcopy(model).to(dtype)  # the weights themselves are shared between tests
    suffix = "64" if dtype == torch.float64 else ""
    seen = watch(model.backbone)
    with torch.no_grad():
        pooled = model.features(points)
        output = model.head(pooled)
    at = f"{tag}/{rule}/"
    for name, value in (("pooled", pooled), ("output", output)):
        np.testing.assert_allclose(value.numpy(), golden[f"{at}{name}{suffix}"], **TOLERANCE[dtype], err_msg=name)
    check_inside(seen, golden, at, "", dtype)
    with torch.no_grad():
        assert torch.equal(model(points), output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("rule", ["fanin", "std02"])
def test_pretrained_encoder(golden, rule, dtype):
    spec = dataclasses.replace(PRESETS["pretrain"].backbone, reading="as_published")
    encoder = fill(build_empty(spec), rule, "MAE_encoder.").to(dtype)
    seen = watch(encoder)
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(golden["input_1024"]).to(dtype))
    assert tokens.lead.shape[1] == 0
    at = f"pretrain-encoder/{rule}/"
    suffix = "64" if dtype == torch.float64 else ""
    np.testing.assert_allclose(tokens.patch[:, :8].numpy(), golden[f"{at}output{suffix}"], **TOLERANCE[dtype])
    check_inside(seen, golden, at, "MAE_encoder.", dtype)


@pytest.mark.parametrize(
    ("tag", "points", "groups"), [("cls-modelnet1k", 1024, 64), ("cls-scanobjectnn", 2048, 128), ("pretrain-encoder", 1024, 64)]
)
def test_patches(golden, tag, points, groups):
    found = patches(torch.from_numpy(golden[f"input_{points}"]), groups, 32, "pointnet2")
    np.testing.assert_array_equal(found.centres.numpy(), golden[f"{tag}/fps0_{points}to{groups}"])
    np.testing.assert_array_equal(np.sort(found.members.numpy(), axis=-1), golden[f"{tag}/knn0_{points}q{groups}k32"])


def watch(backbone: PointMAE) -> dict[str, list[torch.Tensor]]:
    seen: dict[str, list[torch.Tensor]] = {"encoder": [], "blocks": [], "norm": []}

    def keep(name: str):
        return lambda _module, _inputs, output: seen[name].append(output)

    backbone.encoder.register_forward_hook(keep("encoder"))
    backbone.norm.register_forward_hook(keep("norm"))
    assert isinstance(backbone.blocks, Transformer)
    for block in backbone.blocks.blocks:
        assert isinstance(block, nn.Module)
        block.register_forward_hook(keep("blocks"))
    return seen


def check_inside(seen, golden, at: str, prefix: str, dtype: torch.dtype) -> None:
    tolerance = TOLERANCE[dtype]
    stats = np.array([summary(block) for block in seen["blocks"]])
    assert len(stats) == 12
    if dtype == torch.float64:  # only some items were kept in float64
        np.testing.assert_allclose(stats, golden[f"{at}blocks_stats64"], **tolerance)
        np.testing.assert_allclose(summary(seen["norm"][0]), golden[f"{at}{prefix}norm:0:out_stats64"], **tolerance)
        return
    np.testing.assert_allclose(stats, golden[f"{at}blocks_stats"], **tolerance)
    slices = np.stack([block[:, :4, :8].numpy() for block in seen["blocks"]])
    np.testing.assert_allclose(slices, golden[f"{at}blocks_slice"], **tolerance)
    for name, key in (("encoder", f"{prefix}encoder:out"), ("norm", f"{prefix}norm:0:out")):
        np.testing.assert_allclose(seen[name][0][:, :8, :32].numpy(), golden[f"{at}{key}_slice"], **tolerance)
        np.testing.assert_allclose(summary(seen[name][0]), golden[f"{at}{key}_stats"], **tolerance)


def summary(values: torch.Tensor) -> list[float]:
    values = values.double()
    return [float(values.mean()), float(values.std(correction=0)), float(values.abs().max())]
