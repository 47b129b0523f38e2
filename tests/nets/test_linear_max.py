from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from wisetune.nets.linear_max import _CHUNK_ROWS, linear_max


def dense(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x @ weight.T).max(dim=1).values


def sample(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradients(function, x: torch.Tensor, weight: torch.Tensor, seed: int = 9) -> tuple[torch.Tensor, ...]:
    out = function(x, weight)
    to_out = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(seed))
    return (out.detach(), *torch.autograd.grad(out, [value for value in (x, weight) if value.requires_grad], to_out))


def test_gradcheck():
    assert gradcheck(linear_max, (sample(3, 4, 5), sample(6, 5, seed=1)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 32, 6), (_CHUNK_ROWS // 8 + 3, 8, 4)], ids=["one", "small", "chunks"])
def test_equals_dense(shape):
    r, k, d = shape
    x, weight = sample(r, k, d), sample(5, d, seed=1)
    for mine, reference in zip(gradients(linear_max, x, weight), gradients(dense, x, weight), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


def test_ties_go_to_the_first_row_as_in_torch():
    # Whole numbers: their products are exact, so equal rows tie whatever the order of summation. Each row is there three times.
    x = (sample(4, 3, 5).detach() * 4).round().repeat(1, 3, 1).requires_grad_()
    weight = (sample(6, 5, seed=1).detach() * 4).round().requires_grad_()
    mine, reference = gradients(linear_max, x, weight), gradients(dense, x, weight)
    for a, b in zip(mine, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert (mine[1][:, 3:] == 0).all()


def test_zeros_after_relu_tie_everywhere():
    x = torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
    weight = sample(2, 3, seed=1)
    for a, b in zip(gradients(linear_max, x, weight), gradients(dense, x, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_one_side_frozen(frozen):
    x, weight = sample(3, 4, 5), sample(6, 5, seed=1)
    (x if frozen == "x" else weight).requires_grad_(False)
    for a, b in zip(gradients(linear_max, x, weight), gradients(dense, x, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_any_strides():
    x = sample(5, 4, 3).detach().transpose(0, 2).requires_grad_()
    weight = sample(5, 6, seed=1).detach().T.requires_grad_()
    for a, b in zip(gradients(linear_max, x, weight), gradients(dense, x, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_without_gradients_the_values_are_the_same():
    x, weight = sample(6, 4, 5), sample(3, 5, seed=1)
    with torch.no_grad():
        alone = linear_max(x, weight)
    torch.testing.assert_close(alone, linear_max(x, weight).detach(), rtol=1e-12, atol=1e-12)


def test_a_second_derivative_is_refused_and_not_zero():
    x, weight = sample(2, 3, 4), sample(5, 4, seed=1)
    (grad,) = torch.autograd.grad(linear_max(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_autocast_trains():
    x, weight = sample(3, 4, 5, dtype=torch.float32), sample(6, 5, dtype=torch.float32, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = linear_max(x, weight)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert weight.grad.abs().sum() > 0
