"""Point-MAE (Pang et al., ECCV 2022): the plain transformer over patches, pre-trained by rebuilding hidden patches.

The class token exists only in the classifier: it has no pre-trained value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from wisetune.nets.backbone import Masking, Preset
from wisetune.nets.categories import SHAPENETPART
from wisetune.nets.masked import MaskedAutoencoder
from wisetune.nets.official_fits import OfficialFit, official_fit
from wisetune.nets.parts import Parts
from wisetune.nets.plain import BareSpec, Plain, small


@dataclasses.dataclass(frozen=True)
class PointMAESpec(BareSpec):
    """Sizes and reading of a Point-MAE."""

    name: ClassVar[str] = "point-mae"
    masking: ClassVar[Masking] = Masking(mask=0.6, decoder_depth=2)
    no_presets: ClassVar[Mapping[str, str]] = {
        "svm": "Its authors did no experiment with a linear SVM (their issue 5), so that no feature of one is known; preset='pretrain' gives maximum "
        "and mean over the patches."
    }

    def build(self) -> PointMAE:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return PointMAE(self)

    def masked(self, decoder_depth: int) -> MaskedAutoencoder:
        """The released pre-training model; it has no class token."""
        return MaskedAutoencoder(dataclasses.replace(self, class_token=False, readout="max+mean"), decoder_depth)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The official configurations, and ``mini``."""
        return PRESETS

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Those of a classifier or a pre-training model."""
        own = {name: shape for key, shape in shapes.items() if (name := PointMAE.rename(key)) is not None}
        theirs = ("reduce_dim.weight", "img_token", "convs1_cls.weight")
        found = None if any(name in own for name in theirs) else cls.sizes_of(own)
        return found and found | {"class_token": "cls_token" in own}


class PointMAE(Plain):
    """The encoder of Point-MAE."""

    fresh = ("cls_token", "cls_pos")

    @staticmethod
    def rename(key: str) -> str | None:
        """Pre-training files hold the encoder under ``MAE_encoder.``; a decoder or a segmentation head has no place here."""
        if key.startswith("MAE_encoder."):
            return key.removeprefix("MAE_encoder.")
        return None if key.startswith(_ELSEWHERE) else key


_ELSEWHERE = (
    *("MAE_decoder.", "decoder_pos_embed.", "increase_dim.", "mask_token"),
    *Parts.prefixes(),
)
"""Parts of the pre-training model, and of the part segmentation model."""


def _official(points: int, groups: int, classes: int, file: str, fit: OfficialFit) -> Preset:
    return Preset(PointMAESpec(points=points, groups=groups), classes, "mlp3", f"Point-MAE cfgs/{file}.yaml", fit)


PRESETS: dict[str, Preset] = {
    "modelnet-1k": _official(1024, 64, 40, "finetune_modelnet", official_fit(1024, of=8192)),
    "modelnet-8k": _official(8192, 512, 40, "finetune_modelnet_8k", official_fit(8192, of=8192)),
    # Its voting refuses clouds of 2,048 points.
    "scanobjectnn": _official(2048, 128, 15, "finetune_scan_hardest", official_fit(2048, of=2048, votes=None)),
    # The official few-shot runs keep the 40 outputs and use the first 5 or 10.
    "few-shot": _official(1024, 64, 40, "fewshot", official_fit(1024, of=8192, epochs=150)),
    "shapenetpart": Preset(
        PointMAESpec(points=2048, groups=128, class_token=False, readout="max+mean"),
        SHAPENETPART,
        "parts",
        "Point-MAE segmentation/models/pt.py",
    ),
    "pretrain": Preset(PointMAESpec(class_token=False, readout="max+mean"), None, "linear", "the encoder of Point-MAE cfgs/pretrain.yaml"),
    "mini": Preset(
        small(PointMAESpec, class_token=False, readout="max+mean"),
        None,
        "linear",
        "wisetune: small enough to pre-train and fine-tune on a CPU",
    ),
}
"""Settings by name; the sizes of the official ones are those of the configuration files named."""
