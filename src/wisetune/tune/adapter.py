"""Adapters, in series."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch.nn.functional as F

from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune._bottleneck import Bottleneck
from wisetune.tune.graft import Grafting


@dataclasses.dataclass(frozen=True)
class Adapter(Grafting):
    """``y <- y + U gelu(D y + d) + u`` on what attention and MLP give, before the residual is added (Houlsby et al., ICML 2019, section 2.1)."""

    name: ClassVar[str] = "adapter"
    title: ClassVar[str] = "Adapter"

    rank: int = option(32, least=1, most=1 << 13, means="width of the bottleneck")
    after: tuple[Literal["attn", "mlp"], ...] = option(("attn", "mlp"), means="behind attention, the MLP, or both")

    def graft(self, model: Headed) -> None:
        """A bottleneck behind each of these."""
        for site in model.backbone.anatomy.sites:
            self.refuse_wide(self.rank, site.width, site.block)
            for part in self.after:
                place = getattr(site, part)
                graft = self.put(model, place, Bottleneck(site.width, self.rank, F.gelu))
                model.backbone.get_submodule(place).register_forward_hook(graft.serial)
