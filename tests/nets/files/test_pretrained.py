from __future__ import annotations

import dataclasses

import pytest
import torch

from net_samples import TINY, TINY_OPTIONS, TINY_PLAIN, cloud, same_state
from wisetune.errors import BadFile, UsageError, WeightsError, as_typed
from wisetune.nets.create import create, fresh_backbone
from wisetune.nets.families.point_mae import PRESETS
from wisetune.nets.files import pretrained
from wisetune.nets.files.carded import content_digest
from wisetune.nets.files.pretrained import PRETRAINED, resolve
from wisetune.nets.files.save import save_backbone, save_model
from wisetune.nets.masked import MaskedAutoencoder


@pytest.fixture
def file(tmp_path):
    save_backbone(tmp_path / "b.safetensors", fresh_backbone(TINY, 3), {"note": "first"})
    return tmp_path / "b.safetensors"


def test_a_file_of_wisetune(file):
    found = resolve(file)
    assert found.spec == TINY
    assert found.source == "b.safetensors"  # no folder of the machine it was found on
    assert found.report is None
    assert found.about == {"note": "first"}
    backbone = found.load()
    assert same_state(backbone, fresh_backbone(TINY, 3))
    assert not backbone.training
    points = cloud(0, 2, 64)
    assert torch.equal(backbone.features(points), backbone.pool(backbone(points)))
    with torch.no_grad():
        backbone.norm.weight.zero_()
    assert same_state(found.load(), fresh_backbone(TINY, 3))


def test_the_digest_is_of_the_values_and_not_of_the_file(file, tmp_path):
    digest = resolve(file).digest
    assert len(digest) == 16
    save_backbone(tmp_path / "c.safetensors", fresh_backbone(TINY, 3), {"note": "second"})
    assert resolve(tmp_path / "c.safetensors").digest == digest
    save_backbone(tmp_path / "d.safetensors", fresh_backbone(TINY, 4))
    assert resolve(tmp_path / "d.safetensors").digest != digest
    torch.save({"base_model": fresh_backbone(TINY, 3).state_dict()}, tmp_path / "e.pth")
    assert resolve(tmp_path / "e.pth", TINY).digest == digest


def test_the_backbone_of_a_model(tmp_path):
    model = create("point-mae", classes=3, seed=3, **TINY_OPTIONS)
    save_model(tmp_path / "m.safetensors", model)
    found = resolve(str(tmp_path / "m.safetensors"))
    assert same_state(found.load(), model.backbone)
    assert found.digest == content_digest(model.backbone.state_dict())[:16]


def test_what_of_a_file_is_left_out_is_noted(file, tmp_path):
    bare = {"class_token": False, "readout": "max+mean"}
    save_model(tmp_path / "parts.safetensors", create("point-mae", head="parts:categories=3", classes=5, **TINY_OPTIONS | bare))
    save_model(tmp_path / "classes.safetensors", create("point-mae", classes=3, **TINY_OPTIONS))
    torch.save(create("point-mae", classes=3, **TINY_OPTIONS).state_dict(), tmp_path / "classes.pth")
    head = ("its classification head (3 outputs) is left out",)
    assert resolve(file).notes == ()
    assert resolve(tmp_path / "classes.safetensors").notes == head
    assert resolve(tmp_path / "classes.pth", TINY, family="point-mae").notes == head
    assert resolve(tmp_path / "parts.safetensors").notes == (
        "this is a part segmentation model's file; its encoder is used, and its head left out",
    )


@pytest.mark.parametrize("spelled", [True, False])
def test_a_released_checkpoint(tmp_path, spelled):
    learner = MaskedAutoencoder(TINY_PLAIN)
    torch.save({"base_model": {f"module.{name}": value for name, value in learner.state_dict().items()}}, tmp_path / "p.pth")
    found = resolve(tmp_path / "p.pth", str(TINY) if spelled else TINY)
    assert found.report.layout == "base_model"
    assert found.report.source == "p.pth"
    assert found.report.prefix == "module."
    assert {"cls_token", "cls_pos"} == set(found.report.fresh)
    assert torch.equal(found.state["norm.weight"], learner.MAE_encoder.norm.weight)
    # What it cannot have is drawn from the seed, and the digest says so.
    assert resolve(tmp_path / "p.pth", TINY).digest == found.digest
    assert resolve(tmp_path / "p.pth", TINY, seed=1).digest != found.digest


def test_a_released_checkpoint_does_not_know_its_groups(tmp_path):
    torch.save(create("point-mae", classes=3, **TINY_OPTIONS).state_dict(), tmp_path / "p.pth")
    sizes = "backbone='act:width=16,depth=2,tokenizer=6[+]8[+]10,class-token=true,heads=H,points=N,groups=G'"
    with pytest.raises(UsageError, match=rf"looks like act or point-mae with width=16, depth=2.*No preset has these sizes: give {sizes}"):
        resolve(tmp_path / "p.pth")
    torch.save({"h_encoder.a": torch.ones(2)}, tmp_path / "q.pth")
    with pytest.raises(UsageError, match="looks like Point-M2AE"):
        resolve(tmp_path / "q.pth")
    with pytest.raises(WeightsError, match="It looks like Point-M2AE"):
        resolve(tmp_path / "q.pth", "point-mae-modelnet-1k")


