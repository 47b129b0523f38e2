"""The mini-PointNet that turns each patch of points into a token, by exact but cheaper algebra than its published form.

Published: ``conv(3, a) BN ReLU conv(a, b) | max over the patch, joined as [global, local] | conv(2b, c) BN ReLU conv(c, width) | max``.
The names and shapes of the parameters are the published ones; what is computed is equal, by these steps (docs/performance.md):

1. The third map acts on [global, local]: its global half is applied once a patch, not once a point.
2. Nothing non-linear stands between the second map and the local half of the third: they are one map.
3. A BatchNorm after a linear map is part of that map: in eval by its running statistics, in training by the mean and covariance of the
   rows before the map (``_moments``), so that nothing of the width c is written before it is known.
4. A map followed by a maximum has a gradient only at the maximal rows (``linear_max``).
5. What nothing trains in needs no graph: frozen, in eval, it goes in chunks as without gradients, and holds no more than a chunk.

Where somebody hooked into a layer, or put another in its place that this algebra does not hold for (a grafted tuning, a counter), it is
computed as published, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import heard
from wisetune.nets._moments import image_statistics, widest
from wisetune.nets.linear_max import linear_max, relu_linear_max

_CHUNK_ROWS = 2048
"""Rows (points) worked on at a time without a graph, so that what one map writes is still in cache when the next reads it."""
_DEVICE_ROWS = 1 << 16
"""The same elsewhere than on a CPU: enough to fill a GPU, and a quarter of a GiB of memory at the published widths."""

_LAYERS: list[type[nn.Module]] = [*2 * (nn.Conv1d, nn.BatchNorm1d, nn.ReLU, nn.Conv1d)]


class MiniPointNet(nn.Module):
    """Tokens of patches. ``widths`` are a, b, c of the module's docstring; published: 128, 256, 512.

    ``inside`` is the width of what a patch is made of: 3 for points, more for tokens that are merged (Point-M2AE).
    """

    def __init__(self, width: int, widths: tuple[int, int, int] = (128, 256, 512), inside: int = 3) -> None:
        super().__init__()
        a, b, c = widths
        self.first_conv = nn.Sequential(nn.Conv1d(inside, a, 1), nn.BatchNorm1d(a), nn.ReLU(), nn.Conv1d(a, b, 1))
        self.second_conv = nn.Sequential(nn.Conv1d(2 * b, c, 1), nn.BatchNorm1d(c), nn.ReLU(), nn.Conv1d(c, width, 1))

    def forward(self, offsets: Float[torch.Tensor, "*batch k i"]) -> Float[torch.Tensor, "*batch d"]:
        """Tokens of patches given as points relative to their centres, or as tokens."""
        batch = offsets.shape[:-2]
        patches = offsets.reshape(math.prod(batch), *offsets.shape[-2:])
        if not self._as_built():
            tokens = self._published(patches)
            return tokens.reshape(*batch, tokens.shape[-1])
        if not len(patches):
            return patches.new_zeros(*batch, self.width)
        layers = (*self.first_conv.parameters(), *self.second_conv.parameters())  # not what a graft put beside them
        graph = torch.is_grad_enabled() and any(value.requires_grad for value in (patches, *layers))
        with torch.set_grad_enabled(graph):
            folded = self._folded()
            if graph or self.norm1.training or self.norm2.training:
                tokens = self._tokens(patches, *folded)
            else:
                size = max(1, (_CHUNK_ROWS if patches.device.type == "cpu" else _DEVICE_ROWS) // patches.shape[1])
                tokens = torch.cat([self._tokens(part, *folded) for part in patches.split(size)])
        return tokens.reshape(*batch, -1)

    @property
    def norm1(self) -> nn.BatchNorm1d:
        """The first BatchNorm."""
        return cast(nn.BatchNorm1d, self.first_conv[1])

    @property
    def norm2(self) -> nn.BatchNorm1d:
        """The second BatchNorm."""
        return cast(nn.BatchNorm1d, self.second_conv[1])

    @property
    def width(self) -> int:
        """Width of a token."""
        return cast(nn.Conv1d, self.second_conv[3]).out_channels

    def _as_built(self) -> bool:
        """Whether the algebra holds for the layers there are, and nobody waits for one to be called."""
        halves = (self.first_conv, self.second_conv)
        if not all(type(half) is nn.Sequential for half in halves):
            return False
        layers = [layer for half in halves for layer in half]
        if [type(layer) for layer in layers] != _LAYERS or any(heard(module) or "forward" in vars(module) for module in (*halves, *layers)):
            return False
        convs, norms = (*layers[0::4], *layers[3::4]), layers[1::4]
        return all(map(_is_linear, convs)) and all(map(_is_whole, norms))

    def _published(self, patches: Float[torch.Tensor, "r k i"]) -> Float[torch.Tensor, "r d"]:
        local = self.first_conv(patches.transpose(1, 2))
        overall = local.max(dim=2, keepdim=True).values.expand_as(local)
        return self.second_conv(torch.cat([overall, local], dim=1)).max(dim=2).values

    def _folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The second map and the local half of the third as one, and the constant that they add together."""
        weight2, bias2 = _map(self.first_conv[3])
        weight3, bias3 = _map(self.second_conv[0])
        to_local = weight3[:, len(weight2) :]
        return to_local @ weight2, to_local @ bias2 + bias3

    def _tokens(
        self, patches: Float[torch.Tensor, "r k i"], per_point: Float[torch.Tensor, "c a"], constant: Float[torch.Tensor, " c"]
    ) -> Float[torch.Tensor, "r d"]:
        r, k, _ = patches.shape
        weight1, bias1 = _map(self.first_conv[0])
        weight2, bias2 = _map(self.first_conv[3])
        weight4, bias4 = _map(self.second_conv[3])

        scale, shift = _fold(self.norm1, lambda: image_statistics(patches.to(widest(patches)), weight1, bias1.expand(r, -1)), r * k)
        # A column of ones for the bias, and the map the other way round: its gradient is then one product, and a fast one.
        rows = F.pad(patches.flatten(0, 1), (0, 1), value=1.0)
        first = torch.cat([(weight1 * scale[:, None]).T, (bias1 * scale + shift)[None]])
        hidden = torch.mm(rows, first).relu_().view(r, k, -1)
        overall = linear_max(hidden, weight2) + bias2

        to_global = _map(self.second_conv[0])[0][:, : len(weight2)]
        once = F.linear(overall, to_global, constant)
        scale, shift = _fold(self.norm2, lambda: image_statistics(hidden, per_point, once), r * k)
        return relu_linear_max(hidden, per_point * scale[:, None], once * scale + shift, weight4) + bias4


