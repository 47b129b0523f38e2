"""The released Point-MAE classifier as its facts say, in the plainest torch: for what it holds in training, not for what it computes.

Patches of points become tokens by convolutions of kernel size 1, the patch's maximum joined to each point; attention is scores, softmax and a
weighted sum, one after the other; positions are added before each of twelve blocks; the head has three maps. Names are the released ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, DEPTH, HEADS, SIZE = 384, 12, 6, 32


class Tokenizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(inplace=True), nn.Conv1d(128, 256, 1))
        self.second_conv = nn.Sequential(nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Conv1d(512, WIDTH, 1))

    def forward(self, offsets):
        x = self.first_conv(offsets.flatten(0, 1).transpose(1, 2))
        x = torch.cat([x.max(dim=2, keepdim=True).values.expand_as(x), x], dim=1)
        return self.second_conv(x).max(dim=2).values.unflatten(0, offsets.shape[:2])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)

    def split(self, x):
        return self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, x):
        q, k, v = self.split(x)
        scores = (q @ k.transpose(-2, -1)) * (WIDTH // HEADS) ** -0.5
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Classifier(nn.Module):
    def __init__(self, classes=15):
        super().__init__()
        self.encoder = Tokenizer()
        self.cls_token, self.cls_pos = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        layers = []
        for inside in (2 * WIDTH, 256):
            layers += [nn.Linear(inside, 256), nn.BatchNorm1d(256), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        self.cls_head_finetune = nn.Sequential(*layers, nn.Linear(256, classes))

    def forward(self, centres, offsets):
        tokens, position = self.encoder(offsets), self.pos_embed(centres)
        x = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        position = torch.cat([self.cls_pos.expand(len(tokens), -1, -1), position], dim=1)
        for block in self.blocks:
            x = block(x + position)
        x = self.norm(x)
        return self.cls_head_finetune(torch.cat([x[:, 0], x[:, 1:].max(dim=1).values], dim=-1))


def clouds(batch, groups):
    """Patches of clouds, without values."""
    return torch.empty(batch, groups, 3), torch.empty(batch, groups, SIZE, 3)


class LowRank(nn.Module):
    """A map and, beside it, one of low rank on its first and last third: queries and values."""

    def __init__(self, qkv, rank=32):
        super().__init__()
        self.qkv = qkv
        self.down_q, self.up_q = nn.Linear(WIDTH, rank, bias=False), nn.Linear(rank, WIDTH, bias=False)
        self.down_v, self.up_v = nn.Linear(WIDTH, rank, bias=False), nn.Linear(rank, WIDTH, bias=False)

    def forward(self, x):
        q, v = self.up_q(self.down_q(x)), self.up_v(self.down_v(x))
        return self.qkv(x) + torch.cat([q, torch.zeros_like(q), v], dim=-1)


def lora(model):
    for block in model.blocks:
        block.attn.qkv = LowRank(block.attn.qkv)


class Bottleneck(nn.Module):
    def __init__(self, rank, act=F.relu):
        super().__init__()
        self.down, self.up, self.act = nn.Linear(WIDTH, rank), nn.Linear(rank, WIDTH), act

    def forward(self, x):
        return self.up(self.act(self.down(x)))


class Serial(nn.Module):
    """A part of a block and a residual bottleneck after it."""

    def __init__(self, part, rank=32):
        super().__init__()
        self.part, self.adapter = part, Bottleneck(rank, F.gelu)

    def forward(self, x):
        y = self.part(x)
        return y + self.adapter(y)


def houlsby(model):
    for block in model.blocks:
        block.attn, block.mlp = Serial(block.attn), Serial(block.mlp)


class Parallel(nn.Module):
    """A block with a bottleneck beside its MLP, on the tokens before their norm."""

    def __init__(self, block, rank=64):
        super().__init__()
        self.block, self.adapter = block, Bottleneck(rank)

    def forward(self, x):
        x = x + self.block.attn(self.block.norm1(x))
        return x + self.block.mlp(self.block.norm2(x)) + 0.1 * self.adapter(x)


def adaptformer(model):
    model.blocks = nn.ModuleList(Parallel(block) for block in model.blocks)


class Affine(nn.Module):
    """A part and a scale and shift of its output."""

    def __init__(self, part, width):
        super().__init__()
        self.part = part
        self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.part(x) * self.gamma + self.beta


def ssf(model):
    for block in model.blocks:
        block.norm1, block.norm2 = Affine(block.norm1, WIDTH), Affine(block.norm2, WIDTH)
        block.attn.qkv, block.attn.proj = Affine(block.attn.qkv, 3 * WIDTH), Affine(block.attn.proj, WIDTH)
        block.mlp[0], block.mlp[2] = Affine(block.mlp[0], 4 * WIDTH), Affine(block.mlp[2], WIDTH)
    model.encoder, model.norm = Affine(model.encoder, WIDTH), Affine(model.norm, WIDTH)


class Prompted(nn.Module):
    """A block that sees tokens of its own after the others, and drops them again."""

    def __init__(self, block, count=10):
        super().__init__()
        self.block = block
        self.prompt, self.place = nn.Parameter(torch.zeros(1, count, WIDTH)), nn.Parameter(torch.zeros(1, count, WIDTH))

    def forward(self, x):
        more = (self.prompt + self.place).expand(len(x), -1, -1)
        return self.block(torch.cat([x, more], dim=1))[:, : x.shape[1]]


def vpt(model):
    model.blocks = nn.ModuleList(Prompted(block) for block in model.blocks)


class Prefixed(Attention):
    """Attention with keys and values of its own before the others."""

    def __init__(self, attention, count=50):
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.keys, self.values = nn.Parameter(torch.zeros(count, WIDTH)), nn.Parameter(torch.zeros(count, WIDTH))

    def split(self, x):
        q, k, v = super().split(x)
        return q, self._with(self.keys, k), self._with(self.values, v)

    def _with(self, prefix, x):
        return torch.cat([prefix.unflatten(-1, (HEADS, -1)).transpose(0, 1).expand(len(x), -1, -1, -1), x], dim=2)


def prefix(model):
    for block in model.blocks:
        block.attn = Prefixed(block.attn)
