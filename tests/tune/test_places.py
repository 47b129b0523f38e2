"""What PPT, PointGST and PointLoRA promise on every kind of backbone: they work with the places of patches, which other tunings do not look at."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import restated
from children import environment
from wisetune.nets.backbone import on_meta
from wisetune.nets.create import BACKBONES, assemble, parse_any_head
from wisetune.nets.macs import macs
from wisetune.nets.segmenter import Segmenter
from wisetune.tune.tunings import TUNINGS

SMALL = [
    *("ppt:rank=4", "ppt:rank=4,groups=5,group-size=6", "ppt:rank=4,reading=as_published"),
    *("pointgst:rank=4,local=3", "pointgst:rank=4,reading=as_published"),
    *("pointlora:rank=4,selected=5+2", "pointlora:rank=4,selected=5+2,reading=as_published"),
]
EXACT = {
    "ppt": (("mlp3:activation=gelu", "scanobjectnn", 15, 1_042_191), ("mlp3:activation=gelu", "modelnet-1k", 40, 1_048_616)),
    "pointgst": (("mlp3", "scanobjectnn", 15, 622_831), ("mlp3", "modelnet-1k", 40, 629_256)),
    "pointlora": (("mlp3", "scanobjectnn", 15, 772_752), ("mlp3", "modelnet-1k", 40, 779_177)),
}


@pytest.mark.parametrize(("tuning", "case"), [(tuning, case) for tuning, cases in EXACT.items() for case in cases], ids=str)
@pytest.mark.parametrize("reading", ["as_intended", "as_published"])
def test_how_many_parameters_train(tuning, case, reading):
    head, preset, classes, count = case
    chosen = TUNINGS.parse(f"{tuning}:reading={reading}")
    with on_meta():
        backbone = BACKBONES.entry("point-mae").presets()[preset].backbone.build()
        model = assemble(backbone, parse_any_head("linear"), ["a"])
        chosen.graft_into(model)
        model = assemble(backbone, parse_any_head(head), list(map(str, range(classes))))
    assert sum(value.numel() for value in chosen.freeze(model).values()) == count


def on_every_kind(*texts):
    """Each tuning on every kind of backbone; other settings of it by default on a plain one and a pyramid."""
    first = {text.partition(":")[0]: text for text in reversed(SMALL)}.values()
    return pytest.mark.parametrize(
        ("text", "kind"),
        [
            pytest.param(text, kind, id=f"{name}-{text}", marks=[] if text in first or name in ("plain", "pyramid") else pytest.mark.slow)
            for name, kind in restated.KINDS.items()
            for text in texts
        ],
    )


@on_every_kind(*SMALL)
def test_every_parameter_that_trains_has_a_gradient_and_none_other(text, kind):
    tuning = TUNINGS.parse(text)
    model = restated.tuned(tuning, kind, precision=torch.float32)
    chosen = tuning.freeze(model)
    for module in tuning.in_training(model):
        module.train()
    loss = model(restated.clouds(4).float()).square().sum()
    term = tuning.term(model)
    (loss if term is None else loss + term).backward()
    # BatchNorm takes out of a batch what the map before it adds.
    dead = {name for name in chosen if name.endswith("first_conv.0.bias")} if tuning.reading == "as_published" else set()
    assert {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()} | dead == set(chosen) | dead
    copy.deepcopy(model)
    pickle.loads(pickle.dumps(model.backbone.state_dict()))
    assert pickle.loads(pickle.dumps(model.eval()))(restated.clouds(1).float()).equal(model(restated.clouds(1).float()))


@on_every_kind(*(text for text in SMALL if "pointgst:rank=4,reading" not in text))
def test_a_cloud_gives_the_same_whatever_is_beside_it(text, kind):
    model, points = restated.tuned(TUNINGS.parse(text), kind), restated.clouds(3)
    together = model(points)
    for row in range(3):
        torch.testing.assert_close(model(points[row : row + 1])[0], together[row], rtol=0, atol=1e-8)


@on_every_kind(*SMALL)
def test_at_share_0_it_is_the_backbone(text, kind):
    tuning = TUNINGS.parse(text)
    model, points = restated.tuned(tuning, kind), restated.clouds()
    plain = kind.build().double().eval()
    plain.load_state_dict(model.backbone.state_dict(), strict=False)
    whole = plain(points)
    seen = restated.at_share(model, 0.0).backbone(points)
    torch.testing.assert_close(seen.lead, whole.lead, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(seen.patch, whole.patch, rtol=1e-9, atol=1e-9)
    features = model.features(points)
    if text.startswith("ppt"):
        wanted = torch.cat([whole.lead.flatten(1), whole.patch.mean(dim=1), torch.zeros_like(whole.patch[:, 0])], dim=1)
    else:
        wanted = plain.pool(whole)
    torch.testing.assert_close(features, wanted, rtol=1e-9, atol=1e-9)
    between = restated.at_share(model, 0.5).features(points)
    tuned = restated.at_share(model, 1.0).features(points)
    assert not torch.allclose(between, wanted)
    assert not torch.allclose(between, tuned)
    torch.testing.assert_close(restated.at_share(model, 1 - 1e-9).features(points), tuned, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", [SMALL[0], SMALL[1], SMALL[3], SMALL[5], SMALL[6]])
@pytest.mark.parametrize("parts", restated.PARTS)
def test_part_segmentation(text, parts):
    spec, head = restated.PARTS[parts]
    tuning = TUNINGS.parse(text)
    model = restated.tuned(tuning, spec, head, torch.float32)
    assert isinstance(model, Segmenter)
    chosen = tuning.freeze(model)
    points, category = restated.clouds().float(), torch.tensor([1, 3])
    tuned = model(points, category)
    assert tuned.shape == (2, 64, 3)
    tuned.square().sum().backward()
    # Of a selection that has no part of the loss the scores are idle, outside training.
    idle = {name for name in chosen if ".inner." in name or ".outer." in name} if "as_published" in text else set()
    still = {name for name, value in chosen.items() if value.grad is None or not value.grad.any()}
    assert {name for name in still if name.startswith("backbone")} <= idle
    without = restated.at_share(model, 0.0)(points, category)
    assert not torch.allclose(without, tuned)
    plain = spec.build().eval()
    plain.load_state_dict(model.backbone.state_dict(), strict=False)
    model.backbone = plain
    torch.testing.assert_close(model(points, category), without, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("text", SMALL[::2])
def test_what_it_costs_is_known_without_values(text):
    tuning = TUNINGS.parse(text)
    some = macs(restated.tuned(tuning, precision=torch.float32))
    none = macs(assemble(restated.SPEC.build(), parse_any_head("mlp3"), list("abc")))
    assert some.published > none.published
    assert some.true > none.true


@pytest.mark.slow
@pytest.mark.parametrize("text", [SMALL[1], SMALL[3], SMALL[5], SMALL[6]])
def test_it_compiles_as_a_whole(text):
    script = Path(__file__).with_name("compiled_places.py")
    done = subprocess.run([sys.executable, script, text], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
