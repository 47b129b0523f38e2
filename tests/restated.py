"""Blocks and tokenizers stated once more, as the papers write them and slowly: what tunings are compared with that have no golden values.

Of a tuning's own part nothing is here; its test states it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

import net_samples
import pico
from wisetune.nets.create import assemble, parse_any_head
from wisetune.nets.families.point_bert import PointBERTSpec
from wisetune.nets.families.recon import ReConSpec
from wisetune.nets.model import Model
from wisetune.points.sampling import farthest_points
from wisetune.tune.graft import Graft
from wisetune.tune.pointlora import Selection
from wisetune.tune.tuning import Tuning

SPEC = dataclasses.replace(net_samples.TINY, depth=3, initial="fan-in", drop_path=0.0)
"""With a class token."""
_SIZES = {"points": 64, "groups": 8, "group_size": 8, "width": 16, "depth": 3, "heads": 2, "tokenizer": (8, 8, 8), "initial": "fan-in"}
KINDS = {
    "plain": pico.SPEC,
    "token": pico.TOKEN_SPEC,
    "bridge": PointBERTSpec(**_SIZES, token_width=12),
    "recon": ReConSpec(**_SIZES),
    "pyramid": dataclasses.replace(pico.PYRAMID, norm="final"),
}
"""A backbone of every kind."""
PARTS = {
    "plain": (dataclasses.replace(pico.SPEC, depth=3), "parts:categories=4"),
    "recon": (KINDS["recon"], "parts:leads=true,categories=4"),
    "pyramid": (dataclasses.replace(pico.PYRAMID, norm="each"), "parts-pyramid:categories=4"),
}
"""The same for part segmentation, and its head."""


def tuned(tuning: Tuning, spec=SPEC, head: str = "mlp3", precision: torch.dtype = torch.float64) -> Model:
    """A model with such grafts in which no value is what it begins with, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = assemble(spec.build(), parse_any_head("linear"), list("abc"))
        tuning.graft_into(model)
        model = assemble(model.backbone, parse_any_head(head), list("abc")).to(precision)
        for value in model.parameters():
            value.data += 0.2 * torch.randn_like(value)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2.0)
            if isinstance(module, Selection):
                module.inner.bias.data += 1.0  # so few hidden numbers are easily all below 0
    return model.eval()


def at_share(model: Model, share: float) -> Model:
    """The model with so much of what was grafted."""
    state = model.state_dict()
    grafted = [f"{name.removeprefix('backbone.')}.share" for name, module in model.named_modules() if isinstance(module, Graft)]
    assert grafted
    model.load_state_dict(state | dict.fromkeys(grafted, torch.tensor(share).to(next(iter(state.values())))))
    return model


def clouds(count: int = 2, points: int = 64) -> Tensor:
    return net_samples.cloud(5, count, points).double()


def line(x: Tensor, at: nn.Module) -> Tensor:
    bias = 0 if at.bias is None else at.bias
    return torch.stack([(at.weight * row).sum(dim=1) + bias for row in x.reshape(-1, x.shape[-1])]).reshape(*x.shape[:-1], -1)


def normed(x: Tensor, at: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + at.eps).sqrt() * at.weight + at.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def bottleneck(x: Tensor, at: nn.Module) -> Tensor:
    return line(gelu(line(x, at.down)), at.up)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Of one cloud: each token's values, weighed by an explicit softmax, head by head."""
    width = q.shape[-1] // heads
    found = torch.zeros_like(q)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for token in range(len(q)):
            scores = torch.stack([(q[token, part] * key).sum() for key in k[:, part]]) / math.sqrt(width)
            weights = torch.exp(scores) / torch.exp(scores).sum()
            found[token, part] = (weights[:, None] * v[:, part]).sum(dim=0)
    return found


def attended(
    x: Tensor, block: nn.Module, qkv: Callable[[Tensor], Tensor] | None = None, proj: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """One cloud behind a block's first branch; ``qkv`` and ``proj`` are what else its maps give."""
    entering = normed(x, block.norm1)
    maps = line(entering, block.attn.qkv) + (qkv(entering) if qkv else 0)
    found = attention(*maps.chunk(3, dim=-1), block.attn.heads)
    return x + line(found, block.attn.proj) + (proj(found) if proj else 0)


def transformed(x: Tensor, block: nn.Module) -> Tensor:
    """What a block's second branch adds."""
    return line(gelu(line(normed(x, block.norm2), block.mlp.fc1)), block.mlp.fc2)


def patches(points: Tensor, groups: int, size: int) -> tuple[Tensor, Tensor]:
    """Of one cloud the centres, and each patch's points about its centre."""
    centres = points[farthest_points(points[None], groups)[0]]
    offsets = []
    for centre in centres:
        apart = (points.float() - centre.float()).square().sum(dim=1)
        offsets.append(points[apart.argsort(stable=True)[:size]] - centre)
    return centres, torch.stack(offsets)


def token(patch: Tensor, encoder: nn.Module) -> Tensor:
    """Of one patch, by the maps of its tokenizer in turn."""
    local = encoder.first_conv(patch.T[None])
    overall = local.amax(dim=2, keepdim=True).expand_as(local)
    return encoder.second_conv(torch.cat([overall, local], dim=1)).amax(dim=2)[0]


def place(centres: Tensor, embed: nn.Sequential) -> Tensor:
    return line(gelu(line(centres, embed[0])), embed[2])


def tokens(points: Tensor, backbone: nn.Module, groups: int, size: int) -> tuple[Tensor, Tensor]:
    """Of one cloud the tokens of its patches, and their positions."""
    centres, offsets = patches(points, groups, size)
    return torch.stack([token(patch, backbone.encoder) for patch in offsets]), place(centres, backbone.pos_embed)
