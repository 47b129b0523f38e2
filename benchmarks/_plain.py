"""The plain way: farthest points, neighbours, tokenizer and attention as most codes of the field write them, in unhurried torch."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from wisetune.nets.model import Model
from wisetune.nets.tokenizer import MiniPointNet
from wisetune.nets.transformer import Attention


def farthest_points(points: torch.Tensor, count: int) -> torch.Tensor:
    """The batched loop of torch operations that is pasted from code to code."""
    rows = torch.arange(len(points), device=points.device)
    chosen = torch.zeros(len(points), count, dtype=torch.int64, device=points.device)
    nearest = torch.full(points.shape[:2], torch.inf, dtype=points.dtype, device=points.device)
    last = chosen[:, 0]
    for step in range(count):
        chosen[:, step] = last
        distance = ((points - points[rows, last][:, None]) ** 2).sum(dim=-1)
        nearest = torch.minimum(nearest, distance)
        last = nearest.argmax(dim=-1)
    return chosen


def neighbours(points: torch.Tensor, queries: torch.Tensor, count: int) -> torch.Tensor:
    """All distances, then the smallest."""
    return torch.cdist(queries, points).topk(count, dim=-1, largest=False, sorted=False).indices


class PlainMiniPointNet(nn.Module):
    """Convolutions of kernel size 1 over channels first, the patch's maximum repeated and joined to each point."""

    def __init__(self, width: int, widths: tuple[int, int, int] = (128, 256, 512), inside: int = 3) -> None:
        super().__init__()
        a, b, c = widths
        self.first_conv = nn.Sequential(nn.Conv1d(inside, a, 1), nn.BatchNorm1d(a), nn.ReLU(inplace=True), nn.Conv1d(a, b, 1))
        self.second_conv = nn.Sequential(nn.Conv1d(2 * b, c, 1), nn.BatchNorm1d(c), nn.ReLU(inplace=True), nn.Conv1d(c, width, 1))

    def forward(self, offsets: torch.Tensor) -> torch.Tensor:
        """Tokens of patches ``[b, g, k, 3]``, or of patches of tokens."""
        local = self.first_conv(offsets.flatten(0, 1).transpose(1, 2))
        overall = local.max(dim=2, keepdim=True).values
        joined = torch.cat([overall.expand_as(local), local], dim=1)
        return self.second_conv(joined).max(dim=2).values.unflatten(0, offsets.shape[:2])


class PlainAttention(nn.Module):
    """Scores, softmax and the weighted sum, one after the other."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = attention.heads, attention.qkv, attention.proj

    def forward(self, x: torch.Tensor, near: torch.Tensor | None = None) -> torch.Tensor:
        """Attention over tokens; with ``near`` of each token over those that it marks."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        if near is not None:
            scores = scores.masked_fill(~near[:, None], -torch.inf)
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


def plain_tokenizer(tokenizer: MiniPointNet) -> PlainMiniPointNet:
    """The same weights in the plain form."""
    a, b, c = (cast(nn.Conv1d, conv).out_channels for conv in (tokenizer.first_conv[0], tokenizer.first_conv[3], tokenizer.second_conv[0]))
    plain = PlainMiniPointNet(tokenizer.width, (a, b, c), cast(nn.Conv1d, tokenizer.first_conv[0]).in_channels)
    plain.load_state_dict(tokenizer.state_dict())
    return plain.to(next(tokenizer.parameters()).dtype).train(tokenizer.training)


def plain_model(model: Model) -> Model:
    """The same weights in a model with the plain tokenizer and self-attention, for who has no checkout of a published one."""
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, MiniPointNet):
            plain.set_submodule(name, plain_tokenizer(module))
        elif isinstance(module, Attention):
            plain.set_submodule(name, PlainAttention(module))
    return plain
