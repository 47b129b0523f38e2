"""Statistics of an image from those of the rows before the map, and the map with a ReLU inside: against writing it all out."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from wisetune.nets._moments import image_statistics
from wisetune.nets.linear_max import _CHUNK_ROWS, relu_linear_max


def sample(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def written_out(x, weight, shift):
    rows = (x @ weight.T + shift[:, None]).flatten(0, 1)
    return rows.mean(dim=0), rows.var(dim=0, unbiased=False)


def dense(x, inner, shift, weight):
    return ((x @ inner.T + shift[:, None]).relu() @ weight.T).max(dim=1).values


@pytest.mark.parametrize("shape", [(1, 2, 3), (5, 7, 4), (_CHUNK_ROWS // 8 + 3, 8, 3)], ids=["one", "small", "chunks"])
def test_statistics(shape):
    inputs = sample(*shape), sample(6, shape[2], seed=1), sample(shape[0], 6, seed=2)
    results = []
    for function in (image_statistics, written_out):
        mean, variance = function(*inputs)
        total = (mean * torch.arange(6)).sum() + (variance * torch.arange(6).flip(0)).sum()
        results.append((mean.detach(), variance.detach(), *torch.autograd.grad(total, inputs)))
    for mine, wanted in zip(*results, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-12)


def test_statistics_are_near_in_float32_far_from_zero():
    inputs = sample(40, 16, 8), sample(6, 8, seed=1), sample(40, 6, seed=2)
    far = (inputs[0] + 30, *inputs[1:])
    mine = image_statistics(*(value.float() for value in far))
    for a, b in zip(mine, written_out(*far), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-3)


def test_rows_that_are_all_the_same_have_no_variance():
    _, variance = image_statistics(torch.full((3, 4, 5), 7.0), sample(6, 5, dtype=torch.float32), torch.ones(3, 6))
    assert (variance >= 0).all()
    torch.testing.assert_close(variance.detach(), torch.zeros(6), rtol=0, atol=1e-2)


def test_relu_inside_gradcheck():
    assert gradcheck(relu_linear_max, (sample(3, 4, 5), sample(7, 5, seed=1), sample(3, 7, seed=2), sample(6, 7, seed=3)))


@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (3,), (0, 1, 2)])
def test_relu_inside(frozen):
    inputs = [sample(_CHUNK_ROWS // 8 + 3, 8, 5), sample(7, 5, seed=1), sample(_CHUNK_ROWS // 8 + 3, 7, seed=2), sample(6, 7, seed=3)]
    for index in frozen:
        inputs[index].requires_grad_(False)
    moving = [value for value in inputs if value.requires_grad]
    results = []
    for function in (relu_linear_max, dense):
        out = function(*inputs)
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), moving)))
    for mine, wanted in zip(*results, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-11, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(relu_linear_max(*inputs), results[0][0], rtol=1e-12, atol=1e-12)


def test_a_nan_is_not_lost():
    x = sample(3, 4, 5)
    with torch.no_grad():
        x[1, 2] = float("nan")
    out = relu_linear_max(x, sample(7, 5, seed=1), sample(3, 7, seed=2), sample(6, 7, seed=3))
    assert out.isnan().any(dim=1).tolist() == [False, True, False]
