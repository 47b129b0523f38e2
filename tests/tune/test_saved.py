"""Models into which a tuning grafted, in files."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import safetensors
import safetensors.torch
import torch

import pico
from my_tunings import Adapter, Factor, Scaled, tuned
from pico import bits
from wisetune import load_model, resolve, save_model
from wisetune.errors import UsageError, WeightsError
from wisetune.nets.files import save
from wisetune.nets.heads import HEADS, LinearHead
from wisetune.spec import option
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear

CLOUDS = torch.from_numpy(pico.data(train=1, val=0, test=1).test.points)


def logits(model):
    with torch.inference_mode():
        return model(CLOUDS)


@pytest.fixture
def path(tmp_path):
    save_model(tmp_path / "m.safetensors", tuned(Adapter(3)), {"data": "scans"})
    return tmp_path / "m.safetensors"


def rewrite(path, **said) -> None:
    """The same values with other metadata, as somebody else might write them."""
    with safetensors.safe_open(path, "pt") as file:
        known = json.loads(file.metadata()["wisetune"]) | said
    path.write_bytes(safetensors.torch.save(safetensors.torch.load_file(path), {"wisetune": json.dumps(known)}))


@pytest.mark.parametrize("tunings", [(Adapter(3),), (Scaled(0.25),), (Adapter(), Scaled()), (Adapter(), Full(), Linear())], ids=str)
@pytest.mark.parametrize("spec", [pico.SPEC, pico.TOKEN_SPEC], ids=["plain", "token"])
def test_a_file_gives_back_the_model_with_what_was_grafted(tmp_path, tunings, spec):
    model, path = tuned(*tunings, spec=spec), tmp_path / "m.safetensors"
    save_model(path, model, {"data": "scans"})
    noted = tuple(tuning.in_full() for tuning in tunings if tuning in (Adapter(3), Adapter(), Scaled(0.25), Scaled()))
    assert save.read_card(path).grafts == tuple(graft.tuning for graft in model.backbone.grafts) == noted
    state = torch.get_rng_state()
    again = load_model(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert bits(again.state_dict()) == bits(model.state_dict())
    assert (again.backbone.grafts, again.training) == (model.backbone.grafts, False)
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(again), logits(tuned(spec=spec)))
    again.train()(CLOUDS).sum().backward()  # nothing was left on the meta device
    save_model(tmp_path / "again.safetensors", load_model(path), {"data": "scans"})
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_half_precision(tmp_path):
    model = tuned(Adapter())
    save_model(tmp_path / "h", model, half=True)
    wanted = {name: value.half().float() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    assert bits(load_model(tmp_path / "h").state_dict()) == bits(wanted)


def test_without_grafts_a_file_says_nothing_of_them(tmp_path):
    save_model(tmp_path / "m", tuned(Full(), Linear()))
    with safetensors.safe_open(tmp_path / "m", "pt") as file:
        assert "grafts" not in json.loads(file.metadata()["wisetune"])


def test_options_that_came_after_a_file_mean_what_was_done_before(tmp_path, monkeypatch):
    model = tuned(Scaled(1.0))
    save_model(tmp_path / "m", model)
    rewrite(tmp_path / "m", grafts=["my_tunings:Scaled"])
    assert torch.equal(logits(load_model(tmp_path / "m")), logits(model))
    later = {"name": "linear", "__annotations__": {"after": int}, "after": option(3, absent=2)}
    monkeypatch.setitem(HEADS, "linear", dataclasses.dataclass(frozen=True)(type("Later", (LinearHead,), later)))
    assert load_model(tmp_path / "m").head_spec.after == 2


@pytest.mark.parametrize(
    ("grafts", "says"),
    [
        (["antigravity:Adapter"], "its tuning is 'antigravity:Adapter', from outside wisetune, .* import antigravity first"),
        (["my_tunings:Nothing"], "the module 'my_tunings' has no class 'Nothing'"),
        (["my_tunings:Bottleneck"], "is not a tuning"),
        (["my_tunings:Adapter:rnk=3"], "Did you mean 'rank'"),
        (["loras"], "there is no tuning 'loras'"),
        (
            ["my_tunings:Adapter:rank=2"],
            r"is not the point-mae that it says: 'blocks.blocks.0.adapter.down.weight' is \(3, 16\), not \(2, 16\)",
        ),
        (["my_tunings:Scaled"], r"'blocks.blocks.0.adapter.down.bias' is \(3,\), not None"),
        (["full"], r"'blocks.blocks.0.adapter.down.bias' is \(3,\), not None"),
        ([], r"'blocks.blocks.0.adapter.down.bias' is \(3,\), not None"),
        (["my_tunings:Adapter:rank=3"] * 2, "grafts in the place of 'blocks.blocks.0.adapter', which the backbone had before. Graft once"),
        (["my_tunings:Adapter:rank=10000000000000"], r"is \(3, 16\), not \(10000000000000, 16\)"),
        (["my_tunings:Adapter:rank=" + "9" * 18], "rank=9*' cannot be grafted .Storage size calculation overflowed"),
        (["my_tunings:Adapter:rank=" + "9" * 30], "rank=9*' cannot be grafted .empty"),
        (["my_tunings:Broken"], r"'my_tunings:Broken' cannot be grafted \(out of order\)"),
        (["my_tunings:Broken:kind=MemoryError"], r"cannot be grafted \(out of order\)"),
        (3, "does not say what model it holds"),
        ([3], "there is no tuning '3'"),
    ],
)
def test_a_file_that_lies_about_its_grafts(path, grafts, says):
    rewrite(path, grafts=grafts)
    with pytest.raises(WeightsError, match=says):
        load_model(path)
    assert "antigravity" not in sys.modules


def test_where_a_plain_backbone_is_needed_such_a_file_is_refused(path):
    for read in (resolve, save.load_backbone, save.load_model):
        with pytest.raises(WeightsError, match=r"into which my_tunings:Adapter:rank=3 grafted.*read by wisetune.load_model"):
            read(path)


def test_what_no_file_could_give_back_is_not_written(tmp_path):
    model = tuned(Adapter())
    with pytest.raises(UsageError, match=r"my_tunings:Adapter:rank=2 was put into this backbone .* Save the whole model"):
        save.save_backbone(tmp_path / "b", model.backbone)
    for by_hand in (tuned(), model):
        by_hand.backbone.norm.factor = Factor(0.5)
        by_hand.backbone.norm.register_forward_hook(by_hand.backbone.norm.factor.after)
        with pytest.raises(UsageError, match=r"'norm.factor' was put into this backbone after point-mae built it.* by a tuning"):
            save_model(tmp_path / "m", by_hand)
    assert list(tmp_path.iterdir()) == []
