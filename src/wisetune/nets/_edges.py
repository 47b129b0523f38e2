"""The edge convolution of DGCNN (Wang et al. 2019), as Point-BERT's tokenizer and its part segmentation have it, by exact but cheaper algebra."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int64
from torch import nn

from wisetune.nets._linear import linear
from wisetune.points.neighbours import gather

EDGE_GROUPS = 4
EDGE_SLOPE = 0.2
"""Groups of the norm, and slope below zero, of every map in these two networks."""


def edge_map(inside: int, outside: int) -> nn.Sequential:
    """What ``over_edges`` takes: a map without bias of an edge's two ends, a norm and a slope, as the released codes write it."""
    return nn.Sequential(nn.Conv2d(inside, outside, 1, bias=False), nn.GroupNorm(EDGE_GROUPS, outside), nn.LeakyReLU(EDGE_SLOPE))


def over_edges(
    layer: nn.Sequential, there: Float[torch.Tensor, "b g c"], own: Float[torch.Tensor, "b m c"], near: Int64[torch.Tensor, "b m k"]
) -> Float[torch.Tensor, "b m d"]:
    """A linear map of ``[neighbour - own, own]`` on every edge, then a norm over all edges and a slope, and of each node's edges the largest.

    The map is applied once a node, not once an edge: it is ``A (neighbour - own) + B own = A neighbour + (B - A) own``.
    """
    weight = cast(nn.Conv2d, layer[0]).weight.flatten(1)
    to_difference, to_own = weight.chunk(2, dim=1)
    edges = gather(linear(there, to_difference), near) + linear(own, to_own - to_difference)[:, :, None]
    return layer[1:](edges.permute(0, 3, 1, 2)).amax(dim=3).transpose(1, 2)
