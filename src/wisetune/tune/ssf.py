"""SSF: scale and shift what every operation gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from wisetune.nets.headed import Headed
from wisetune.tune._affine import Affine, scale_block
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Published


@dataclasses.dataclass(frozen=True)
class SSF(Grafting):
    """``gamma y + beta`` behind every map and norm of a block, the patches' embedding and the last norm (Lian et al., NeurIPS 2022, eq. 2).

    It folds into the operation before it. It does not begin as the identity.
    """

    name: ClassVar[str] = "ssf"
    title: ClassVar[str] = "SSF"

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """It has no sizes."""
        return {DAPT_TABLE: Published({}, "DAPT's table, 0.4 M", (BY_FIGURE,))}

    def graft(self, model: Headed) -> None:
        """One behind each operation."""
        anatomy = model.backbone.anatomy
        for site in anatomy.sites:
            scale_block(lambda place, affine: self.put(model, place, affine), model.backbone, site)
        for stage in anatomy.stages:
            affine = self.put(model, stage.tokens, Affine(stage.width))
            model.backbone.get_submodule(stage.tokens).register_forward_hook(affine.after)
        for norm, stage in zip(reversed(anatomy.norms), reversed(anatomy.stages), strict=False):
            affine = self.put(model, norm, Affine(stage.width))
            model.backbone.get_submodule(norm).register_forward_hook(affine.after_norm)
