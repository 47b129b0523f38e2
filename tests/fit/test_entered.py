"""What enters the first block that a training changes is computed once, and changes no bit of the training."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

import pico
from pico import CPU, FIT, bits
from wisetune.fit import entered as module
from wisetune.fit.finetune import Labelled, tune
from wisetune.fit.fit import Fit
from wisetune.nets.backbone import Backbone
from wisetune.nets.families.point_m2ae import PointM2AESpec
from wisetune.nets.families.recon import ReConSpec
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.tune.adapter import Adapter
from wisetune.tune.bitfit import BitFit
from wisetune.tune.full import Full
from wisetune.tune.idpt import IDPT
from wisetune.tune.linear import Linear
from wisetune.tune.ssf import SSF
from wisetune.tune.tuning import Tuning, resting

DEEP = dataclasses.replace(pico.SPEC, depth=3)
RECON = ReConSpec(points=64, groups=8, group_size=8, width=16, depth=3, heads=2, tokenizer=(8, 8, 8), initial="fan-in")
PYRAMID = dataclasses.replace(pico.PYRAMID, depths=(1, 2, 2))
KEPT = IDPT(neighbours=3, class_token=False)
QUICK = dataclasses.replace(FIT, epochs=2)


def model_of(spec, tuning: Tuning) -> Model:
    bare = Model(pico.backbone(spec), torch.nn.Identity())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tuning.graft_into(bare)
        return Model(bare.backbone, LinearHead().build(bare.backbone.feature_width, 4)).eval()


def run(model: Model, tuning: Tuning, data, fit: Fit = QUICK, keep: bool = True, **options) -> list[dict[str, float]]:
    chosen = tuning.freeze(model)
    train, val = (Labelled(split.points, split.labels, split.names, split.digest) for split in (data.train, data.val))
    active = tuning.in_training(model)
    first = resting(tuning, model) if keep else 0
    return tune(model, chosen, fit, train, val, 0, in_training=active, first=first, bank=FeatureBank(CPU), **options)


@pytest.fixture
def sites(monkeypatch) -> list[int]:
    """From which block on clouds were encoded, call by call; -1 from the points on."""
    seen = []
    for kind in (pico.PointMAE, PYRAMID.build().__class__, RECON.build().__class__):
        encode = kind.encode

        def look(self, groups, entered=None, encode=encode):
            if torch.is_grad_enabled() and any(part.training for part in self.modules()):
                seen.append(-1 if entered is None else entered.block)
            return encode(self, groups, entered)

        monkeypatch.setattr(kind, "encode", look)
    return seen


@pytest.mark.parametrize(("batch", "select"), [(8, "last"), (7, "best"), (64, "last")])
@pytest.mark.parametrize(
    ("spec", "tuning", "block"),
    [
        (DEEP, KEPT, 2),
        (DEEP, dataclasses.replace(KEPT, layer=1), 1),
        (pico.TOKEN_SPEC, KEPT, 1),
        (PYRAMID, KEPT, 1),
        (PYRAMID, dataclasses.replace(KEPT, layer=0), 0),
        (RECON, dataclasses.replace(KEPT, readout="prompt"), 2),
    ],
    ids=["plain", "plain layer 1", "class token", "pyramid", "pyramid layer 0", "recon"],
)
def test_a_training_that_goes_on_from_a_late_block_ends_with_the_same_bits(pico_data, sites, spec, tuning, block, batch, select):
    fit = dataclasses.replace(QUICK, batch=batch, select=select, drop_path=0.3)
    model = model_of(spec, tuning)
    whole = copy.deepcopy(model)
    log = run(model, tuning, pico_data, fit)
    assert set(sites) == {block}
    assert run(whole, tuning, pico_data, fit, keep=False) == log
    assert bits(model.state_dict()) == bits(whole.state_dict())
    assert -1 in sites


def test_recomputed_blocks_and_a_penalty_go_with_it(pico_data, sites):
    def term(model, groups, logits):
        return 0.1 * (logits - model.head(model.encode(groups))).square().sum() + 0.1 * logits.square().mean()

    ends = []
    for keep in (True, False):
        model = model_of(DEEP, KEPT)
        log = run(model, KEPT, pico_data, dataclasses.replace(QUICK, recompute=True), keep, term=term)
        ends.append((log, bits(model.state_dict())))
    assert ends[0] == ends[1]
    assert 2 in sites


@pytest.mark.parametrize(
    ("fit", "tuning", "spec"),
    [
        (dataclasses.replace(QUICK, augment="jitter"), KEPT, DEEP),
        (dataclasses.replace(QUICK, pool=64, pool_of=64), KEPT, DEEP),
        (QUICK, IDPT(neighbours=3), pico.TOKEN_SPEC),
        (QUICK, dataclasses.replace(KEPT, reading="as_published"), DEEP),
        (QUICK, dataclasses.replace(KEPT, layer=0), DEEP),
        (QUICK, SSF(), DEEP),
        (QUICK, Full(), DEEP),
    ],
    ids=["augmented", "from a pool", "class token trains", "as published", "first block", "grafts everywhere", "everything trains"],
)
def test_where_something_before_a_late_block_changes_nothing_is_kept(pico_data, sites, fit, tuning, spec):
    run(model_of(spec, tuning), tuning, pico_data, fit)
    assert set(sites) == {-1}


def test_what_does_not_fit_into_the_budget_is_not_kept_and_nothing_else_changes(pico_data, sites, monkeypatch):
    count, tokens, width = len(pico_data.train), 8, 16
    ends = []
    for budget, blocks in ((4 * count * tokens * width, {2}), (4 * count * tokens * width - 1, {-1})):
        monkeypatch.setattr(module, "BUDGET", budget)
        sites.clear()
        model = model_of(DEEP, KEPT)
        ends.append((run(model, KEPT, pico_data), bits(model.state_dict())))
        assert set(sites) == blocks
    assert ends[0] == ends[1]


def test_grafts_of_another_tuning_before_it_let_nothing_rest():
    model = model_of(DEEP, Adapter(rank=4))
    model.eval()
    KEPT.graft_into(model)
    KEPT.freeze(model)
    assert resting(KEPT, model) == 0


@dataclasses.dataclass(frozen=True)
class Late(BitFit):
    """Biases of the last block, and of what else is named."""

    also: str = "none"
    inside: str = "none"

    def first_site(self, backbone: Backbone) -> int:
        return len(backbone.anatomy.sites) - 1

    def graft(self, model):
        self.put(model, model.backbone.anatomy.sites[-1].fc2, torch.nn.Identity())

    def trains(self, name: str, _backbone: Backbone) -> bool:
        return name.startswith(("head.", "backbone.blocks.blocks.2.", f"backbone.{self.also}"))

    def in_training(self, model):
        return [*super().in_training(model), *([model.backbone.get_submodule(self.inside)] if self.inside != "none" else [])]


@pytest.mark.parametrize(
    ("tuning", "first"),
    [
        (Late(), 2),
        (Late(also="norm."), 2),
        (Late(also="blocks.blocks.1.norm1.bias"), 0),
        (Late(also="encoder."), 0),
        (Late(also="pos_embed."), 0),
        (Late(inside="norm"), 2),
        (Late(inside="blocks.blocks.2"), 2),
        (Late(inside="blocks.blocks.0.mlp"), 0),
        (Late(inside="encoder.first_conv.1"), 0),
    ],
    ids=str,
)
def test_what_a_tuning_declares_is_held_against_what_trains_and_what_is_in_training_mode(tuning, first):
    model = model_of(DEEP, tuning)
    tuning.freeze(model)
    assert resting(tuning, model) == first


def test_a_tuning_that_says_nothing_has_no_such_block():
    for tuning in (Full(), Linear(), BitFit()):
        assert tuning.first_site(pico.backbone()) == 0


def test_ragged_levels_and_further_patches_go_their_whole_way(pico_data):
    groups = torch.from_numpy(pico_data.train.points[:2])
    ragged: PointM2AESpec = dataclasses.replace(PYRAMID, norm="levels", reading="as_published")
    backbone = pico.backbone(ragged)
    assert backbone.entering(backbone.group(groups), 3) is None
    for spec in (DEEP, PYRAMID):
        backbone = pico.backbone(spec)
        entered = backbone.entering(backbone.group(groups), 2)
        assert (entered.stage, entered.block) == backbone.anatomy.place(2)
        backbone.further = (torch.nn.Module(),)
        assert backbone.entering((), 2) is None
