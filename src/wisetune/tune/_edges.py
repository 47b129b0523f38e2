"""Edge convolutions over tokens: the operation of IDPT's prompt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import linear


class EdgeConv(nn.Module):
    """``max_j leaky(norm(W [n_j - c ; c]))`` over the nearest tokens (Wang et al. 2019, DGCNN); the map of an edge is two maps of its ends."""

    def __init__(self, width: int, neighbours: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.neighbours = neighbours

    def forward(self, x: Float[torch.Tensor, "b g d"]) -> Float[torch.Tensor, "b g d"]:
        """Of each token the maximum over its edges."""
        count = min(self.neighbours, x.shape[1])
        near = torch.cdist(x.detach(), x.detach()).topk(count, dim=-1, largest=False).indices
        to_other, to_self = self.conv.weight.flatten(1).split(x.shape[-1], dim=1)
        ends = linear(x, to_other)
        ends = ends.unsqueeze(1).expand(-1, x.shape[1], -1, -1).gather(2, near.unsqueeze(-1).expand(-1, -1, -1, x.shape[-1]))
        edges = ends + linear(x, to_self - to_other).unsqueeze(2)
        return F.leaky_relu(self.norm(edges.permute(0, 3, 1, 2)), 0.2).amax(dim=3).transpose(1, 2)
