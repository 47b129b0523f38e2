"""Point-BERT (Yu et al., CVPR 2022): the plain transformer over patches, pre-trained by guessing the codes of hidden patches.

Tokens are 256 wide and pass a linear map; the class token is pre-trained. Its linear SVM looked at the projection of that token which the contrast
of pre-training trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from wisetune.nets.backbone import Preset
from wisetune.nets.categories import SHAPENETPART
from wisetune.nets.official_fits import official_fit
from wisetune.nets.parts_graph import GraphParts
from wisetune.nets.plain import PROJECTED, WIDTH_MADE, Plain, PlainSpec, small
from wisetune.points.neighbours import NeighbourRule
from wisetune.spec import option

_ELSEWHERE = (
    *("transformer_k.", "queue", "dvae.", "mask_token", "lm_head."),
    *GraphParts.prefixes(),
    "label_conv.",
)
"""Parts of the pre-training model, and of the part segmentation model; the last is what files of torch-pointcloud have in its place."""


@dataclasses.dataclass(frozen=True)
class PointBERTSpec(PlainSpec):
    """Sizes and reading of a Point-BERT."""

    name: ClassVar[str] = "point-bert"
    projects: ClassVar[bool] = True

    token_width: int | None = option(256, least=1, most=1 << 13, means=WIDTH_MADE)
    segments: bool = option(False, absent=False, means="whether, as published, neighbours are found as its part segmentation finds them")

    def build(self) -> PointBERT:
        """A backbone with fresh weights, drawn from torch's default generator."""
        return PointBERT(self)

    @classmethod
    def presets(cls) -> Mapping[str, Preset]:
        """The official configurations, the feature of its linear SVM, and ``mini``."""
        return PRESETS

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Those of a classifier, whose names are MaskPoint's too, or of a pre-training model."""
        own = {name: shape for key, shape in shapes.items() if (name := PointBERT.rename(key)) is not None}
        return cls.sizes_of(own) if "reduce_dim.weight" in own and "bin_cls_head.0.weight" not in own else None


class PointBERT(Plain):
    """The encoder of Point-BERT."""

    spare = ("cls_head.",)
    published_neighbours = "expanded"

    @property
    def neighbours(self) -> NeighbourRule:
        """The rule by which a patch's points are; the released part segmentation has another than the classifier."""
        return "exact" if isinstance(self.spec, PointBERTSpec) and self.spec.segments else super().neighbours

    @staticmethod
    def rename(key: str) -> str | None:
        """Pre-training files hold the encoder under ``transformer_q.``, beside its moving average, the dVAE and the queue."""
        key = key.removeprefix("transformer_q.").removeprefix("base_model.")
        return None if key.startswith(_ELSEWHERE) else key


def _official(points: int, groups: int, file: str, of: int = 8192, epochs: int = 300) -> Preset:
    # ScanObjectNN too has 1,024 points and 40 outputs, of which 15 are used. Its voting refuses clouds of 2,048 points.
    fit = official_fit(points, of, epochs=epochs, votes=None if points == 2048 else "scale-translate", times=9)
    return Preset(PointBERTSpec(points=points, groups=groups), 40, "mlp2", f"Point-BERT cfgs/{file}.yaml", fit)


PRESETS: dict[str, Preset] = {
    "modelnet-1k": _official(1024, 64, "ModelNet_models/PointTransformer"),
    "modelnet-2k": _official(2048, 128, "ModelNet_models/PointTransformer_2048point"),
    "modelnet-4k": _official(4096, 256, "ModelNet_models/PointTransformer_4096point"),
    "modelnet-8k": _official(8192, 512, "ModelNet_models/PointTransformer_8192point"),
    "scanobjectnn": _official(1024, 64, "ScanObjectNN_models/PointTransformer_hardest", of=2048),
    "few-shot": _official(1024, 64, "Fewshot_models/PointTransformer", epochs=150),
    "shapenetpart": Preset(
        PointBERTSpec(points=2048, groups=128, segments=True),
        SHAPENETPART,
        "parts-graph",
        "Point-BERT segmentation/models/PointTransformer.py",
    ),
    "svm": Preset(
        PointBERTSpec(readout=PROJECTED), None, "linear", "the feature of Point-BERT's linear SVM in cfgs/Mixup_models/Point-BERT.yaml"
    ),
    "mini": Preset(small(PointBERTSpec, token_width=96), None, "linear", "wisetune: the same code at a size for two cores"),
}
"""Settings by name; the sizes of the official ones are those of the configuration files named."""
