"""LoRA: thin matrices beside linear maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch

from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune._low_rank import LowRank
from wisetune.tune._weights import put, wide, widened
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Figures, Published

_THIRD = {"q": 0, "k": 1, "v": 2}


@dataclasses.dataclass(frozen=True)
class Lora(Grafting):
    """``W x + (alpha / r) B A x`` (Hu et al., ICLR 2022, eq. 3), on queries and values by themselves; it folds into the weights."""

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.9, 81.74)

    rank: int = option(32, least=1, most=1 << 10, means="columns of the thin matrices")
    alpha: float | None = option(None, above=0, means="the product counts alpha / rank; none: as it is")
    at: tuple[Literal["q", "k", "v", "qkv", "proj", "fc1", "fc2"], ...] = option(
        ("q", "v"), means="maps, of q, k, v (each by itself), qkv (as one), proj, fc1, fc2"
    )

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """The one of ImageNet-RIB, and a size that gives DAPT's figure."""
        trains_more = "For images the code trains the embedding of positions and the last norm too; here they rest."
        return {
            "imagenet-rib": Published(
                {"rank": 8, "alpha": 1.0, "at": ("q", "v")}, "ImageNet-RIB: r 8, alpha 1, on queries and values", (trains_more,)
            ),
            DAPT_TABLE: Published(
                {"rank": 32, "alpha": None, "at": ("q", "v")}, "DAPT's table, 0.9 M: 32 on queries and values", (BY_FIGURE,)
            ),
        }

    def graft(self, model: Headed) -> None:
        """A pair of matrices for each map of each block."""
        scale = 1.0 if self.alpha is None else self.alpha / self.rank
        for site in model.backbone.anatomy.sites:
            thirds = tuple(slice(_THIRD[part] * site.width, (_THIRD[part] + 1) * site.width) for part in self.at if part in _THIRD)
            wanted: dict[str, tuple[slice, ...]] = {getattr(site, part): (slice(None),) for part in self.at if part not in _THIRD}
            if thirds:
                wanted[site.qkv] = (*thirds, *wanted.get(site.qkv, ()))
            for place, rows in wanted.items():
                linear = model.backbone.get_submodule(place)
                assert isinstance(linear, torch.nn.Linear)
                self.refuse_wide(self.rank, min(linear.in_features, linear.out_features), place)
                graft = self.put(model, place, LowRank(linear.in_features, linear.out_features, self.rank, scale, rows))
                linear.register_forward_hook(graft.after)

    def fold(self, model: Headed, plain: Headed) -> None:
        """The product, added to each map's weight."""
        for name, module in model.backbone.named_modules():
            if isinstance(module, LowRank):
                linear = plain.backbone.get_submodule(name.removesuffix(f".{self.slot}"))
                assert isinstance(linear, torch.nn.Linear)
                put(linear.weight, wide(linear.weight) + widened(module).delta())
