"""PPT against a second statement of its formula."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import restated
from restated import bottleneck, gelu, line, normed
from wisetune.errors import UsageError
from wisetune.nets.families.point_m2ae import PointM2AESpec
from wisetune.tune.ppt import PPT


def stated(model, points, groups, size):
    """What the head sees of one cloud."""
    backbone = model.backbone
    maps = backbone.blocks.ppt
    patch, patch_place = restated.tokens(points, backbone, backbone.spec.groups, backbone.spec.group_size)
    prompt, prompt_place = restated.tokens(points, backbone, groups, size)
    lead = backbone.cls_token[0]
    for block in backbone.blocks.blocks:
        lead = lead + backbone.cls_pos[0]
        patch, prompt = patch + patch_place, prompt + prompt_place
        patch, prompt = patch + bottleneck(patch, maps.patches), prompt + bottleneck(prompt, maps.prompts)
        x = restated.attended(torch.cat([lead, patch, prompt]), block)
        x = x + restated.transformed(x, block) + bottleneck(x, maps.beside)
        lead, patch, prompt = x[:1], x[1 : 1 + len(patch)], x[1 + len(patch) :]
    return torch.cat([normed(part, backbone.norm).mean(dim=0) for part in (lead, patch, prompt)])


@pytest.mark.parametrize(
    ("options", "groups", "size"), [({}, 8, 8), ({"reading": "as_published"}, 8, 8), ({"groups": 5, "group_size": 11}, 5, 11)]
)
def test_the_formula(options, groups, size):
    model, points = restated.tuned(PPT(rank=5, **options), head="mlp3:activation=gelu"), restated.clouds()
    wanted = torch.stack([stated(model, cloud, groups, size) for cloud in points])
    torch.testing.assert_close(model.features(points), wanted, rtol=1e-10, atol=1e-10)
    first, norm1, _, _, second, norm2, _, _, third = model.head
    x = wanted
    for layer, norm in ((first, norm1), (second, norm2)):
        x = line(x, layer)
        x = gelu((x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias)
    torch.testing.assert_close(model(points), line(x, third), rtol=1e-10, atol=1e-10)


def test_prompts_of_the_backbones_own_patches_are_not_made_twice():
    """As published they are, so that in training the tokenizer's statistics move twice."""
    points, moved = restated.clouds(4), {}
    for reading in ("as_intended", "as_published"):
        tuning = PPT(rank=5, reading=reading)
        model = restated.tuned(tuning)
        norm, before = model.backbone.encoder.norm1, model.backbone.encoder.norm1.num_batches_tracked.item()
        for module in tuning.in_training(model):
            module.train()
        model(points)
        moved[reading] = norm.num_batches_tracked.item() - before
    assert moved == {"as_intended": 0, "as_published": 2}


def test_what_a_head_sees():
    points = restated.clouds()
    means, tokens, everything = models = [restated.tuned(PPT(rank=5, readout=readout)) for readout in ("means", "tokens", "all")]
    for model in models:
        model.backbone.load_state_dict(means.backbone.state_dict(), strict=False)
    lead, extra, peak = everything.features(points).chunk(3, dim=1)
    assert torch.equal(tokens.features(points), torch.cat([lead, peak], dim=1))
    assert torch.equal(means.features(points)[:, 32:], extra)
    assert tokens.backbone.readout == "lead+max"


def test_the_width_of_the_maps_follows_that_of_tokens():
    model = restated.tuned(PPT(), restated.KINDS["pyramid"])
    levels = [model.backbone.get_submodule(stage.blocks).ppt for stage in model.backbone.anatomy.stages]
    assert [(len(level.beside.down.weight), level.beside.down.in_features) for level in levels] == [(5, 8), (8, 12), (10, 16)]


@pytest.mark.parametrize(
    ("tuning", "spec", "says"),
    [
        (PPT(rank=17), restated.SPEC, "rank=17, and blocks is 16 wide.* at most 16"),
        (PPT(groups=65), restated.SPEC, "into 65 patches of 8, and 'point-mae:.*' has 64 points or patches to make them of. Give fewer"),
        (PPT(group_size=13), restated.KINDS["pyramid"], "into 8 patches of 13, and .* has 12 points or patches"),
        (
            PPT(),
            PointM2AESpec(norm="levels", reading="as_published"),
            "how many patches .* depends on the batch. Take its reading=as_intended",
        ),
    ],
)
def test_what_cannot_be_grafted(tuning, spec, says):
    with pytest.raises(UsageError, match=says):
        restated.tuned(tuning, spec)


def test_prompts_reach_as_far_as_patches_do():
    """In a pyramid attention is local. Where prompts are copies and the maps are nothing, a token has its neighbours twice, and stays what it was."""
    spec = dataclasses.replace(restated.KINDS["pyramid"], radii=(0.3, 0.5, 0.8))
    model = restated.tuned(PPT(rank=5, readout="tokens"), spec)
    for stage in model.backbone.anatomy.stages:
        for value in model.backbone.get_submodule(stage.blocks).ppt.parameters():
            value.data.zero_()
    points = restated.clouds()
    plain = spec.build().double().eval()
    plain.load_state_dict(model.backbone.state_dict(), strict=False)
    torch.testing.assert_close(model.features(points), plain.pool(plain(points)), rtol=1e-10, atol=1e-10)
