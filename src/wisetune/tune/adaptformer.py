"""AdaptFormer: an adapter in parallel to the MLP."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F

from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune._bottleneck import Bottleneck
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Figures, Published


@dataclasses.dataclass(frozen=True)
class AdaptFormer(Grafting):
    """``x' + MLP(LN x') + s U relu(D x')``, of the values that enter the MLP's branch before their norm (Chen et al., NeurIPS 2022, eq. 2)."""

    name: ClassVar[str] = "adaptformer"
    title: ClassVar[str] = "AdaptFormer"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.9, 83.45)
    lasting: ClassVar[str] = "a bottleneck bends between its maps"

    rank: int = option(64, least=1, most=1 << 13, means="width of the bottleneck")
    scale: float = option(0.1, above=0, means="how much it counts")
    dropout: float = option(0.1, least=0, below=1, means="the share of the bottleneck's values that are dropped in training")

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Its authors' setting for images, which gives the published 0.9 M too."""
        return {
            DAPT_TABLE: Published(
                {"rank": 64, "scale": 0.1, "dropout": 0.1}, "DAPT's table, 0.9 M; AdaptFormer's own setting", (BY_FIGURE,)
            )
        }

    def graft(self, model: Headed) -> None:
        """A bottleneck beside each block's second branch, drop path and all."""
        for site in model.backbone.anatomy.sites:
            self.refuse_wide(self.rank, site.width, site.block)
            graft = self.put(model, site.residual_mlp, Bottleneck(site.width, self.rank, F.relu, self.dropout, self.scale))
            model.backbone.get_submodule(site.residual_mlp).register_forward_hook(graft.parallel)
