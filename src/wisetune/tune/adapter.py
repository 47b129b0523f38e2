"""Adapters, in series."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F

from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune._bottleneck import Bottleneck
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Figures, Published


@dataclasses.dataclass(frozen=True)
class Adapter(Grafting):
    """``y <- y + U gelu(D y + d) + u`` on what attention and MLP give, before the residual is added (Houlsby et al., ICML 2019, section 2.1)."""

    name: ClassVar[str] = "adapter"
    title: ClassVar[str] = "Adapter"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.9, 83.93)
    lasting: ClassVar[str] = "a bottleneck bends between its maps"

    rank: int = option(32, least=1, most=1 << 13, means="width of the bottleneck")
    after: tuple[Literal["attn", "mlp"], ...] = option(("attn", "mlp"), means="behind attention, the MLP, or both")

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Two that give the published 0.9 M; two of 64 a block would be 1.46 M."""
        return {
            DAPT_TABLE: Published({"rank": 32, "after": ("attn", "mlp")}, "DAPT's table, 0.9 M: two of 32 a block", (BY_FIGURE,)),
            f"{DAPT_TABLE}-one": Published({"rank": 64, "after": ("mlp",)}, "DAPT's table, 0.9 M: one of 64 a block", (BY_FIGURE,)),
        }

    def graft(self, model: Headed) -> None:
        """A bottleneck behind each of these."""
        for site in model.backbone.anatomy.sites:
            self.refuse_wide(self.rank, site.width, site.block)
            for part in self.after:
                place = getattr(site, part)
                graft = self.put(model, place, Bottleneck(site.width, self.rank, F.gelu))
                model.backbone.get_submodule(place).register_forward_hook(graft.serial)
