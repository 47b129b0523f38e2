"""PointLoRA against a second statement of its formula."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch
import torch.nn.functional as F

import pico
import restated
from restated import bottleneck, line, normed
from wisetune.errors import UsageError
from wisetune.nets.heads import LinearHead
from wisetune.recipe import Start, Tune
from wisetune.tune.pointlora import PointLoRA


def scored(tokens, maps):
    return 1 / (1 + torch.exp(-line(line(tokens, maps.inner).clamp(min=0), maps.outer)[:, 0]))


def stated(model, points, scales, scale):
    """What the head sees of one cloud. ``scales`` are patches, points of each, and how many are selected."""
    backbone = model.backbone
    maps = backbone.blocks.pointlora
    patch, patch_place = restated.tokens(points, backbone, backbone.spec.groups, backbone.spec.group_size)
    chosen = []
    for groups, size, count in scales:
        tokens, places = restated.tokens(points, backbone, groups, size)
        ranked = sorted(zip((-scored(tokens, maps)).tolist(), range(groups), strict=True))
        best = [row for _, row in ranked[:count]]
        chosen.append((tokens[best], places[best]))
    prompt, prompt_place = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    lead = backbone.cls_token[0]
    for block in backbone.blocks.blocks:

        def beside(x, map_, shared):
            (down,), (up,) = map_.pointlora.down, map_.pointlora.up
            return scale * (x @ down.T) @ up.T + bottleneck(x, shared)

        lead = lead + backbone.cls_pos[0]
        patch, prompt = patch + patch_place, prompt + prompt_place
        patch, prompt = patch + bottleneck(patch, maps.patches), prompt + bottleneck(prompt, maps.prompts)
        x = restated.attended(
            torch.cat([lead, patch, prompt]),
            block,
            lambda x, at=block.attn.qkv: beside(x, at, maps.qkv),
            lambda x, at=block.attn.proj: beside(x, at, maps.proj),
        )
        x = x + restated.transformed(x, block)
        lead, patch, prompt = x[:1], x[1 : 1 + len(patch)], x[1 + len(patch) :]
    return torch.cat([normed(lead, backbone.norm)[0], normed(torch.cat([patch, prompt]), backbone.norm).amax(dim=0)])


@pytest.mark.parametrize(
    ("options", "scales", "scale"),
    [
        ({"selected": (5, 2)}, [(8, 8, 5), (4, 16, 2)], 1.0),
        ({"selected": (5, 2), "reading": "as_published"}, [(8, 8, 5), (4, 16, 2)], 1.0),
        ({}, [(8, 8, 8), (4, 16, 4)], 1.0),
        ({"selected": (3,), "groups": (9,), "group_sizes": (7,), "alpha": 10.0}, [(9, 7, 3)], 2.5),
    ],
)
def test_the_formula(options, scales, scale):
    model, points = restated.tuned(PointLoRA(rank=4, hidden=3, **options)), restated.clouds()
    wanted = torch.stack([stated(model, cloud, scales, scale) for cloud in points])
    torch.testing.assert_close(model.features(points), wanted, rtol=1e-10, atol=1e-10)


def in_training(reading):
    """A model of which only the selection is in training mode, and the gradients of its scores' maps under a loss."""
    tuning = PointLoRA(rank=4, hidden=3, selected=(5, 2), reading=reading, penalty=0.3)
    model = restated.tuned(tuning)
    tuning.freeze(model)
    selection = model.backbone.blocks.pointlora.train()
    loss = F.cross_entropy(model(restated.clouds()), torch.tensor([0, 2]))
    term = tuning.term(model)
    assert (term is None) == (reading == "as_intended")
    (loss if term is None else loss + term).backward()
    return model, {name: value.grad.clone() for name, value in selection.named_parameters() if name.startswith(("inner", "outer"))}


def test_as_published_scores_learn_by_their_entropy_alone():
    model, found = in_training("as_published")
    backbone, maps = model.backbone, model.backbone.blocks.pointlora
    penalty = 0.0
    for weight, groups, size in ((1.0, 8, 8), (0.25, 4, 16)):
        tokens = torch.cat([restated.tokens(cloud, backbone, groups, size)[0] for cloud in restated.clouds()])
        p = scored(tokens, maps)
        penalty = penalty + 0.3 * weight * (p * (p + 1e-6).log() + (1 - p) * (1 - p + 1e-6).log()).mean()
    wanted = torch.autograd.grad(penalty, [maps.get_parameter(name) for name in found])
    for name, value in zip(found, wanted, strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)
    model.eval().zero_grad()
    model(restated.clouds()).sum().backward()
    assert maps.outer.weight.grad is None
    assert PUBLISHED.term(model) is None, "it is a part of the loss of training alone"


PUBLISHED = PointLoRA(rank=4, hidden=3, selected=(5, 2), reading="as_published", penalty=0.3)


