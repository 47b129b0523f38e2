"""ReCon (Qi et al., ICML 2023): patches and three global tokens, whose stream looks at the patches' and learnt from images and texts.

Its blocks are not pre-norm: both streams go on from their *normalised* values. The three tokens (class, image, text) and their positions are
pre-trained. Module names and shapes are those of the released code, so that its files load by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import Linear
from wisetune.nets.backbone import Preset
from wisetune.nets.categories import SHAPENETPART
from wisetune.nets.official_fits import OfficialFit, official_fit
from wisetune.nets.parts import Parts
from wisetune.nets.plain import Plain, PlainSpec, small
from wisetune.nets.readout import READS
from wisetune.nets.transformer import Block, Constant, Context, Mlp
from wisetune.spec import option

GLOBALS = ("cls", "img", "text")


class CrossAttention(nn.Module):
    """Multi-head attention of the global tokens to the patches."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = Linear(width, width, bias=False)
        self.kv = Linear(width, 2 * width, bias=False)
        self.proj = Linear(width, width)

    def forward(self, x: Float[torch.Tensor, "b l d"], to: Float[torch.Tensor, "b g d"]) -> Float[torch.Tensor, "b l d"]:
        """What the tokens ``x`` take from the tokens ``to``."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(to).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TwoStreams(Block):
    """One block of both streams; the names of the patches' are those of a plain block."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__(width, heads, drop_path)
        self.norm1_contrast = nn.LayerNorm(width)
        self.norm2_contrast = nn.LayerNorm(width)
        self.mlp_contrast = Mlp(width, 4 * width)
        self.attn_contrast = CrossAttention(width, heads)

    def forward(self, x: Float[torch.Tensor, "b t d"], context: Context) -> Float[torch.Tensor, "b t d"]:
        """The block's tokens, the global ones first; attention is not local here. Extra tokens are of the patches' stream."""
        assert context.near is None
        assert context.centres is not None
        x = context.placed(x)
        lead, patch = self.norm1_contrast(x[:, : len(GLOBALS)]), self.norm1(x[:, len(GLOBALS) :])
        # The global tokens look at the patches, and at no extra token, before these attend to each other.
        lead, patch = self.drop_path(lead, self.attn_contrast, patch[:, : context.centres.shape[1]]), self.residual_attn(patch, self.attn)
        lead, patch = self.norm2_contrast(lead), self.norm2(patch)
        return torch.cat([self.drop_path(lead, self.mlp_contrast), self.residual_mlp(patch, self.mlp)], dim=1)

    @torch.no_grad()
    def shift_attention(self, by: Float[torch.Tensor, " _"]) -> Constant:
        """As in any block. Here the normed tokens themselves go on, and the global ones look at them: both are given what they had."""
        same = super().shift_attention(by)
        bias, other = self.attn.proj.bias, self.attn_contrast.kv.weight
        bias.copy_(bias.cpu().double() - same.shift)
        same.add(other, other.new_zeros(len(other)))
        return same


@dataclasses.dataclass(frozen=True)
class ReConSpec(PlainSpec):
    """Sizes and reading of a ReCon."""

    name: ClassVar[str] = "recon"

    readout: str = option("leads+max", means=READS)

    @property
    def leads(self) -> int:
        """The three global tokens."""
        return len(GLOBALS)

    def build(self) -> ReCon:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return ReCon(self)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The official configurations, the feature of its linear SVM, and ``mini``."""
        return PRESETS

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Those of a classifier or a pre-training model."""
        own = {name: shape for key, shape in shapes.items() if (name := ReCon.rename(key)) is not None}
        return cls.sizes_of(own) if "img_token" in own else None


