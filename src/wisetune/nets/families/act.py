"""ACT (Dong et al., ICLR 2023): the plain transformer over patches, taught by an image transformer.

Its classifier is Point-MAE's to the last name; the class token comes from pre-training. Its linear SVM looked at a projection of that token which
the distillation never trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from wisetune.nets.backbone import ForParts, Preset
from wisetune.nets.categories import SHAPENETPART
from wisetune.nets.official_fits import OfficialFit, official_fit
from wisetune.nets.parts import Parts
from wisetune.nets.plain import PROJECTED, BareSpec, Plain, small

_PREFIX = "ACT_encoder."
_PARTS_SUFFIX = "_cls"
_ELSEWHERE = (
    *("ACT_decoder.", "decoder_pos_embed.", "dvae_tokenizer.", "proj_head.", "mask_token", "lm_head."),
    *Parts.prefixes(),
    *Parts.prefixes(_PARTS_SUFFIX),
)
"""Parts of the pre-training model, and of the part segmentation model (whose names end in ``_cls`` but in older files)."""


@dataclasses.dataclass(frozen=True)
class ACTSpec(BareSpec):
    """Sizes and reading of an ACT."""

    name: ClassVar[str] = "act"
    projects: ClassVar[bool] = True

    def build(self) -> ACT:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return ACT(self)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The official configurations, the feature of its linear SVM, and ``mini``."""
        return PRESETS

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Those of a classifier, whose names are Point-MAE's too, of a pre-training model, or of a part segmentation, which has no class token."""
        own = {name: shape for key, shape in shapes.items() if (name := ACT.rename(key)) is not None}
        if "reduce_dim.weight" in own or "img_token" in own or ("cls_token" not in own and "convs1_cls.weight" not in shapes):
            return None
        found = cls.sizes_of(own)
        return found and found | {"class_token": "cls_token" in own}


class ACT(Plain):
    """The encoder of ACT."""

    spare = ("cls_head.",)
    for_parts = ForParts(suffix=_PARTS_SUFFIX)

    @staticmethod
    def rename(key: str) -> str | None:
        """Pre-training files hold the encoder under ``ACT_encoder.``, beside the teacher and a decoder."""
        key = key.removeprefix(_PREFIX)
        return None if key.startswith(_ELSEWHERE) else key


def _official(points: int, groups: int, classes: int, file: str, fit: OfficialFit, head: str = "mlp3") -> Preset:
    return Preset(ACTSpec(points=points, groups=groups), classes, head, f"ACT cfgs/finetune_classification/{file}.yaml", fit)


def _fit(points: int, of: int, **differs: Any) -> OfficialFit:
    # The runner that was released rotates every data set's clouds; with which augmentation ModelNet's numbers were made is not known.
    votes = None if points == 2048 else "scale-translate"
    return official_fit(points, of, augment="rotate-y", votes=votes, lr_min=1e-7, **differs)


PRESETS: dict[str, Preset] = {
    "modelnet-1k": _official(1024, 64, 40, "full/finetune_modelnet", _fit(1024, of=8192)),
    "modelnet-8k": _official(8192, 512, 40, "full/finetune_modelnet_8k", _fit(8192, of=8192)),
    "scanobjectnn": _official(2048, 128, 15, "full/finetune_scan_hardest", _fit(2048, of=2048)),
    "modelnet-1k-linear": _official(1024, 64, 40, "linear/finetune_modelnet_linear", _fit(1024, of=8192, lr=1e-3, frozen=True), "mlp1"),
    "scanobjectnn-linear": _official(
        2048, 128, 15, "linear/finetune_scan_hardest_linear", _fit(2048, of=2048, lr=1e-3, frozen=True), "mlp1"
    ),
    "few-shot": _official(1024, 64, 40, "few_shot/fewshot_modelnet", _fit(1024, of=8192, epochs=150)),
    "shapenetpart": Preset(
        ACTSpec(points=2048, groups=128, class_token=False, readout="max+mean"), SHAPENETPART, "parts", "ACT part_segmentation/models/pt.py"
    ),
    "svm": Preset(
        ACTSpec(readout=PROJECTED), None, "linear", "the feature of ACT's linear SVM during cfgs/pretrain/pretrain_act_distill.yaml"
    ),
    "mini": Preset(small(ACTSpec), None, "linear", "wisetune: the same code at a size for two cores"),
}
"""Settings by name; the sizes of the official ones are those of the configuration files named."""
