"""MaskPoint (Liu et al., ECCV 2022): Point-BERT's transformer, pre-trained by telling points of hidden patches from others.

Its patch centres come from another kernel, which skips no point. Its linear SVM looked at a projection of the class token which, without the
contrast, nothing trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from wisetune.nets.backbone import Preset
from wisetune.nets.official_fits import OfficialFit, official_fit
from wisetune.nets.plain import PROJECTED, WIDTH_MADE, Plain, PlainSpec, small
from wisetune.spec import option

_ELSEWHERE = ("transformer_k.", "queue", "mask_token", "decoder.", "bin_cls_head.")
"""Parts of the pre-training model."""


@dataclasses.dataclass(frozen=True)
class MaskPointSpec(PlainSpec):
    """Sizes and reading of a MaskPoint."""

    name: ClassVar[str] = "maskpoint"
    projects: ClassVar[bool] = True

    token_width: int | None = option(256, least=1, most=1 << 13, means=WIDTH_MADE)

    def build(self) -> MaskPoint:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return MaskPoint(self)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The official configurations, the feature of its linear SVM, and ``mini``."""
        return PRESETS

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Those of a classifier, whose names are Point-BERT's too, or of a pre-training model."""
        own = {name: shape for key, shape in shapes.items() if (name := MaskPoint.rename(key)) is not None}
        theirs = ("lm_head.weight", "dgcnn_pro_1.layer1.0.weight")
        return cls.sizes_of(own) if "reduce_dim.weight" in own and not any(name in own or name in shapes for name in theirs) else None


class MaskPoint(Plain):
    """The encoder of MaskPoint."""

    spare = ("cls_head.",)
    published_sampling = "pointops"

    @staticmethod
    def rename(key: str) -> str | None:
        """Pre-training files hold the encoder under ``transformer_q.``, beside its moving average, a decoder and the queue."""
        key = key.removeprefix("transformer_q.").removeprefix("base_model.")
        return None if key.startswith(_ELSEWHERE) else key


def _official(file: str, head: str, fit: OfficialFit) -> Preset:
    # ScanObjectNN too has 1,024 points and 40 outputs, of which 15 are used.
    return Preset(MaskPointSpec(), 40, head, f"MaskPoint cfgs/{file}.yaml", fit)


PRESETS: dict[str, Preset] = {
    "modelnet-1k": _official("finetune_modelnet", "mlp2", official_fit(1024, of=8192, times=9)),
    "scanobjectnn": _official(
        "finetune_scanobject_hardest", "mlp3:hidden=512,second=256", official_fit(1024, of=2048, times=9, clip_percentile=10)
    ),
    "few-shot": _official("fewshot_modelnet", "mlp2", official_fit(1024, of=8192, epochs=150, times=9)),
    "svm": Preset(MaskPointSpec(readout=PROJECTED), None, "linear", "the feature of MaskPoint's linear SVM in cfgs/pretrain_shapenet.yaml"),
    "mini": Preset(small(MaskPointSpec, token_width=96), None, "linear", "wisetune: the same code at a size for two cores"),
}
"""Settings by name; the sizes of the official ones are those of the configuration files named."""
