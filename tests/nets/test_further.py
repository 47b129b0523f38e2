"""Patches of a cloud beside a backbone's own."""

from __future__ import annotations

import pytest
import torch

import pico
import restated
from net_samples import cloud
from wisetune.nets.backbone import FurtherPatches
from wisetune.nets.create import assemble, parse_any_head
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model

CLOUDS = cloud(0, 2, 64)


def cuts_seen(backbone, groups):
    """What each stack of blocks was given of them."""
    seen = []
    hooks = [
        backbone.get_submodule(stage.blocks).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].further))
        for stage in backbone.anatomy.stages
    ]
    backbone.encode(groups)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", restated.KINDS)
def test_a_backbones_own_patches_and_tokens_stay_what_they_are(kind):
    backbone = restated.KINDS[kind].build().eval()
    own, tokens = backbone.group(CLOUDS), backbone(CLOUDS)
    backbone.further = (FurtherPatches(0, 5, 9),)
    more = backbone.group(CLOUDS)
    assert len(more) == backbone.grouped == len(own) + 2
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(more, own, strict=False))
    assert torch.equal(backbone(CLOUDS).patch, tokens.patch)
    assert [[tuple(part.shape[:2]) for part in cut] for cuts in cuts_seen(backbone, more)[:1] for cut in cuts] == [[(2, 5)] * 3]


@pytest.mark.parametrize("kind", restated.KINDS)
def test_the_same_patches_once_more_have_the_same_tokens(kind):
    """At every level of a pyramid, whatever order they were asked for in."""
    backbone = restated.KINDS[kind].build().eval()
    stages = backbone.anatomy.stages
    backbone.further = tuple(FurtherPatches(number, stage.groups, stage.group_size) for number, stage in reversed(list(enumerate(stages))))
    seen, tokens = [], []
    for stage in stages:
        backbone.get_submodule(stage.blocks).register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    backbone(CLOUDS)
    for (x, context), stage in zip(seen, stages, strict=True):
        (cut,) = context.further
        tokens.append(cut.tokens)
        patches = slice(context.leads, context.leads + stage.groups)
        assert torch.equal(cut.tokens, x[:, patches])
        assert torch.equal(cut.position, context.position[:, patches])
        assert torch.equal(cut.centres, context.centres)
    assert len(tokens) == len(stages)


def test_a_cloud_needs_points_for_them():
    for spec in (pico.SPEC, pico.PYRAMID):
        backbone = spec.build()
        assert backbone.fewest_points < 40
        backbone.further = (FurtherPatches(0, 3, 40),)
        assert backbone.fewest_points == 40


def test_features_with_and_without_them_are_kept_apart(pico_data):
    bank, val = FeatureBank(torch.device("cpu")), pico_data.val
    models = [Model(pico.backbone(), LinearHead().build(32, 4)).eval() for _ in range(2)]
    models[1].backbone.further = (FurtherPatches(0, 3, 4),)
    assert [len(bank.groups(model, val.points, val.digest)) for model in models] == [2, 4]


def test_a_part_segmentation_head_finds_its_own_behind_them():
    for spec, head in restated.PARTS.values():
        model = assemble(spec.build(), parse_any_head(head), list("abc")).eval()
        before = model(CLOUDS, torch.tensor([0, 1]))
        model.backbone.further = (FurtherPatches(0, 3, 4),)
        torch.testing.assert_close(model(CLOUDS, torch.tensor([0, 1])), before)
        assert model.features(CLOUDS).isfinite().all()
