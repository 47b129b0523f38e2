"""The memory of a training step: the released classifier's against published simulations, ours against what it is made to do without."""

from __future__ import annotations

import importlib
from pathlib import Path

import official
import pytest
import torch
import torch.nn.functional as F

import pico
from my_tunings import Adapter
from wisetune.measure._ledger import Ledger
from wisetune.measure.training_memory import TrainingMemory, training_memory
from wisetune.nets.backbone import build_empty, on_meta
from wisetune.nets.create import assemble, class_names, parse_any_head, preset_called
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model

MIB, GIB = 1 << 20, 1 << 30
NEAR = 0.03


def everything(_name):
    return True


def head(name):
    return name.startswith("cls_head_finetune.")


def tokens(name):
    """As the released codes choose by name: the class token and its place too."""
    return "cls" in name


def biases(name):
    return tokens(name) or (name.startswith("blocks.") and name.endswith(".bias"))


# A simulation of the official codes on meta tensors, batch 512, float32, eager softmax attention: values that train, and of 128 and 64 patches the
# peak and what is held after forward in GiB, and what one sample saves in MiB.
OFFICIAL = {
    "full": (None, everything, 22_093_327, (35.73, 35.02, 69.88), (17.54, 17.06, 33.96)),
    "lp (cls tok trainable)": (None, tokens, 268_303, (13.63, 12.71, 25.21), (6.38, 5.87, 11.57)),
    "lp head only": (None, head, 267_535, (12.17, 0.11, 0.01), (6.13, 0.1, 0.01)),
    "bitfit": (None, biases, 305_167, (None, None, 25.21), (None, None, 11.57)),
    "lora r32 qv": (official.lora, tokens, 858_127, (14.96, 14.03, 27.85), (7.05, 6.54, 12.9)),
    "adapter houlsby 2x32": (official.houlsby, tokens, 868_111, (16.18, 15.36, 30.5), (7.67, 7.21, 14.23)),
    "adaptformer 64": (official.adaptformer, tokens, 863_503, (13.81, 12.9, 25.58), (6.47, 5.97, 11.76)),
    "prefix 50": (official.prefix, tokens, 729_103, (15.4, 14.47, 28.74), (7.71, 7.2, 14.22)),
    "ssf": (official.ssf, tokens, 371_215, (26.29, 25.37, 50.53), (12.76, 12.25, 24.32)),
    "vpt-deep 10 frozen": (official.vpt, tokens, 360_463, (14.95, 13.88, 27.54), (7.47, 6.87, 13.55)),
}


