"""SSF: scale and shift what every operation gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from wisetune.errors import UsageError
from wisetune.nets.headed import Headed
from wisetune.nets.tokenizer import MiniPointNet
from wisetune.nets.transformer import Block
from wisetune.tune._affine import Affine, scale_block
from wisetune.tune._weights import put, wide, widened
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Figures, Published


@dataclasses.dataclass(frozen=True)
class SSF(Grafting):
    """``gamma y + beta`` behind every map and norm of a block, the patches' embedding and the last norm (Lian et al., NeurIPS 2022, eq. 2).

    It folds into the operation before it. It begins changed: gamma and beta are drawn around 1 and 0.
    """

    name: ClassVar[str] = "ssf"
    title: ClassVar[str] = "SSF"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.4, 82.58)
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"

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

    def fold(self, model: Headed, plain: Headed) -> None:
        """Each into the weight and bias before it; the shift of queries, keys and values, whose map has no bias, into those around it."""
        shifts: dict[str, Tensor] = {}
        for name, module in model.backbone.named_modules():
            if isinstance(module, Affine):
                place = name.removesuffix(f".{self.slot}")
                (weight, bias), (gamma, beta) = self._before(plain, place), widened(module).counts()
                if weight.dim() == 3 and bool((gamma < 0).any()):
                    raise UsageError(
                        f"'{self}' cannot be folded: a token is a maximum over points, and {int((gamma < 0).sum())} of its {len(gamma)} scales at "
                        f"{place} are negative, which would make it a minimum. Keep its grafts."
                    )
                put(weight, wide(weight) * gamma.view(-1, *(1 for _ in weight.shape[1:])))
                if bias is None:
                    shifts[place] = beta
                else:
                    put(bias, wide(bias) * gamma + beta)
        for site in plain.backbone.anatomy.sites:
            block = plain.backbone.get_submodule(site.block)
            assert isinstance(block, Block)
            block.shift_attention(shifts[site.qkv])

    def _before(self, plain: Headed, place: str) -> tuple[Tensor, Tensor | None]:
        """The weight and bias of the last operation of a part."""
        part = plain.backbone.get_submodule(place)
        last = part.second_conv[3] if isinstance(part, MiniPointNet) else part
        assert isinstance(last, (nn.Linear, nn.Conv1d, nn.LayerNorm))
        return last.weight, last.bias
