"""Point-MAE (Pang et al., ECCV 2022): patches of points become tokens of a plain transformer.

Module names and shapes are those of the released code, so that its files load by name. The class token exists only in the classifier: it
has no pre-trained value.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import nn

from wisetune.nets.backbone import Anatomy, Backbone, Groups, Site, Tokens
from wisetune.nets.tokenizer import MiniPointNet
from wisetune.nets.transformer import Transformer, initialise
from wisetune.points.neighbours import gather, patches
from wisetune.points.sampling import SamplingRule
from wisetune.spec import Spec

POSITION_HIDDEN = 128


@dataclasses.dataclass(frozen=True)
class PointMAESpec(Spec):
    """Sizes and reading of a Point-MAE. ``tokenizer`` are the hidden widths of the mini-PointNet.

    ``initial`` is the rule of fresh weights: ``published`` draws every map with deviation 0.02, under which the signal of a narrow tokenizer all but
    vanishes; ``fan-in`` is torch's default.
    """

    name: ClassVar[str] = "point-mae"

    points: int = 1024
    groups: int = 64
    group_size: int = 32
    width: int = 384
    depth: int = 12
    heads: int = 6
    tokenizer: tuple[int, ...] = (128, 256, 512)
    class_token: bool = True
    readout: str = "lead+max"
    drop_path: float = 0.1
    initial: Literal["published", "fan-in"] = "published"
    reading: Literal["as_intended", "as_published"] = "as_intended"

    def build(self) -> PointMAE:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return PointMAE(self)


class PointMAE(Backbone):
    """The encoder of Point-MAE without masking, with or without class token."""

    head_name = "cls_head_finetune"

    def __init__(self, spec: PointMAESpec) -> None:
        super().__init__()
        self.spec = spec
        self.width, self.points, self.readout = spec.width, spec.points, spec.readout
        if spec.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.width))
            self.cls_pos = nn.Parameter(torch.randn(1, 1, spec.width))
        self.encoder = MiniPointNet(spec.width, (spec.tokenizer[0], spec.tokenizer[1], spec.tokenizer[2]))
        self.pos_embed = nn.Sequential(nn.Linear(3, POSITION_HIDDEN), nn.GELU(), nn.Linear(POSITION_HIDDEN, spec.width))
        self.blocks = Transformer(spec.width, spec.depth, spec.heads, spec.drop_path)
        self.norm = nn.LayerNorm(spec.width)
        if spec.initial == "published":
            self.apply(initialise)
        if spec.class_token:
            nn.init.trunc_normal_(self.cls_token, std=0.02)
            nn.init.trunc_normal_(self.cls_pos, std=0.02)

    @property
    def sampling(self) -> SamplingRule:
        """The rule by which patch centres are chosen."""
        return "pointnet2" if self.spec.reading == "as_published" else "intended"

    @property
    def anatomy(self) -> Anatomy:
        """One site a block."""
        sites = []
        for i in range(self.spec.depth):
            at = f"blocks.blocks.{i}"
            parts = (f"{at}.norm1", f"{at}.attn", f"{at}.attn.qkv", f"{at}.attn.proj", f"{at}.norm2", f"{at}.mlp")
            sites.append(Site(at, *parts, width=self.width))
        fresh = ("cls_token", "cls_pos") if self.spec.class_token else ()
        return Anatomy(tuple(sites), norm="norm", tokenizer="encoder", fresh=fresh)

    def group(self, points: Float[torch.Tensor, "b n 3"]) -> Groups:
        """Patch centres ``[b, g, 3]`` and the patches' points relative to them ``[b, g, k, 3]``."""
        found = patches(points, self.spec.groups, self.spec.group_size, self.sampling)
        centres = gather(points, found.centres)
        return centres, gather(points, found.members) - centres[:, :, None]

    def encode(self, groups: Groups) -> Tokens:
        """Tokens after the last norm."""
        centres, offsets = groups
        tokens, position = self.encoder(offsets), self.pos_embed(centres)
        lead = 0
        if self.spec.class_token:
            lead = 1
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
            position = torch.cat([self.cls_pos.expand(len(tokens), -1, -1), position], dim=1)
        tokens = self.norm(self.blocks(tokens, position))
        return Tokens(lead=tokens[:, :lead], patch=tokens[:, lead:])

    @staticmethod
    def rename(key: str) -> str | None:
        """Pre-training files hold the encoder under ``MAE_encoder.`` beside a decoder that a classifier has no place for."""
        if key.startswith("MAE_encoder."):
            return key.removeprefix("MAE_encoder.")
        if key.startswith(("MAE_decoder.", "decoder_pos_embed.", "increase_dim.", "mask_token")):
            return None
        return key