def test_the_page_quotes_the_same_simulation(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    quoted = {one.trainable: (one.peak, one.saved) for one in importlib.import_module("benchmarks.memory_page").OFFICIAL}
    mine = {values: ((more[0], less[0]), (more[2], less[2])) for name, (_, _, values, more, less) in OFFICIAL.items() if name != "bitfit"}
    assert mine.items() <= quoted.items()


@pytest.mark.parametrize("groups", [128, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", OFFICIAL)
def test_the_official_codes_hold_what_their_simulation_says(method, groups):
    graft, trains, values, *wanted = OFFICIAL[method]
    batch = 512
    with torch.device("meta"):
        model = official.Classifier()
        before = {id(value) for value in model.parameters()}
        if graft is not None:
            graft(model)
        patches, target = official.clouds(batch, groups), torch.zeros(batch, dtype=torch.int64)
    for name, value in model.named_parameters():
        value.requires_grad_(trains(name) or id(value) not in before)
    train = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert train == values
    with Ledger() as ledger:
        weights, inputs = ledger.hold([*model.parameters(), *model.buffers()]), ledger.hold(patches)
        loss = F.cross_entropy(model(*patches), target)
        held = ledger.live
        loss.backward()
    found = ((ledger.peak + 8 * train) / GIB, (held + 8 * train) / GIB, (held - weights - inputs) / batch / MIB)
    for mine, theirs, rounding in zip(found, wanted[groups == 64], (0.005, 0.005, 0.005), strict=True):
        assert theirs is None or mine == pytest.approx(theirs, rel=NEAR, abs=rounding)


def ours(word):
    preset = preset_called(word)
    backbone = build_empty(preset.backbone)
    with on_meta():
        return assemble(backbone, parse_any_head(preset.head), class_names(preset.classes))


@pytest.fixture(scope="module")
def model():
    return ours("point-mae-scanobjectnn")


def names(model, trains=everything):
    return {name for name, _ in model.named_parameters() if trains(name)}


def of_head(name):
    return name.startswith("head.")


def of_blocks(name):
    return of_head(name) or ".blocks." in name


def test_full_fine_tuning_holds_less_than_the_official_code_with_either_attention(model):
    fused = training_memory(model, names(model), 512)
    math = training_memory(model, names(model), 512, attention="math")
    assert fused.trainable == math.trainable == 22_093_327
    assert fused.gradients == 4 * fused.trainable
    assert fused.moments == 8 * fused.trainable
    assert fused.weights == 4 * fused.trainable + 4 * 2 * (128 + 512 + 256 + 256) + 8 * 4, "BatchNorms' statistics and their counters too"
    assert fused.peak < math.peak < 0.8 * 35.73 * GIB
    assert fused.saved == pytest.approx(49.3 * MIB, rel=0.01)
    scores = 4 * 12 * 6 * 129 * 129  # a softmax a block and head
    assert math.saved - fused.saved == pytest.approx(scores, rel=0.02)


def test_probing_holds_next_to_nothing(model):
    found = training_memory(model, names(model, of_head), 512, moves_features=False)
    assert found.trainable == 267_535
    assert found.saved < 0.02 * MIB
    assert found.held < 0.12 * GIB
    assert found.peak < 1.5 * GIB, "the official code's passing tokenizer takes 12"


def test_a_frozen_tokenizer_costs_no_more_than_a_chunk(model):
    last = names(model, lambda name: of_head(name) or ".blocks.11." in name)
    assert training_memory(model, last, 512, in_training=[model.head]).peak < 3.5 * GIB, "as a whole it passes by with 9"
    frozen, melted = (training_memory(model, names(model, which), 512, in_training=[model.head]) for which in (of_blocks, everything))
    assert melted.held - frozen.held > 5 * GIB


def test_biases_of_blocks_cost_what_the_floor_of_any_method_is(model):
    """Of the official code 25.2 MiB a sample: less the softmax, and more what came out of the attention, which the fused kernel keeps."""
    chosen = names(model, lambda name: of_head(name) or (".blocks." in name and name.endswith(".bias")))
    kept = training_memory(model, chosen, 512, in_training=[model.head])
    assert kept.saved == pytest.approx((25.21 - 4.57 + 2.27) * MIB, rel=0.02)
    again = training_memory(model, chosen, 512, in_training=[model.head], recompute=True)
    block = 4 * 129 * 384
    assert 12 * block < again.saved < 16 * block, "what enters each block, and around them the positions and what enters the last norm"
    assert again.peak < 3.5 * GIB < 11 * GIB < kept.peak


def test_recomputed_blocks_attend_in_the_backward_pass_as_they_did(model):
    """Else what they save would differ, and torch would refuse."""
    for attention in ("fused", "math"):
        found = training_memory(model, names(model), 8, attention=attention, recompute=True)
        assert found.saved < 16 * MIB


def test_a_model_with_values_stays_as_it_is():
    model = Model(pico.backbone(), LinearHead().build(32, 3), LinearHead(), ("a", "b", "c")).eval()
    Adapter().graft_into(model)
    Adapter().freeze(model)
    before, flags = pico.bits(model.state_dict()), [value.requires_grad for value in model.parameters()]
    model.head.train()
    found = training_memory(model, names(model), 4, recompute=True)
    assert found.trainable == sum(value.numel() for value in model.parameters())
    assert pico.bits(model.state_dict()) == before
    assert [value.requires_grad for value in model.parameters()] == flags
    assert all(value.grad is None and not value.is_meta for value in model.parameters())
    assert model.head.training
    assert not model.backbone.training


def test_half_the_batch_saves_half(model):
    some, half = (training_memory(model, names(model), batch) for batch in (64, 32))
    assert half.saved == pytest.approx(some.saved, rel=0.002)
    assert some.held - half.held == pytest.approx(32 * some.saved + some.inputs - half.inputs, rel=0.002)


def test_what_is_in_training_mode_counts():
    model = Model(pico.backbone(), LinearHead().build(32, 3), LinearHead(), ("a", "b", "c")).eval()
    Adapter().graft_into(model)
    chosen = Adapter().freeze(model)
    trained = training_memory(model, chosen, 4, in_training=Adapter().in_training(model))
    rested = training_memory(model, chosen, 4, in_training=[])
    blocks, dropped = 2, 4 * 8 * 2
    assert trained.held - rested.held == blocks * dropped * (1 + 4), "which were kept, and what became of them"


def test_part_segmentation_too():
    model = ours("point-mae-shapenetpart")
    full = training_memory(model, names(model), 16)
    probed = training_memory(model, names(model, of_head), 16, moves_features=False)
    assert isinstance(full, TrainingMemory)
    assert full.saved > 1.5 * probed.saved > 0


def test_where_nothing_trains_nothing_is_saved(model):
    found = training_memory(model, (), 4)
    assert (found.trainable, found.gradients, found.moments) == (0, 0, 0)
    assert found.saved < 0.01 * MIB
