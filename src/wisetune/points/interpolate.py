"""Values at some points, spread to others by the three nearest (Qi et al. 2017, PointNet++, equation 2, with p = 2 and k = 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64

from wisetune.points.neighbours import gather, nearest_neighbours

_LEAST = 1e-8
"""Added to a squared distance, as in the released codes, so that a point that is a centre has a weight."""


class Spread(NamedTuple):
    """Of each point the centres that its value comes from, and how much of each; the weights of a point add up to 1."""

    index: Int64[torch.Tensor, "b n 3"]
    weight: Float[torch.Tensor, "b n 3"]

    def of(self, values: Float[torch.Tensor, "b g c"]) -> Float[torch.Tensor, "b n c"]:
        """The centres' values at the points."""
        b, n, k = self.index.shape
        # A sparse product would be the same; three gathers need no other layout and have a gradient everywhere.
        spread = values.new_zeros(b, n, values.shape[-1])
        for nearest in range(k):
            spread = torch.addcmul(spread, gather(values, self.index[..., nearest]), self.weight[..., nearest, None])
        return spread


def spread_to(points: Float[torch.Tensor, "b n 3"], centres: Float[torch.Tensor, "b g 3"]) -> Spread:
    """How values at ``centres`` spread to ``points``: by the inverse squared distance to the three nearest, or to all if there are fewer.

    It depends on the points alone, so it is computed once for every set of weights that looks at them.
    """
    index = nearest_neighbours(centres, points, min(3, centres.shape[1]))
    near = 1 / ((gather(centres, index) - points[:, :, None]).square().sum(dim=-1) + _LEAST)
    return Spread(index, near / near.sum(dim=-1, keepdim=True))
