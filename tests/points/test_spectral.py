"""Bases of graphs of places."""

from __future__ import annotations

import math

import pytest
import torch

from net_samples import cloud
from wisetune.points.spectral import fourier_basis, z_order


def laplacian(places):
    """Pair by pair."""
    count = len(places)
    apart = [[math.dist(a, b) for b in places.tolist()] for a in places.tolist()]
    least = min(value for row in apart for value in row if value)
    weight = torch.tensor([[1.0 if i == j else least / apart[i][j] for j in range(count)] for i in range(count)]).double()
    degree = weight.sum(dim=1) + 1e-6
    return torch.eye(count).double() - weight / (degree[:, None] * degree[None]).sqrt()


def grid() -> torch.Tensor:
    """So regular that many eigenvalues are equal."""
    side = torch.linspace(-1, 1, 3).double()
    return torch.cartesian_prod(side, side, side)[None]


def test_the_columns_are_eigenvectors_in_order():
    places = cloud(0, 2, 20).double()
    for one, basis in zip(places, fourier_basis(places), strict=True):
        torch.testing.assert_close(basis.T @ basis, torch.eye(20).double(), rtol=0, atol=1e-12)
        inside = basis.T @ laplacian(one) @ basis
        assert (inside - inside.diag().diag()).abs().max() < 3e-6
        assert (inside.diag().diff() > -1e-5).all()


def test_a_basis_is_that_of_its_places_whatever_is_beside_them():
    places = torch.cat([cloud(0, 3, 27).double(), grid()])
    whole = fourier_basis(places)
    for row in range(len(places)):
        torch.testing.assert_close(whole[row], fourier_basis(places[row : row + 1])[0], rtol=0, atol=1e-6)
    other = fourier_basis(places, together=True)
    assert torch.equal(z_order(places)[2], z_order(places[2:3])[0])
    least = torch.stack([torch.pdist(one).min() for one in places])
    for row in range(len(places)):
        assert torch.allclose(other[row], whole[row], rtol=0, atol=1e-6) is bool(least[row] == least.min())


@pytest.mark.parametrize("places", [cloud(0, 2, 27).double(), grid()], ids=["scattered", "grid"])
def test_what_a_solver_is_free_in_is_decided(places):
    """The last bit of a place decides what a solver makes of equal eigenvalues; so do its device and its method."""
    torch.manual_seed(0)
    basis = fourier_basis(places)
    for _ in range(3):
        near = places * (1 + 1e-16 * torch.randint(-2, 3, places.shape))
        torch.testing.assert_close(fourier_basis(near), basis, rtol=0, atol=1e-3)
    plain = torch.linalg.eigh(laplacian(places[0])).eigenvectors
    assert not torch.allclose(plain, basis[0], rtol=0, atol=1e-3)


def test_places_that_coincide():
    basis = fourier_basis(torch.zeros(2, 5, 3))
    torch.testing.assert_close(basis @ basis.transpose(1, 2), torch.eye(5).expand(2, 5, 5))
    twice = fourier_basis(cloud(0, 1, 8).repeat(1, 2, 1))
    assert twice.isfinite().all()


def test_precision_and_devices():
    places = cloud(0, 2, 40)
    torch.testing.assert_close(fourier_basis(places), fourier_basis(places.double()).float())
    assert fourier_basis(places.to("meta")).shape == (2, 40, 40)
    assert z_order(places.to("meta")).shape == (2, 40)


def test_the_curve():
    """Cells of y come first, then those of x, then of z; negative ones are behind; in one cell the lower index is first."""
    steps = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.011], [0.011, 0.0, 0.0], [0.0, 0.011, 0.0], [0.011, 0.011, 0.011], [0.0, 0.0, 0.021]]
    behind = [[0.0, 0.0, -0.02], [0.0, -0.02, 0.0]]
    order = [7, 3, 1, 0, 5, 2, 4, 6]
    places = torch.tensor([steps + behind])[:, order]
    assert [order[row] for row in z_order(places)[0]] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert z_order(torch.tensor([[[0.001, 0, 0], [0, 0.002, 0.003], [0, 0, 0]]])).tolist() == [[0, 1, 2]]
