"""Delta files: what they refuse, and what they say."""

from __future__ import annotations

import copy
import json

import pytest
import safetensors
import safetensors.torch
import torch

import pico
from my_tunings import Adapter, tuned
from pico import bits
from wisetune import load_delta, load_model, save_delta, save_model
from wisetune.errors import BadFile, UsageError, WeightsError
from wisetune.nets.files import delta
from wisetune.tune.full import Full


@pytest.fixture
def start():
    return pico.backbone()


@pytest.fixture
def model():
    made = tuned(Adapter(3))
    made.backbone.load_state_dict({**made.backbone.state_dict(), **pico.backbone().state_dict()})
    return made


@pytest.fixture
def path(tmp_path, model, start):
    save_delta(tmp_path / "d.safetensors", model, start, {"start": "mine"})
    return tmp_path / "d.safetensors"


def rewrite(path, change=lambda _: None, **said) -> None:
    """Other values or metadata, as somebody else might write them."""
    with safetensors.safe_open(path, "pt") as file:
        known = json.loads(file.metadata()["wisetune"]) | said
    values = safetensors.torch.load_file(path)
    change(values)
    path.write_bytes(safetensors.torch.save(values, {"wisetune": json.dumps(known)}))


def test_it_holds_what_changed_and_leaves_the_start_as_it_is(path, model, start):
    before = bits(start.state_dict())
    assert set(safetensors.torch.load_file(path)) == {
        name for name in model.state_dict() if "adapter" in name or name.startswith("cls_head")
    }
    assert bits(load_delta(path, start).state_dict()) == bits(model.state_dict())
    made = load_delta(path, tuned(Full()).__class__(start, torch.nn.Identity()))  # a model that has it
    with torch.no_grad():
        made.backbone.norm.weight.fill_(7.0)
    assert bits(start.state_dict()) == before
    assert delta.read_delta(path).card.about == {"start": "mine"}


def test_statistics_that_drifted_are_in_it(tmp_path, model, start):
    model.backbone.encoder.norm1.running_mean += 1
    save_delta(tmp_path / "d", model, start)
    assert "encoder.first_conv.1.running_mean" in safetensors.torch.load_file(tmp_path / "d")
    assert bits(load_delta(tmp_path / "d", start).state_dict()) == bits(model.state_dict())


def test_another_backbone_or_other_weights_are_refused_by_name(path):
    with pytest.raises(
        WeightsError, match=r"is of a point-mae:.*class-token=false.*, and the start given is a point-mae:.*readout=lead\+max|is of a"
    ):
        load_delta(path, pico.backbone(pico.TOKEN_SPEC))
    with pytest.raises(
        WeightsError, match=r"was tuned from the weights [0-9a-f]{16} of a point-mae, and those given are [0-9a-f]{16}\. Give"
    ):
        load_delta(path, pico.backbone(seed=1))


def test_what_is_no_start_is_refused(path, tmp_path, model, start):
    for write in (lambda: load_delta(path, model), lambda: save_delta(tmp_path / "e", model, model.backbone)):
        with pytest.raises(
            UsageError, match=r"was given a start with my_tunings:Adapter:rank=3 grafted into it\. Give the backbone as it was"
        ):
            write()
    with pytest.raises(UsageError, match=r"load_delta was given PosixPath and str; it takes the path of a delta file and the backbone"):
        load_delta(path, "point-mae-mini")
    with pytest.raises(UsageError, match="save_delta was given str, PointMAE and PointMAE"):
        save_delta("x", start, start)
    with pytest.raises(UsageError, match=r"the model's backbone is point-mae:.*, and the start given is point-mae:"):
        save_delta(tmp_path / "e", model, pico.backbone(pico.TOKEN_SPEC))
    assert not (tmp_path / "e").exists()


def test_a_whole_model_and_a_delta_are_told_apart(path, tmp_path, model, start):
    save_model(tmp_path / "m", model)
    with pytest.raises(
        WeightsError, match=r"is no delta file of this wisetune.* It holds a whole model, or a backbone: wisetune.load_model reads it"
    ):
        load_delta(tmp_path / "m", start)
    with pytest.raises(WeightsError, match=r"d\.safetensors is a delta file: .* wisetune\.load_delta\('.*', wisetune\.resolve\('mine'\)"):
        load_model(path)
    with pytest.raises(WeightsError, match=r"holds what my_tunings:Adapter:rank=3 grafted; it is read by wisetune.load_delta"):
        delta.load_delta(path, start)


@pytest.mark.parametrize(
    ("change", "said", "says"),
    [
        (lambda values: values.pop("cls_head_finetune.bias"), {}, r"'cls_head_finetune.bias' is None, not \(3,\)"),
        (lambda values: values.update(stray=torch.ones(2)), {}, r"'stray' is \(2,\), not None"),
        (lambda values: values["cls_head_finetune.bias"].add_(1), {}, "is damaged: its values are not those that were written"),
        (lambda values: values["cls_head_finetune.bias"].fill_(torch.nan), {}, "not finite"),
        (lambda _: None, {"model": "0" * 64}, "do not make the model that was saved"),
        (lambda _: None, {"start": None}, "does not say what model it holds"),
        (lambda _: None, {"grafts": ["my_tunings:Adapter:rank=2"]}, r"is \(3, 16\), not \(2, 16\)"),
        (lambda _: None, {"grafts": ["antigravity:Adapter"]}, "from outside wisetune"),
    ],
)
def test_a_file_that_lies_is_refused(path, start, change, said, says):
    rewrite(path, change, **said)
    with pytest.raises(WeightsError, match=says):
        load_delta(path, start)


def test_no_file_of_this_kind(tmp_path, start):
    (tmp_path / "d").write_bytes(b"\0" * 100)
    with pytest.raises((BadFile, WeightsError)):
        load_delta(tmp_path / "d", start)
    torch.save({}, tmp_path / "p")
    with pytest.raises(WeightsError, match="was not written by wisetune: it is a PyTorch file"):
        load_delta(tmp_path / "p", start)


def test_a_start_of_another_precision_is_another_start(path, start):
    with pytest.raises(WeightsError, match="was tuned from the weights"):
        load_delta(path, copy.deepcopy(start).double())