def _is_linear(module: nn.Module) -> bool:
    """Whether a convolution is a linear map of the channels, and has a bias."""
    conv = cast(nn.Conv1d, module)
    ones = conv.kernel_size == conv.stride == (1,) and conv.groups == 1
    return ones and conv.padding in ((0,), "same", "valid") and conv.bias is not None


def _is_whole(module: nn.Module) -> bool:
    """Whether a BatchNorm has weights and keeps running statistics."""
    norm = cast(nn.BatchNorm1d, module)
    kept = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked)
    return norm.track_running_stats and all(value is not None for value in kept)


def _map(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight as a matrix and bias of a convolution of kernel size 1, which is a linear map of the channels."""
    conv = cast(nn.Conv1d, module)
    return conv.weight.squeeze(-1), cast(torch.Tensor, conv.bias)


def _fold(
    norm: nn.BatchNorm1d, statistics: Callable[[], tuple[torch.Tensor, torch.Tensor]], count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A BatchNorm as ``x * scale + shift``. While it trains, ``statistics`` gives mean and variance of the ``count`` rows before it."""
    if norm.training:
        mean, variance = statistics()
        _track(norm, mean.detach(), variance.detach() * (count / max(count - 1, 1)))
    else:
        mean, variance = cast(torch.Tensor, norm.running_mean), cast(torch.Tensor, norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


@torch.no_grad()
def _track(norm: nn.BatchNorm1d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Running statistics as torch's BatchNorm updates them; ``momentum=None`` is the cumulative mean."""
    running_mean, running_var = cast(torch.Tensor, norm.running_mean), cast(torch.Tensor, norm.running_var)
    tracked = cast(torch.Tensor, norm.num_batches_tracked)
    tracked += 1
    momentum = 1.0 / float(tracked) if norm.momentum is None else norm.momentum
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_(variance.to(running_var.dtype), momentum)
