"""Point-MAE (Pang et al., ECCV 2022): patches of points become tokens of a plain transformer.

Module names and shapes are those of the released code, so that its files load by name. The class token exists only in the classifier: it
has no pre-trained value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Anatomy, Backbone, BackboneSpec, Groups, Preset, Site, Tokens
from wisetune.nets.readout import readout
from wisetune.nets.tokenizer import MiniPointNet
from wisetune.nets.transformer import Transformer, initialise
from wisetune.points.neighbours import gather, patches
from wisetune.points.sampling import SamplingRule
from wisetune.spec import option

POSITION_HIDDEN = 128


@dataclasses.dataclass(frozen=True)
class PointMAESpec(BackboneSpec):
    """Sizes and reading of a Point-MAE. ``tokenizer`` are the hidden widths of the mini-PointNet.

    ``initial`` is the rule of fresh weights: ``published`` draws every map with deviation 0.02, under which the signal of a narrow
    tokenizer all but vanishes; ``fan-in`` is torch's default.
    """

    name: ClassVar[str] = "point-mae"

    # Far above any published size. Specs are read from files that nobody vouches for, so none may ask for the whole memory.
    points: int = option(1024, least=1, most=1 << 20)
    groups: int = option(64, least=1, most=1 << 16)
    group_size: int = option(32, least=1, most=1 << 16)
    width: int = option(384, least=1, most=1 << 13)
    depth: int = option(12, least=1, most=1 << 8)
    heads: int = option(6, least=1, most=1 << 8)
    tokenizer: tuple[int, ...] = option((128, 256, 512), least=1, most=1 << 13)
    class_token: bool = True
    readout: str = "lead+max"
    drop_path: float = option(0.1, least=0, below=1)
    initial: Literal["published", "fan-in"] = "published"
    reading: Literal["as_intended", "as_published"] = "as_intended"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.tokenizer, tuple) or len(self.tokenizer) != 3:
            raise UsageError(f"'point-mae' has tokenizer={self.tokenizer}; it takes three widths, for example 128+256+512.")
        if self.width % self.heads:
            raise UsageError(f"'point-mae' has width={self.width} and heads={self.heads}; the width must be a multiple of the heads.")
        if max(self.groups, self.group_size) > self.points:
            patches = f"groups={self.groups} of group-size={self.group_size}"
            raise UsageError(f"'point-mae' has {patches}, but clouds of points={self.points}; give clouds more points.")
        readout(self.readout)
        if self.readout.startswith("lead") and not self.class_token:
            raise UsageError(f"'point-mae' has readout={self.readout} but class-token=false; use readout=max+mean, or a class token.")

    def build(self) -> PointMAE:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return PointMAE(self)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The official configurations, and ``mini``."""
        return PRESETS

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Width, depth, tokenizer and class token; neither the heads nor the groups can be seen in shapes."""
        shapes = {name: shape for key, shape in shapes.items() if (name := PointMAE.rename(key)) is not None}
        first, second = shapes.get("encoder.first_conv.3.weight", ()), shapes.get("encoder.second_conv.3.weight", ())
        depth = len({key.split(".")[2] for key in shapes if key.startswith("blocks.blocks.")})
        if len(first) != 3 or len(second) != 3 or not depth or shapes.get("norm.weight") != second[:1] or "reduce_dim.weight" in shapes:
            return None
        return {"width": second[0], "depth": depth, "tokenizer": (first[1], first[0], second[1]), "class_token": "cls_token" in shapes}


class PointMAE(Backbone):
    """The encoder of Point-MAE without masking, with or without class token."""

    head_name = "cls_head_finetune"

    def __init__(self, spec: PointMAESpec) -> None:
        super().__init__()
        self._spec = spec
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
    def spec(self) -> PointMAESpec:
        """What it was built from."""
        return self._spec

    @property
    def sampling(self) -> SamplingRule:
        """The rule by which patch centres are chosen."""
        return "pointnet2" if self.spec.reading == "as_published" else "intended"

    @property
    def fewest_points(self) -> int:
        """A patch centre is chosen once, and a patch's points are different ones."""
        return max(self.spec.groups, self.spec.group_size)

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
        """Pre-training files hold the encoder under ``MAE_encoder.``; a decoder or a segmentation head has no place here."""
        if key.startswith("MAE_encoder."):
            return key.removeprefix("MAE_encoder.")
        return None if key.startswith(_ELSEWHERE) else key


_ELSEWHERE = (
    *("MAE_decoder.", "decoder_pos_embed.", "increase_dim.", "mask_token"),
    *("label_conv.", "propagation_0.", "convs1.", "convs2.", "convs3.", "bns1.", "bns2."),
)
"""Parts of the pre-training model, and of the part segmentation model."""


def _official(points: int, groups: int, classes: int, file: str) -> Preset:
    return Preset(PointMAESpec(points=points, groups=groups), classes, "mlp3", f"Point-MAE cfgs/{file}.yaml")


PRESETS: dict[str, Preset] = {
    "modelnet-1k": _official(1024, 64, 40, "finetune_modelnet"),
    "modelnet-8k": _official(8192, 512, 40, "finetune_modelnet_8k"),
    "scanobjectnn": _official(2048, 128, 15, "finetune_scan_hardest"),
    # The official few-shot runs keep the 40 outputs and use the first 5 or 10.
    "few-shot": _official(1024, 64, 40, "fewshot"),
    "pretrain": Preset(PointMAESpec(class_token=False, readout="max+mean"), None, "linear", "the encoder of Point-MAE cfgs/pretrain.yaml"),
    "mini": Preset(
        PointMAESpec(
            groups=32,
            width=128,
            depth=6,
            heads=4,
            tokenizer=(32, 64, 128),
            class_token=False,
            readout="max+mean",
            drop_path=0.0,
            initial="fan-in",
        ),
        None,
        "linear",
        "wisetune: small enough to pre-train and fine-tune on a CPU",
    ),
}
"""Settings by name; the sizes of the official ones are those of the configuration files named."""
