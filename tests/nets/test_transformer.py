"""Branches that are left out: not computed on the CPU, and equal to computing them and multiplying by nothing."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

import pico
from wisetune.nets.transformer import Block, Context, DropPath, Transformer, set_drop_path, set_recompute


def computed_and_dropped(block: Block, x: torch.Tensor, rate: float) -> torch.Tensor:
    for branch in (lambda kept: block.attn(block.norm1(kept)), lambda kept: block.mlp(block.norm2(kept))):
        x = x + branch(x) * torch.empty(len(x), 1, 1, dtype=x.dtype).bernoulli_(1 - rate).div_(1 - rate)
    return x


@pytest.mark.parametrize(("rate", "seed"), [(0.5, 0), (0.5, 1), (0.02, 0), (0.999, 0)], ids=["some", "others", "all stay", "all go"])
def test_a_block_with_drop_path(rate, seed):
    torch.manual_seed(2)
    block = Block(8, 2, rate).double().train()
    x = torch.randn(6, 5, 8, dtype=torch.float64, requires_grad=True)
    outward = torch.randn(6, 5, 8, dtype=torch.float64)
    found = []
    for forward in (lambda x: block(x, Context(None)), lambda x: computed_and_dropped(block, x, rate)):
        torch.manual_seed(seed)
        tokens = forward(x)
        found.append((tokens, *torch.autograd.grad(tokens, (x, *block.parameters()), outward)))
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=1e-12)


def test_only_what_stays_is_computed_while_training():
    seen: list[int] = []

    def branch(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x

    drop, x = DropPath(0.5), torch.ones(64, 1, 1)
    torch.manual_seed(0)
    trained = drop.train()(x, branch).flatten()
    assert sorted(set(trained.tolist())) == [1.0, 3.0]
    assert seen == [int((trained == 3).sum())]
    torch.testing.assert_close(drop.eval()(x, branch), 2 * x)
    assert seen[1:] == [64]


def test_without_a_rate_nothing_is_drawn():
    before = torch.get_rng_state()
    x = torch.ones(3, 2, 4)
    torch.testing.assert_close(DropPath(0.0).train()(x, nn.Identity()), 2 * x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_branch_looks_beside_at_the_same_clouds():
    x = torch.arange(12.0).view(12, 1, 1)
    drop = DropPath(0.5).train()
    seen = []

    def branch(rows, beside):
        seen.append(len(rows))
        assert torch.equal(beside, 10 * rows)
        return torch.zeros_like(rows)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(drop(x, branch, 10 * x), x)
    assert 0 < seen[0] < 12


class Normed(nn.Module):
    """It follows what it sees."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def after(self, _module, _inputs, output):
        return output + self.norm(output.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("near", [False, True])
def test_recomputed_blocks_give_the_same_bits(near):
    torch.manual_seed(0)
    blocks, x, position = Transformer(8, 3, 2, 0.5).train(), torch.randn(6, 5, 8), torch.randn(6, 5, 8, requires_grad=True)
    seen = (torch.rand(6, 5, 5) < 0.9).logical_or(torch.eye(5, dtype=torch.bool)) if near else None
    found, calls = [], []
    blocks.blocks[1].register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    for on in (False, True):
        set_recompute(blocks, on)
        torch.manual_seed(1)
        (tokens,) = blocks(x, Context(position, seen))
        found.append((tokens, *torch.autograd.grad(tokens.square().sum(), (position, *blocks.parameters())), torch.rand(1)))
    assert len(calls) == 3, "once, and twice"
    for mine, wanted in zip(*found, strict=True):
        assert torch.equal(mine, wanted)
    with torch.no_grad():
        blocks(x, Context(position, seen))
    assert calls == [True, True, True, False]


class Parking(nn.Module):
    """What comes out of a norm is kept until the block's end."""

    def __init__(self):
        super().__init__()
        self.parked = None

    def park(self, _module, _inputs, output):
        self.parked = output

    def take(self, _module, _inputs, output):
        found, self.parked = self.parked, None
        return output + found


def test_what_a_hook_parks_is_taken_out_the_second_time_too():
    torch.manual_seed(0)
    blocks, x = Transformer(8, 2, 2).train(), torch.randn(6, 5, 8, requires_grad=True)
    blocks.grafted = Parking()
    blocks.blocks[1].norm2.register_forward_hook(blocks.grafted.park)
    blocks.blocks[1].register_forward_hook(blocks.grafted.take)
    grads = []
    for on in (False, True):
        set_recompute(blocks, on)
        grads += torch.autograd.grad(blocks(x, Context(x))[-1].square().sum(), x)
    assert torch.equal(*grads)
    assert blocks.grafted.parked is None


def test_what_follows_its_input_sees_it_once():
    torch.manual_seed(0)
    blocks, x = Transformer(8, 2, 2).train(), torch.randn(6, 5, 8, requires_grad=True)
    blocks.grafted = Normed()
    blocks.blocks[1].mlp.register_forward_hook(blocks.grafted.after)
    twin = copy.deepcopy(blocks)
    set_recompute(twin, True)
    for one in (blocks, twin):
        one(x, Context(x))[-1].sum().backward()
    assert pico.bits(one.state_dict()) == pico.bits(blocks.state_dict())
    assert int(twin.grafted.norm.num_batches_tracked) == 1


ONE_GRAPH = """
import torch
from wisetune.nets.transformer import Context, Transformer, set_recompute

torch.manual_seed(0)
blocks, x = Transformer(8, 2, 2).train(), torch.randn(6, 5, 8, requires_grad=True)
(wanted,) = blocks(x, Context(x))
set_recompute(blocks, True)
torch.testing.assert_close(torch.compile(blocks, backend="eager", fullgraph=True)(x, Context(x))[-1], wanted)
"""


@pytest.mark.slow
def test_recomputed_blocks_are_one_graph():
    """In a process of its own: the checks of shapes and types in tests are nothing that can be compiled."""
    subprocess.run([sys.executable, "-c", ONE_GRAPH], check=True)


def test_drop_path_rises_over_the_blocks():
    drops = nn.ModuleList(DropPath(0.9) for _ in range(5))
    set_drop_path(drops, 0.2)
    assert [drop.rate for drop in drops] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    set_drop_path(drops[:1], 0.2)
    assert drops[0].rate == 0
