"""The official part segmentation models' numbers, at their official sizes, from their released names."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_golden import TOLERANCE

from net_samples import by_rule, fill, golden_file, schema, summary, watch
from wisetune.nets.backbone import build_empty, on_meta
from wisetune.nets.create import BACKBONES, assemble, class_names, parse_any_head
from wisetune.nets.segmenter import Segmenter

FAMILIES = ["point-mae", "act", "recon", "point-bert", "point-m2ae"]
AS_RELEASED = ("label_conv", "norm", "encoder", "h_encoder", "blocks")
"""Begins of the names of modules whose output is laid out as the released code's; of the others channels come last here."""


def empty(family: str, reading: str = "as_published") -> Segmenter:
    preset = BACKBONES.entry(family).presets()["shapenetpart"]
    backbone = build_empty(dataclasses.replace(preset.backbone, reading=reading))
    with on_meta():
        model = assemble(backbone, parse_any_head(preset.head), class_names(preset.classes))
    assert isinstance(model, Segmenter)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_state_dict_is_the_official_one(shared, family):
    model = empty(family)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == schema(shared, f"{family.replace('-', '_')}-partseg")


@pytest.fixture(scope="module", params=[by_rule(family, rule=rule) for family in FAMILIES for rule in ("fanin", "std02")])
def segmenter(request, shared):
    family, rule = request.param
    golden = golden_file(shared, f"{family.replace('-', '_')}-partseg")
    return family, f"partseg/{rule}/", golden, fill(empty(family), rule)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_part_segmentation(segmenter, dtype):
    family, at, golden, model = segmenter
    model = copy.deepcopy(model).to(dtype)
    suffix = "64" if dtype == torch.float64 else ""
    seen = watch(model, golden, at, lambda name: _module(model, name))
    points, category = torch.from_numpy(golden["input_2048"]), torch.from_numpy(golden["partseg/label_onehot"])[:, 0]
    with torch.no_grad():
        logits = model(points, category)
        by_number = model(points, category.argmax(dim=1))
    found = F.log_softmax(logits, dim=-1)[:, :64]
    np.testing.assert_allclose(found.numpy(), golden[f"{at}output{suffix}"], **TOLERANCE[dtype])
    assert torch.equal(logits, by_number)
    checked = 0
    for key in (key for key in golden if key.startswith(at) and ":" in key and key.endswith("64") == (suffix == "64")):
        name, _, item = key.removeprefix(at).removesuffix("64").rpartition(":")
        module, _, call = name.partition(":")
        values = seen[module][int(call or 0)]
        if family == "recon" and module == "norm":
            values = values[:, model.backbone.leads :]  # the released code norms the patches' tokens alone
        if not module.startswith(AS_RELEASED):
            values = values.transpose(1, 2)
        value = np.array(summary(values)) if item == "out_stats" else values[:, :8, :32].numpy()
        np.testing.assert_allclose(value, golden[key], **TOLERANCE[dtype], err_msg=key)
        checked += 1
    assert checked >= (8 if suffix else 16)


def _module(model: Segmenter, name: str) -> torch.nn.Module:
    own = model.unreleased(f"{name}.")
    return model.backbone.get_submodule(name) if own is None else model.head.get_submodule(own.rstrip("."))
