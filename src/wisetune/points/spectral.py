"""The graph Fourier basis of places, and the order of a curve through them: the geometry of PointGST.

Eigenvectors are determined up to their signs, and where eigenvalues are equal up to a rotation: what a solver gives there depends on the device
and on the other matrices of a batch. Here they are made to be a function of the places alone: in double precision, of a matrix rounded far above
what that loses, with slight irregular numbers on its diagonal, which part equal eigenvalues the same way everywhere, and each with the sign of its
product with a fixed vector.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64

_CELLS = 100
"""Of the curve, along one unit of length."""
_BITS = 16
_AXES = (2, 0, 1)
"""Of each three bits of a place on the curve, from the lowest, whose they are."""
_SLIGHT = 1e-7
"""Far above what double precision loses, and below the gaps between eigenvalues of scattered places (some 1e-4)."""
_DECIMALS = 12
"""Of a matrix before it is solved: what differs behind them is how sums were ordered."""
_LEAST = 1e-6
"""Added to degrees, as in the released code."""


def fourier_basis(places: Float[torch.Tensor, "*b g 3"], *, together: bool = False) -> Float[torch.Tensor, "*b g g"]:
    """Eigenvectors, one a column and the smoothest first, of the normalised Laplacian of the whole graph of places.

    Two places are joined by the weight ``least / distance``, each to itself by 1; ``least`` is the smallest distance between places that differ.
    ``together`` takes that of the whole batch, as the released code does, so that a basis depends on what other places are beside it.
    """
    wide = places.detach().to("cpu" if places.device.type == "mps" else places.device, torch.float64)
    apart = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist")
    some = apart.masked_fill(apart == 0, torch.inf)
    least = some.amin() if together else some.amin(dim=(-2, -1), keepdim=True)
    least = least.masked_fill(least.isinf(), 1.0)  # all places are one
    weight = least / torch.maximum(apart, least)
    scale = torch.rsqrt(weight.sum(dim=-1) + _LEAST)
    count = torch.arange(places.shape[-2], device=wide.device, dtype=wide.dtype)
    laplacian = torch.diag_embed(1 + _SLIGHT * torch.sin(count.square())) - scale.unsqueeze(-1) * weight * scale.unsqueeze(-2)
    vectors = torch.linalg.eigh(laplacian.round(decimals=_DECIMALS)).eigenvectors
    sign = torch.where((1 / (1 + count)) @ vectors < 0, -1.0, 1.0)
    return (vectors * sign.unsqueeze(-2)).to(places)


def z_order(places: Float[torch.Tensor, "b g 3"]) -> Int64[torch.Tensor, "b g"]:
    """Indices in the order of Morton's curve through cells of a hundredth; of places in one cell the lower index comes first.

    As in the released code coordinates are cut toward zero, and negative ones come behind the others, as bits in two's complement have it.
    """
    cells = (places.detach().to("cpu" if places.device.type == "mps" else places.device, torch.float64) * _CELLS).long()
    key = torch.zeros_like(cells[..., 0])
    for bit in range(_BITS):
        for at, axis in enumerate(_AXES):
            key = key | (((cells[..., axis] >> bit) & 1) << (3 * bit + at))
    return key.sort(dim=-1, stable=True).indices.to(places.device)