def test_only_the_presets_that_fit_are_named_with_what_differs_between_them(tmp_path):
    torch.save(create("recon-mini", classes=3).state_dict(), tmp_path / "mini.pth")
    with pytest.raises(UsageError, match=r"Name its backbone with backbone=, of one of these:\n  recon-mini: points=1024,groups=32$"):
        resolve(tmp_path / "mini.pth")
    with as_typed(), pytest.raises(UsageError, match="Name its backbone with --backbone, of"):
        resolve(tmp_path / "mini.pth")
    torch.save(fresh_backbone(PRESETS["modelnet-1k"].backbone, 0).state_dict(), tmp_path / "whole.pth")
    with pytest.raises(UsageError) as told:
        resolve(tmp_path / "whole.pth")
    lines = str(told.value).splitlines()[1:]
    assert "  point-mae-modelnet-1k, point-mae-few-shot: points=1024,groups=64,readout=lead+max,class-token=true" in lines
    assert "  act-scanobjectnn, act-scanobjectnn-linear: points=2048,groups=128,readout=lead+max,class-token=true" in lines
    assert not any(name in str(told.value) for name in ("mini", "recon", "point-bert", "m2ae", "svm"))


def test_messages_name_the_file(tmp_path):
    state = create("recon-mini", classes=3).state_dict()
    torch.save(state, tmp_path / "r.pth")
    with pytest.raises(WeightsError, match=r"^r\.pth does not fit this point-mae: .* It fits recon-mini\. Nothing was loaded"):
        resolve(tmp_path / "r.pth", "point-mae-mini")
    state["norm.weight"][0] = float("nan")
    torch.save(state, tmp_path / "r.pth")
    with pytest.raises(WeightsError, match=r"^r\.pth has values that are not finite, in 'norm\.weight': its"):
        resolve(tmp_path / "r.pth", "recon-mini")


def test_random_weights():
    found = resolve("random:point-mae-mini,seed=3")
    assert found.spec == PRESETS["mini"].backbone
    assert found.digest == "random:3"
    assert same_state(found.load(), fresh_backbone(found.spec, 3).eval())
    assert same_state(found.load(), create("point-mae-mini", classes=2, seed=3).backbone)
    assert resolve("random:point-mae-mini").digest == "random:0"
    assert resolve(f"random:[{TINY}]").spec == TINY
    assert resolve(found.source).digest == found.digest
    assert found.about == {}
    with pytest.raises(UsageError, match="no backbone 'point-mae-tiny'"):
        resolve("random:point-mae-tiny")
    with pytest.raises(UsageError, match="needs backbone"):
        resolve("random:")
    with pytest.raises(UsageError, match=r"'seeds'. Did you mean 'seed'"):
        resolve("random:point-mae-mini,seeds=3")


def test_shipped_weights(file, monkeypatch):
    monkeypatch.setitem(PRETRAINED, "test-weights", "there.safetensors")
    monkeypatch.setattr(pretrained.importlib.resources, "files", lambda _: file.parent)
    (file.parent / "weights").mkdir()
    with pytest.raises(WeightsError, match=r"'test-weights' are not in this installation: there.safetensors is missing"):
        resolve("test-weights")
    file.rename(file.parent / "weights" / "there.safetensors")
    found = resolve("test-weights")
    assert found.source == "test-weights"
    assert same_state(found.load(), fresh_backbone(TINY, 3))


def test_names_that_are_not_there():
    with pytest.raises(
        UsageError, match=r"no weights 'point-mae-min'. Did you mean 'point-mae-mini'\? There are: point-mae-mini; or give a file"
    ):
        resolve("point-mae-min")
    with pytest.raises(UsageError) as told:
        resolve("x")
    assert "scanobjectnn" not in str(told.value), "a preset is no weights, and there are dozens"
    with pytest.raises(UsageError, match=r"'recon-mini' is an architecture, .* random:recon-mini has fresh ones"):
        resolve("recon-mini")
    with pytest.raises(BadFile, match="no such file"):
        resolve("missing.pth")
    with pytest.raises(BadFile, match="no such file"):
        resolve("folder/missing")


def test_a_backbone_that_is_not_the_file_s(file):
    assert resolve(file, TINY).spec == TINY
    with pytest.raises(UsageError, match="these weights know theirs"):
        resolve(file, dataclasses.replace(TINY, groups=4))
    with pytest.raises(UsageError, match="no backbone 'x'"):
        resolve(file, "x")


def test_weights_that_were_resolved_work(file):
    with torch.no_grad():
        tokens = resolve(file).load()(cloud(0, 2, 64))
    assert tokens.patch.shape == (2, 8, 16)
