"""The official models' numbers, at their official sizes, from their released names."""

from __future__ import annotations

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch

from net_samples import UNUSED, Seen, by_rule, fill, golden_file, summary, watch
from wisetune.nets.backbone import Preset, build_empty
from wisetune.nets.create import BACKBONES
from wisetune.nets.heads import parse_head
from wisetune.nets.model import Model
from wisetune.nets.plain import Plain
from wisetune.points.neighbours import gather, patches

CLASSIFIERS = {
    "point-mae": {"cls-modelnet1k": ("modelnet-1k", 1024), "cls-scanobjectnn": ("scanobjectnn", 2048)},
    "act": {"cls-modelnet1k": ("modelnet-1k", 1024), "cls-scanobjectnn": ("scanobjectnn", 2048)},
    "point-bert": {"cls-modelnet1k": ("modelnet-1k", 1024)},
    "maskpoint": {"cls-modelnet1k": ("modelnet-1k", 1024), "cls-scanobjectnn": ("scanobjectnn", 1024)},
    "point-m2ae": {"cls-modelnet1k": ("modelnet-1k", 1024), "cls-scanobjectnn": ("scanobjectnn", 2048)},
    "recon": {"cls-modelnet1k": ("modelnet-1k", 1024), "cls-scanobjectnn": ("scanobjectnn", 2048)},
}
"""Of each family the classifiers by their tag: our preset, and how many points its input has."""
ENCODERS = [
    ("point-mae", "pretrain-encoder", "pretrain", "MAE_encoder."),
    ("act", "svm-feature", "svm", "ACT_encoder."),
    ("point-bert", "svm-feature", "svm", "transformer_q."),
    ("maskpoint", "svm-feature", "svm", "transformer_q."),
    ("recon", "pretrain-encoder", "pretrain", "MAE_encoder."),
    ("recon", "svm-feature", "svm", ""),
    ("point-m2ae", "svm-feature", "svm", ""),
]
"""Encoders by family and tag: our preset, and what their names begin with there."""
TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 2e-5}, torch.float64: {"rtol": 1e-9, "atol": 1e-9}}


def preset_of(family: str, name: str) -> Preset:
    return BACKBONES.entry(family).presets()[name]


@pytest.fixture(
    scope="module",
    params=[by_rule(family, tag, rule=rule) for family, tags in CLASSIFIERS.items() for rule in ("fanin", "std02") for tag in tags],
)
def classifier(request, shared):
    family, tag, rule = request.param
    name, points = CLASSIFIERS[family][tag]
    preset, golden = preset_of(family, name), golden_file(shared, family.replace("-", "_"))
    backbone = build_empty(dataclasses.replace(preset.backbone, reading="as_published"))
    with torch.device("meta"):
        head = parse_head(preset.head).build(backbone.feature_width, preset.classes)
    return f"{tag}/{rule}/", golden, fill(Model(backbone, head), rule), torch.from_numpy(golden[f"input_{points}"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_classifier(classifier, dtype):
    at, golden, model, points = classifier
    model = copy.deepcopy(model).to(dtype)  # the weights themselves are shared between tests
    suffix = "64" if dtype == torch.float64 else ""
    seen = watch(model.backbone, golden, at, model.backbone.get_submodule)
    with torch.no_grad():
        pooled = model.features(points)
        output = model.head(pooled)
    for name, value in (("pooled", pooled), ("output", output)):
        np.testing.assert_allclose(value.numpy(), golden[f"{at}{name}{suffix}"], **TOLERANCE[dtype], err_msg=name)
    check_inside(seen, golden, at, dtype)
    with torch.no_grad():
        assert torch.equal(model(points), output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("rule", ["fanin", "std02"])
@pytest.mark.parametrize(("family", "tag", "name", "prefix"), ENCODERS, ids=lambda value: value)
def test_pretrained_encoder(shared, family, tag, name, prefix, rule, dtype):
    """Its tokens, or the feature that its linear SVM sees."""
    golden, at, suffix = golden_file(shared, family.replace("-", "_")), f"{tag}/{rule}/", "64" if dtype == torch.float64 else ""
    encoder = fill(build_empty(dataclasses.replace(preset_of(family, name).backbone, reading="as_published")), rule, prefix).to(dtype)
    seen = watch(encoder, golden, at, lambda name: encoder.get_submodule(name.removeprefix(prefix)))
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(golden["input_1024"]).to(dtype))
    if tag == "pretrain-encoder":
        assert tokens.lead.shape[1] == encoder.leads == {"point-mae": 0, "recon": 3}[family]
        output = torch.cat([tokens.lead, tokens.patch], dim=1)[:, :8]
    else:
        if encoder.readout == "projected":
            np.testing.assert_allclose(tokens.lead[:, 0], golden[f"{at}pooled{suffix}"], **TOLERANCE[dtype])
        with torch.no_grad():
            output = encoder.pool(tokens)
    np.testing.assert_allclose(output.numpy(), golden[f"{at}output{suffix}"], **TOLERANCE[dtype])
    check_inside(seen, golden, at, dtype)


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_patches(shared, family):
    """The official draws, level by level."""
    golden = golden_file(shared, family.replace("-", "_"))
    for tag, (name, points) in CLASSIFIERS[family].items():
        backbone = build_empty(dataclasses.replace(preset_of(family, name).backbone, reading="as_published"))
        near = backbone.neighbours if isinstance(backbone, Plain) else "exact"
        rule = backbone.sampling if isinstance(backbone, Plain) else "pointnet2"
        below = torch.from_numpy(golden[f"input_{points}"])
        levels = [key.removeprefix(f"{tag}/") for key in golden if key.startswith((f"{tag}/fps", f"{tag}/knn"))]
        for level, (fps, knn) in enumerate(zip(sorted(levels)[: len(levels) // 2], sorted(levels)[len(levels) // 2 :], strict=True)):
            there, count, size = (int(number) for number in re.findall(r"\d+", knn)[1:])
            assert fps == f"fps{level}_{there}to{count}"
            found = patches(below, count, size, rule, near)
            np.testing.assert_array_equal(found.centres.numpy(), golden[f"{tag}/{fps}"])
            np.testing.assert_array_equal(np.sort(found.members.numpy(), axis=-1), golden[f"{tag}/{knn}"])
            below = gather(below, found.centres)


def check_inside(seen: Seen, golden: dict[str, np.ndarray], at: str, dtype: torch.dtype) -> None:
    """Every golden value of the inside; only some were kept in float64."""
    wide, checked = dtype == torch.float64, 0
    for key in golden:
        name = key.removeprefix(at)
        if not key.startswith(at) or name.endswith("64") != wide or name.startswith(("output", "pooled")):
            continue
        what = name.removesuffix("64")
        if what == "blocks_stats":
            found = np.array([summary(block) for block in seen["blocks"]])
        elif what == "blocks_slice":
            found = np.stack([block[:, :4, :8].numpy() for block in seen["blocks"]])
        else:
            module, *call, item = what.split(":")
            if module in UNUSED:
                continue
            value = seen[module][int(call[0]) if call else 0]
            found = np.array(summary(value)) if item == "out_stats" else value[:, :8, :32].numpy()
        np.testing.assert_allclose(found, golden[key].reshape(found.shape), **TOLERANCE[dtype], err_msg=name)
        checked += 1
    assert checked >= 1
