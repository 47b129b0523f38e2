"""Linear maps by oneDNN: the values, gradients and freedoms of torch's own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wisetune.nets import _linear
from wisetune.nets._linear import Linear, linear_gelu, product
from wisetune.nets.transformer import Mlp

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def sample(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def twins(bias: bool = True, dtype: torch.dtype = torch.float32) -> tuple[Linear, nn.Linear]:
    mine, reference = Linear(6, 5, bias=bias).to(dtype), nn.Linear(6, 5, bias=bias).to(dtype)
    reference.load_state_dict(mine.state_dict())
    return mine, reference


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (2, 3, 4, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_torchs(bias, shape, dtype):
    mine, reference = twins(bias, dtype)
    results = []
    for module in (mine, reference):
        x = sample(*shape, dtype=dtype).requires_grad_()
        out = module(x)
        out.square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(module(x), out.detach(), **CLOSE)
        results.append((out.detach(), x.grad, *(p.grad for p in module.parameters())))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_any_strides_and_no_rows():
    mine, reference = twins()
    for x in (sample(6, 4).T, sample(4, 3, 6).transpose(0, 1), sample(8, 6)[::2], sample(0, 6), sample(2, 0, 6)):
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                torch.testing.assert_close(mine(x), reference(x), **CLOSE)


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_a_frozen_side_gets_no_gradient(frozen):
    mine, reference = twins()
    for module in (mine, reference):
        x = sample(3, 6).requires_grad_(frozen != "x")
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name != frozen)
        module(x).square().sum().backward()
    for (name, a), b in zip(mine.named_parameters(), reference.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) == (name == frozen)
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, **CLOSE)


def test_second_derivatives():
    mine, reference = twins()
    results = []
    for module in (mine, reference):
        x = sample(3, 6).requires_grad_()
        (grad,) = torch.autograd.grad(module(x).pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(grad.square().sum(), [x, module.weight]))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_autocast_and_transforms_and_export_take_torchs_way():
    mine, reference = twins()
    x = sample(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mine(x).dtype == torch.bfloat16
    torch.testing.assert_close(torch.func.vmap(mine)(x), reference(x), **CLOSE)
    torch.testing.assert_close(torch.func.jacrev(mine)(x[0]), mine.weight, **CLOSE)
    exported = torch.export.export(mine, (x,))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
    assert mine.to("meta")(x.to("meta")).shape == (3, 5)


def test_without_the_operator_all_is_the_same(monkeypatch):
    x, mlp = sample(3, 8), Mlp(8, 12)
    with torch.no_grad():
        before = mlp(x)
        monkeypatch.setattr(_linear, "_ONEDNN", None)
        torch.testing.assert_close(mlp(x), before, **CLOSE)


def test_copies_and_pickles():
    mine, _ = twins()
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        torch.testing.assert_close(other(sample(2, 6)), mine(sample(2, 6)), rtol=0, atol=0)


@torch.no_grad()
def test_gelu_at_once_is_gelu_after():
    x, weight, bias = sample(50, 6) * 3, sample(40, 6, seed=1), sample(40, seed=2)
    torch.testing.assert_close(product(x, weight, bias, "gelu"), F.gelu(F.linear(x, weight, bias)), **CLOSE)


@torch.no_grad()
def test_who_listens_or_replaces_is_served():
    x, first, then = sample(3, 6), Linear(6, 5), nn.GELU()
    plain = then(first(x))
    torch.testing.assert_close(linear_gelu(first, then, x), plain, **CLOSE)
    seen = []
    handle = first.register_forward_hook(lambda _, __, out: seen.append(out))
    torch.testing.assert_close(linear_gelu(first, then, x), plain, **CLOSE)
    handle.remove()
    torch.testing.assert_close(seen[0], first(x), **CLOSE)
    torch.testing.assert_close(linear_gelu(first, nn.Identity(), x), first(x), **CLOSE)
    torch.testing.assert_close(linear_gelu(nn.Sequential(first, nn.Tanh()), then, x), then(first(x).tanh()), **CLOSE)
    tanh = nn.GELU(approximate="tanh")
    torch.testing.assert_close(linear_gelu(first, tanh, x), tanh(first(x)), **CLOSE)
