"""What a released file is: read off its names and shapes, of every family and layout."""

from __future__ import annotations

import re

import pytest
import torch

from net_samples import TINY_OPTIONS, schema
from wisetune import create as tuned
from wisetune import official_state, resolve
from wisetune.errors import BadFile, UsageError, WeightsError
from wisetune.nets.create import create, named
from wisetune.nets.files import look as module
from wisetune.nets.files.checkpoint import Checkpoint
from wisetune.nets.files.look import look, told_apart


@pytest.mark.parametrize(
    ("name", "holds", "families", "head", "of"),
    [
        ("point_mae-pretrain", "pre-training", ["point-mae"], ("", None), None),
        ("act-pretrain", "pre-training", ["act"], ("", None), None),
        ("point_m2ae-pretrain", "pre-training", ["point-m2ae"], ("", None), None),
        ("point_bert-pretrain", "pre-training", ["point-bert"], ("", None), None),
        ("act-cls-scanobjectnn", "classification", ["act", "point-mae"], ("mlp3", 15), "point-mae-scanobjectnn"),
        ("recon-cls-scanobjectnn-linearhead", "classification", ["recon"], ("mlp1", 15), "recon-scanobjectnn-linear"),
        (
            "maskpoint-cls-scanobjectnn",
            "classification",
            ["maskpoint", "point-bert"],
            ("mlp3:hidden=512,second=256", 40),
            "maskpoint-scanobjectnn",
        ),
        ("point_bert-cls-modelnet1k", "classification", ["maskpoint", "point-bert"], ("mlp2", 40), "point-bert-modelnet-8k"),
        ("act-partseg", "part segmentation", ["act"], ("parts", 50), "act-shapenetpart"),
        ("recon-partseg", "part segmentation", ["recon"], ("parts:leads=true", 50), "recon-shapenetpart"),
        ("point_bert-partseg", "part segmentation", ["point-bert"], ("parts-graph", 50), "point-bert-shapenetpart"),
        ("point_m2ae-partseg", "part segmentation", ["point-m2ae"], ("parts-pyramid", 50), "point-m2ae-shapenetpart"),
        ("recon-svm-feature", "an encoder alone", ["recon"], ("", None), None),
    ],
)
def test_of_every_official_file(shared, monkeypatch, name, holds, families, head, of):
    tensors = {
        f"module.{key}": torch.empty(shape, device="meta", dtype=torch.float32 if shape else torch.int64)
        for key, shape in schema(shared, name).items()
    }
    monkeypatch.setattr(module, "read_state", lambda _: Checkpoint(tensors, {}, "base_model"))
    found = look("x.pth")
    assert (found.holds, list(found.looks.families), (found.head, found.outputs)) == (holds, families, head)
    assert (found.layout, found.prefix, found.tensors) == ("base_model", "module.", len(tensors))
    assert found.with_head == () if of is None else of in found.with_head
    # Every one of the families has presets that fit, and none of another size does.
    assert {preset.backbone.name for preset in found.presets.values()} == set(families)
    assert not any(name.endswith(("-mini", "-small", "-tiny")) for name in found.presets)


def save(path, model, **beside):
    torch.save({"model": model.state_dict(), **beside}, path)
    return path


def test_a_file_of_a_size_that_no_preset_has(tmp_path):
    found = look(save(tmp_path / "x.pth", create("recon", classes=7, **TINY_OPTIONS), epoch=3))
    assert (found.presets, found.sized) == ({}, "recon:width=16,depth=2,tokenizer=6+8+10,heads=H,points=N,groups=G")
    assert (found.holds, found.head, found.outputs, found.with_head) == ("classification", "mlp3", 7, ())
    assert found.beside == {"epoch": 3}


@pytest.mark.parametrize(("head", "classes"), [("linear", 2), ("mlp2", 2), ("mlp3", 3)])
def test_a_head_that_is_not_the_preset_s(tmp_path, head, classes):
    found = look(save(tmp_path / "x.pth", create("point-mae-mini", classes=classes, head=head)))
    assert (found.head, found.outputs) == (head, classes)


def test_a_head_that_is_none_of_ours(tmp_path):
    state = create("point-mae-mini", classes=4, head="mlp3").state_dict()
    state["cls_head_finetune.9.weight"] = torch.ones(4, 4)
    torch.save(state, tmp_path / "x.pth")
    found = look(tmp_path / "x.pth")
    assert (found.holds, found.head, found.outputs) == ("classification", "", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"conv1.weight": torch.ones(3), "fc.bias": torch.ones(2)},
            "2 tensors, under the names of no backbone .*names begin with conv1, fc",
        ),
        ({"visual.conv1.weight": torch.ones(3)}, "It looks like CLIP"),
        ({"MAE_encoder.encoders.0.first_conv.0.weight": torch.ones(3)}, "It looks like an early Point-M2AE"),
    ],
)
def test_weights_of_no_backbone(tmp_path, content, said):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=f"^x.pth holds .*{said}"):
        look(tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:-9])
    with pytest.raises(BadFile, match="cut off"):
        look(tmp_path / "x.pth")


def test_presets_that_are_one_function_stand_together():
    rows = told_apart(named("recon"))
    assert sorted(name for names, _ in rows for name in names.split(", ")) == sorted(named("recon"))
    assert rows[0][0] == "recon-modelnet-1k, recon-modelnet-1k-linear, recon-few-shot, recon-pretrain"
    assert len({options for _, options in rows}) == len(rows), "and what is said of the others tells them apart"
    assert all(re.fullmatch(r"points=\d+,groups=\d+,.*", options) for _, options in rows)


def test_a_file_of_a_tuned_model_is_no_start(tmp_path):
    model = tuned("point-mae-mini", tuning="vpt:prompts=3", classes=4, reading="as_published")
    torch.save({"base_model": official_state(model)}, tmp_path / "x.pth")
    with pytest.raises(UsageError, match="A tuning put 12 tensors into its model, without which it is not what was trained"):
        resolve(tmp_path / "x.pth")
