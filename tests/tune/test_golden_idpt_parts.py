"""Part segmentation as IDPT releases it: its numbers, at its official sizes, from its released names."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from net_samples import TINY_OPTIONS, cloud
from tuned_samples import empty, fill_live, golden_of, schema_of
from wisetune import create, load_official, official_state
from wisetune.nets.segmenter import Segmenter

PYRAMID = {
    "points": 64,
    "groups": (16, 12, 8),
    "group_sizes": (8, 4, 3),
    "widths": (8, 12, 16),
    "depths": (1, 2, 1),
    "heads": 2,
    "tokenizer": (8, 8, 8),
}
CASE = "idpt-shapenetpart"
TUNING = "idpt-parts:preset=shapenetpart"
WIDE = {"rtol": 1e-9, "atol": 1e-9}
DEAD = 3 * 2 * 384
"""Parameters of a BatchNorm a prompt that the released module registers and never calls; here there is none."""


def test_names_shapes_and_counts_are_the_released_ones(shared):
    schema = schema_of(shared, CASE)
    model, tuning = empty(TUNING, 50, preset="shapenetpart")
    assert {name: tuple(value.shape) for name, value in official_state(model).items()} == {
        name: tuple(entry["shape"]) for name, entry in schema["entries"].items()
    }
    assert sum(value.numel() for value in model.parameters()) == schema["n_total"] - DEAD
    assert sum(value.numel() for value in tuning.freeze(model).values()) == schema["n_trainable"] - DEAD


@pytest.fixture(scope="module")
def segmenter(shared):
    model, tuning = empty(TUNING, 50, preset="shapenetpart", points=1024)
    return fill_live(model, tuning), golden_of(shared, CASE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_part_segmentation(segmenter, dtype):
    model, golden = segmenter
    model, wide = copy.deepcopy(model).to(dtype), dtype == torch.float64
    norms, spread = [], []
    model.backbone.norm.register_forward_hook(lambda _module, _inputs, output: norms.append(output), prepend=True)
    model.head.propagation_0.register_forward_hook(lambda _module, _inputs, output: spread.append(output))
    with torch.no_grad():
        logits = model(torch.from_numpy(golden["cloud"]), torch.from_numpy(golden["cls_label_onehot"])[:, 0])
    found, suffix = F.log_softmax(logits, dim=-1), "64" if wide else "32"
    close = WIDE if wide else {"rtol": 1e-4, "atol": 2e-5}
    np.testing.assert_allclose(found[:, ::16], golden[f"logp_f{suffix}_s16"], **close)
    np.testing.assert_array_equal(found.argmax(dim=-1), golden[f"argmax_f{suffix}"])
    if wide:
        for level, tokens in enumerate(norms):
            theirs = torch.cat([tokens[:, -2:].flip(1), tokens[:, :-2]], dim=1)  # the prompt as made, as it came out, patches
            np.testing.assert_allclose(theirs[..., ::16], golden[f"level{level}_norm_s16"], **WIDE)
        np.testing.assert_allclose(spread[0].transpose(1, 2)[:, ::64, ::16], golden["prop_s64"], **WIDE)


def test_a_released_file_loads(tmp_path):
    options = {**TINY_OPTIONS, "depth": 3}
    source, model = (create("point-mae", preset="shapenetpart", tuning="idpt-parts", seed=seed, **options) for seed in (1, 2))
    assert isinstance(model, Segmenter)
    torch.save(
        {"model_state_dict": {f"module.{name}": value for name, value in official_state(source).items()}}, tmp_path / "best_model.pth"
    )
    report = load_official(model, tmp_path / "best_model.pth")
    assert (report.coverage, report.fresh, report.ignored, report.notes) == (1.0, (), (), ())
    with torch.no_grad():
        assert torch.equal(model(cloud(0, 2, 64), torch.tensor([3, 7])), source(cloud(0, 2, 64), torch.tensor([3, 7])))


def test_prompts_are_dropped_behind_their_block():
    model = create("point-mae", preset="shapenetpart", tuning="idpt-parts", **{**TINY_OPTIONS, "depth": 6})
    lengths = []
    for block in model.backbone.blocks.blocks:
        block.attn.register_forward_hook(lambda _module, inputs, _output: lengths.append(inputs[0].shape[1]))
    with torch.no_grad():
        model(cloud(0, 2, 64), torch.tensor([3, 7]))
    assert lengths == [8, 9, 8, 9, 8, 9]


@pytest.mark.parametrize(("family", "options"), [("point-mae", TINY_OPTIONS), ("act", TINY_OPTIONS), ("point-m2ae", PYRAMID)])
def test_in_every_family_each_level_has_a_prompt_that_can_be_shut(family, options):
    """The head of a pyramid and that of Point-BERT have their own idea of a whole level; where it is prompts, shut ones are nothing."""
    plain, model = (create(family, preset="shapenetpart", tuning=tuning, seed=1, **options) for tuning in (None, "idpt-parts"))
    clouds = cloud(0, 2, 64)
    with torch.no_grad():
        before, after = (one.backbone.levels(one.group(clouds)[: one.backbone.grouped]) for one in (plain, model))
        assert all(level.tokens.extra.shape[1] == 2 for level in after)
        assert all(not torch.equal(old.tokens.patch, new.tokens.patch) for old, new in zip(before, after, strict=True))
        model.load_state_dict({name: value * (not name.endswith(".share")) for name, value in model.state_dict().items()})
        shut = model.backbone.levels(model.group(clouds)[: model.backbone.grouped])
    for old, new in zip(before, shut, strict=True):
        torch.testing.assert_close(new.tokens.patch, old.tokens.patch)
        assert not new.tokens.extra.any()
