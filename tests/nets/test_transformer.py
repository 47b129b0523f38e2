"""Branches that are left out: not computed on the CPU, and equal to computing them and multiplying by nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wisetune.nets.transformer import Around, Block, DropPath


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
    for forward in (lambda x: block(x, Around(None)), lambda x: computed_and_dropped(block, x, rate)):
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
