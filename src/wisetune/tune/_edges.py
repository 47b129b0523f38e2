"""Edge convolutions over tokens, without a value for every edge, and one token made of all: the operations of IDPT's prompts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import nn

from wisetune.nets._linear import linear
from wisetune.nets.uncalled import Uncalled

_CHUNK = 1 << 22
"""Values of edges that are looked at together."""


def condensed(x: Float[torch.Tensor, "b g d"], conv: nn.Conv1d, norm: nn.BatchNorm1d) -> Float[torch.Tensor, "b 1 _"]:
    """One token of many: a map of each, with its norm and leaky ReLU, and the maximum over all."""
    mapped = linear(x, conv.weight.flatten(1))
    # Rows of channels: of channels behind one another compilers guess another layout of the gradient than there is.
    return F.leaky_relu(norm(mapped.flatten(0, 1)).view_as(mapped), 0.2).amax(dim=1, keepdim=True)


class EdgeConv(nn.Module, Uncalled):
    """``max_j leaky(norm(W [n_j - c_i ; c_i]))`` over the nearest tokens (Wang et al. 2019, DGCNN).

    The map of an edge is a sum of two maps of its ends, and what follows rises or falls with it: so the maximum over edges is that of the one end's
    map, or its minimum where the norm's scale is negative. Mean and variance over all edges follow from sums over neighbours.
    """

    def __init__(self, width: int, neighbours: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width)
        self.neighbours = neighbours

    def forward(self, x: Float[torch.Tensor, "b g d"]) -> Float[torch.Tensor, "b g d"]:
        """Of each token the maximum over its edges."""
        near = torch.cdist(x.detach(), x.detach()).topk(min(self.neighbours, x.shape[1]), dim=-1, largest=False).indices
        to_other, to_self = self.conv.weight.flatten(1).split(x.shape[-1], dim=1)
        other, own = linear(x, to_other), linear(x, to_self - to_other)
        scale, shift = self._normed(other, own, near)
        most = other.gather(1, _extreme(other.detach(), near, scale.detach() < 0))
        return F.leaky_relu(torch.addcmul(shift, most + own, scale), 0.2)

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """The map of every edge."""
        return inputs[0][..., 0].numel() * min(self.neighbours, inputs[0].shape[1]) * self.conv.weight.numel()

    def _normed(
        self, other: Float[torch.Tensor, "b g d"], own: Float[torch.Tensor, "b g d"], near: Int64[torch.Tensor, "b g k"]
    ) -> tuple[Float[torch.Tensor, " d"], Float[torch.Tensor, " d"]]:
        """The BatchNorm over all edges as a scale and a shift."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        if norm.training:
            mean, variance = _moments(other, own, near)
            norm.running_mean.lerp_(mean.detach(), _momentum(norm))
            count = near.numel()
            norm.running_var.lerp_(variance.detach() * (count / max(count - 1, 1)), _momentum(norm))
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
        else:
            mean, variance = norm.running_mean, norm.running_var
        scale = norm.weight * (variance + norm.eps).rsqrt()
        return scale, norm.bias - mean * scale


def _momentum(norm: nn.BatchNorm2d) -> float:
    assert norm.num_batches_tracked is not None
    return 1.0 / (float(norm.num_batches_tracked) + 1) if norm.momentum is None else norm.momentum


def _moments(
    other: Float[torch.Tensor, "b g d"], own: Float[torch.Tensor, "b g d"], near: Int64[torch.Tensor, "b g k"]
) -> tuple[Float[torch.Tensor, " d"], Float[torch.Tensor, " d"]]:
    """Mean and variance over all edges of ``other_j + own_i``."""
    edges = torch.zeros(*near.shape[:2], other.shape[1], dtype=other.dtype, device=other.device).scatter_(2, near, 1.0)
    weight = edges.sum(dim=1).unsqueeze(-1) / near.numel()
    to_other, to_own = (other * weight).sum(dim=(0, 1)), own.mean(dim=(0, 1))
    # Around their means: the difference of two large squares would be no variance.
    other, own = other - to_other, own - to_own
    crossed = (own * (edges @ other)).sum(dim=(0, 1)) * (2.0 / near.numel())
    return to_other + to_own, (other.square() * weight).sum(dim=(0, 1)) + crossed + own.square().mean(dim=(0, 1))


@torch.no_grad()
def _extreme(values: Float[torch.Tensor, "b g d"], near: Int64[torch.Tensor, "b g k"], least: torch.Tensor) -> Int64[torch.Tensor, "b g d"]:
    """For each token and channel the neighbour whose value is largest, or ``least``."""
    signed = torch.where(least, -values, values)
    rows = max(1, _CHUNK // (near[0].numel() * values.shape[-1]))
    found = []
    for some, at in zip(signed.split(rows), near.split(rows), strict=True):
        edges = some.gather(1, at.flatten(1).unsqueeze(-1).expand(-1, -1, some.shape[-1])).unflatten(1, at.shape[1:])
        found.append(at.gather(2, edges.argmax(dim=2)))
    return torch.cat(found)
