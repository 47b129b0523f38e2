"""LoRA against the package peft on the same weights; peft_golden.py says how its values were made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft_golden import CASES, FILE, block_state, thin, tokens

from net_samples import TINY_OPTIONS
from wisetune import create
from wisetune.nets.transformer import Block, Context
from wisetune.spelling import spell

PLACES = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(params=CASES)
def case(request):
    """The first block of a model with LoRA, with peft's values in it, and what peft found."""
    maps, rank, alpha = CASES[request.param]
    model = create("point-mae", classes=2, tuning=f"lora:at={maps},rank={rank},alpha={spell(alpha)}", **TINY_OPTIONS).double()
    block = model.backbone.blocks.blocks[0]
    with torch.no_grad():
        for name, value in block_state().items():
            module, _, leaf = name.rpartition(".")
            block.get_submodule(PLACES.get(module, module)).get_parameter(leaf).copy_(value)
        for part in maps.split("+"):
            linear = block.get_submodule(PLACES.get(part, "attn.qkv"))
            number = [one for one in maps.split("+") if one in "qkv"].index(part) if part in ("q", "k", "v") else 0
            down, up = thin(part, linear.in_features, len(linear.lora.up[number]), rank)
            linear.lora.down[number].copy_(down)
            linear.lora.up[number].copy_(up)
    with np.load(FILE) as golden:
        found = {key.removeprefix(f"{request.param}/"): golden[key] for key in golden.files if key.startswith(f"{request.param}/")}
    assert isinstance(block, Block)
    return block, found


def test_outputs_are_those_of_peft(case):
    block, golden = case
    with torch.no_grad():
        np.testing.assert_allclose(block(tokens(), Context(None)).numpy(), golden["output"], **CLOSE)


def test_folded_weights_and_their_outputs_are_those_of_peft(case):
    block, golden = case
    for place in PLACES.values():
        linear = block.get_submodule(place)
        if hasattr(linear, "lora"):
            with torch.no_grad():
                linear.weight += linear.lora.delta()
                linear.lora.share.zero_()
    third = dict(zip("qkv", block.attn.qkv.weight.detach().chunk(3), strict=True))
    for key in (key for key in golden if key.startswith("merged/")):
        part = key.removeprefix("merged/")
        found = third[part] if part in third else block.get_submodule(PLACES[part]).weight.detach()
        np.testing.assert_allclose(found.numpy(), golden[key], **CLOSE)
    with torch.no_grad():
        np.testing.assert_allclose(block(tokens(), Context(None)).numpy(), golden["output_merged"], **CLOSE)
