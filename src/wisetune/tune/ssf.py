"""SSF: scale and shift what every operation gives."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from wisetune.nets.headed import Headed
from wisetune.tune._affine import Affine
from wisetune.tune.graft import Grafting


@dataclasses.dataclass(frozen=True)
class SSF(Grafting):
    """``gamma y + beta`` behind every map and norm of a block, the patches' embedding and the last norm (Lian et al., NeurIPS 2022, eq. 2).

    It folds into the operation before it. It does not begin as the identity.
    """

    name: ClassVar[str] = "ssf"

    def graft(self, model: Headed) -> None:
        """One behind each operation."""
        anatomy = model.backbone.anatomy
        for site in anatomy.sites:
            sizes = {site.norm1: 1, site.qkv: 3, site.proj: 1, site.norm2: 1, site.fc1: 4, site.fc2: 1}
            for place, times in sizes.items():
                affine = self.put(model, place, Affine(times * site.width))
                # Attention keeps queries, keys and values, and GELU what enters it.
                way = affine.after_norm if "norm" in place else affine.kept_behind if times > 1 else affine.after
                model.backbone.get_submodule(place).register_forward_hook(way)
        for stage in anatomy.stages:
            affine = self.put(model, stage.tokens, Affine(stage.width))
            model.backbone.get_submodule(stage.tokens).register_forward_hook(affine.after)
        for norm, stage in zip(reversed(anatomy.norms), reversed(anatomy.stages), strict=False):
            affine = self.put(model, norm, Affine(stage.width))
            model.backbone.get_submodule(norm).register_forward_hook(affine.after_norm)