def test_the_penalty_counts_as_whoever_trains_weighs_it():
    model = restated.tuned(PUBLISHED)
    chosen = PUBLISHED.freeze(model)
    selection = model.backbone.blocks.pointlora.train()
    model(restated.clouds()).sum().backward()
    assert selection.outer.weight.grad is None, "a loss without the term has nothing of it"
    one = PUBLISHED.term(model)
    assert PUBLISHED.term(model) is None, "each forward pass has it once"
    found = []
    for weight in (1.0, 0.25):
        model.zero_grad()
        model(restated.clouds())
        term = PUBLISHED.term(model)
        torch.testing.assert_close(term, one)
        (weight * term).backward()
        found.append(selection.outer.weight.grad.clone())
    assert found[0].any()
    torch.testing.assert_close(found[1], 0.25 * found[0])
    assert chosen["backbone.blocks.pointlora.outer.weight"] is selection.outer.weight


def test_a_model_that_owes_a_penalty_is_copied():
    model = restated.tuned(PUBLISHED)
    PUBLISHED.freeze(model)
    model.backbone.blocks.pointlora.train()
    model(restated.clouds())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert PUBLISHED.term(copied) is None
    assert PUBLISHED.term(model) is not None


@pytest.mark.parametrize("spec", [pico.TOKEN_SPEC, pico.PYRAMID], ids=["plain", "pyramid"])
def test_a_training_adds_it_to_its_loss_and_logs_it(tmp_path, spec):
    data, logs = pico.data(), []
    for penalty in (0.004, 40.0):
        builder = pico.builder(tmp_path / str(penalty), spec=spec)
        tuning = PointLoRA(rank=4, reading="as_published", penalty=penalty)
        fit = dataclasses.replace(pico.FIT, epochs=2, lr=1e-9)
        recipe = Tune(Start(spec, "random:0"), tuning, LinearHead(), data.training_digest, fit)
        builder.model(recipe)
        logs.append(builder.log(recipe))
    for small, large in zip(*logs, strict=True):
        assert large["tuning_term"] == pytest.approx(1e4 * small["tuning_term"], rel=1e-4)
        assert large["tuning_term"] < 0, "a negated entropy"
        assert large["loss"] - small["loss"] == pytest.approx(large["tuning_term"] - small["tuning_term"], rel=1e-4)


def test_as_intended_scores_learn_how_much_a_chosen_token_counts(monkeypatch):
    """The gradient is that of the tokens' lengths, and the tokens are as long as they are."""
    model, found = in_training("as_intended")
    selection, seen = model.backbone.blocks.pointlora, {}

    def prompt(self, own, further):
        seen["chosen"] = kept(self, own, further)
        seen["among"] = (own.tokens, further[0].tokens)
        return seen["chosen"]

    kept = type(selection).prompt
    monkeypatch.setattr(type(selection), "prompt", prompt)
    loss = F.cross_entropy(model(restated.clouds()), torch.tensor([0, 2]))
    tokens = seen["chosen"].tokens
    (to_tokens,) = torch.autograd.grad(loss, tokens, retain_graph=True)
    best = [
        selection.score(among).sort(dim=1, descending=True).values[:, :count] for among, count in zip(seen["among"], (5, 2), strict=True)
    ]
    lengths = (torch.cat(best, dim=1) * (to_tokens * tokens).sum(dim=-1).detach()).sum()
    wanted = torch.autograd.grad(lengths, [selection.get_parameter(name) for name in found])
    for name, value in zip(found, wanted, strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)
        assert value.any()


@pytest.mark.parametrize("readout", ["all", "tokens"])
def test_maxima_are_over_prompts_too(readout):
    model, points = restated.tuned(PointLoRA(rank=4, readout=readout), restated.KINDS["plain"]), restated.clouds()
    tokens = model.backbone(points)
    assert tokens.extra is not None
    everything = torch.cat([tokens.patch, tokens.extra], dim=1)
    peak = (everything if readout == "all" else tokens.patch).amax(dim=1)
    assert not torch.equal(everything.amax(dim=1), tokens.patch.amax(dim=1))
    assert torch.equal(model.features(points), torch.cat([peak, tokens.patch.mean(dim=1)], dim=1))


def test_between_the_ends_a_maximum_is_on_the_line_from_that_of_patches():
    model, points = restated.tuned(PointLoRA(rank=4)), restated.clouds()
    norm, seen = model.backbone.norm, []
    norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    restated.at_share(model, 0.25)
    for module in (module for name, module in model.backbone.named_modules() if "pointlora" in name and not name.startswith("norm.")):
        if hasattr(module, "share"):
            module.share.fill_(1.0)
    features = model.features(points)
    whole = restated.at_share(model, 1.0).features(points)
    patches = seen[-1][:, 1:9].amax(dim=1)
    torch.testing.assert_close(features[:, 16:], torch.lerp(patches, whole[:, 16:], 0.25), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 17}, "rank=17, and blocks is 16 wide"),
        ({"rank": 4, "groups": (4,)}, "selected=\\(32, 8\\) and groups=\\(4,\\); give one number for each scale"),
        ({"rank": 4, "selected": ()}, "has no scale"),
        ({"rank": 4, "groups": (4, 70)}, "into 70 patches of 16, and .* has 64 points or patches"),
    ],
)
def test_what_cannot_be_grafted(options, says):
    with pytest.raises(UsageError, match=says):
        restated.tuned(PointLoRA(**options))