class ReCon(Plain):
    """The encoder of ReCon."""

    leading = GLOBALS
    block = TwoStreams
    aside = ("_contrast.",)
    lent = (
        "ReCon's blocks go on from their normalised values, and its class token looked at the patches from a stream of its own: in a plain block "
        "the same weights are another function than the one that was pre-trained, and a start to fine-tune from rather than a feature"
    )
    published_neighbours = "expanded"

    @staticmethod
    def rename(key: str) -> str | None:
        """Pre-training files hold the encoder under ``MAE_encoder.``, beside a decoder and two projections."""
        key = key.removeprefix("MAE_encoder.")
        return None if key.startswith(_ELSEWHERE) else key


_ELSEWHERE = (
    *("MAE_decoder.", "decoder_pos_embed.", "increase_dim.", "mask_token", "img_proj.", "text_proj.", "img_encoder.", "text_encoder."),
    *Parts.prefixes(),
)
"""Parts of the pre-training model, and of the part segmentation model."""


def _official(points: int, groups: int, classes: int, file: str, fit: OfficialFit, head: str = "mlp3", drop_path: float = 0.2) -> Preset:
    return Preset(ReConSpec(points=points, groups=groups, drop_path=drop_path), classes, head, f"ReCon cfgs/{file}.yaml", fit)


_TENFOLD: dict[str, Any] = {"group": ("cls", "head."), "group_lr": 10.0, "group_decay": 0.05}
"""Parameters with "cls" in their official names, the head's among them, learn ten times as fast, and all of them decay."""
_HEAD: dict[str, Any] = {"group": ("head.",), "frozen": True}


def _modelnet(lr: float, points: int = 1024, **differs: Any) -> OfficialFit:
    shared: dict[str, Any] = {"drop_path": 0.2, "votes": "scale", **_TENFOLD}
    return official_fit(points, of=8192, lr=lr, **(shared | differs))


def _scan(lr: float, **differs: Any) -> OfficialFit:
    shared: dict[str, Any] = {"drop_path": 0.2, "augment": "rotate-y", "votes": "rotate-y", **_TENFOLD}
    return official_fit(2048, of=2048, lr=lr, **(shared | differs))


PRESETS: dict[str, Preset] = {
    "modelnet-1k": _official(1024, 64, 40, "full/finetune_modelnet", _modelnet(1e-5)),
    "modelnet-8k": _official(8192, 512, 40, "full/finetune_modelnet_8k", _modelnet(1e-5, points=8192)),
    "scanobjectnn": _official(2048, 128, 15, "full/finetune_scan_hardest", _scan(2e-5)),
    "modelnet-1k-linear": _official(1024, 64, 40, "linear/finetune_modelnet", _modelnet(1e-4, **_HEAD), "mlp1"),
    "scanobjectnn-linear": _official(2048, 128, 15, "linear/finetune_scan_hardest", _scan(1e-4, **_HEAD), "mlp1"),
    # By its name the data set of few shots is not ModelNet to the official code: it is rotated, and a vote sees the clouds as they are.
    "few-shot": _official(
        1024, 64, 40, "full/fewshot", _modelnet(5e-4, epochs=150, drop_path=0.1, augment="rotate-y", votes="none"), drop_path=0.1
    ),
    "shapenetpart": Preset(
        ReConSpec(points=2048, groups=128, drop_path=0.1), SHAPENETPART, "parts:leads=true", "ReCon segmentation/models/pt.py"
    ),
    "svm": Preset(ReConSpec(readout="leads-max+total"), None, "linear", "the feature of ReCon's linear SVM, cfgs/svm/modelnet40.yaml"),
    "pretrain": Preset(ReConSpec(), None, "linear", "the encoder of ReCon cfgs/pretrain/base.yaml"),
    "small": Preset(ReConSpec(width=256, heads=4), None, "linear", "the encoder of ReCon cfgs/pretrain/small.yaml"),
    "tiny": Preset(ReConSpec(width=192, heads=3), None, "linear", "the encoder of ReCon cfgs/pretrain/tiny.yaml"),
    "mini": Preset(small(ReConSpec), None, "linear", "wisetune: the same code at a size for two cores"),
}
"""Settings by name; the sizes of the official ones are those of the configuration files named."""
