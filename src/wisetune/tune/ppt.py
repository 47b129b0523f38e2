"""PPT: the patches of a cloud once more, as prompts that have a place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from wisetune.nets.headed import Headed
from wisetune.nets.readout import EXTRA, with_extra
from wisetune.nets.transformer import PatchTokens
from wisetune.spec import option
from wisetune.tune._patch_prompts import PatchPrompts, PatchPromptTuning, ReadoutShare, small
from wisetune.tune.graft import WHOLE
from wisetune.tune.tuning import Figures, Published

_AGAIN = "The second cut is the first one again, and its tokens are made a second time, so that in training the tokenizer's statistics drift twice."
_BENT = "Its head bends by GELU, which is no part of a tuning: --head mlp3:activation=gelu."


class Positional(PatchPrompts):
    """Prompts, and a third bottleneck beside each MLP."""

    def __init__(self, width: int, rank: int, cut: int | None) -> None:
        super().__init__(width, rank)
        self.beside = small(width, rank)
        self.cut = cut

    def prompt(self, own: PatchTokens, further: tuple[PatchTokens, ...]) -> PatchTokens:
        """The patches themselves, or others of the cloud."""
        return own if self.cut is None else further[self.cut]


@dataclasses.dataclass(frozen=True)
class PPT(PatchPromptTuning):
    """Positional prompt tuning (Zhang et al. 2024, arXiv 2408.11567, section 3): a second cut of the cloud into patches gives prompts ``p``.

    Before each block, with positions ``e`` added, ``x <- x + e + A(x + e)`` of patches and ``p <- p + e + B(p + e)`` of prompts; in it
    ``y = x' + MLP(LN x') + C(x')`` of all tokens. ``A``, ``B``, ``C`` are maps ``U gelu(D x + d) + u`` that all blocks share. The map of positions
    and the first half of the tokenizer train too; the head sees the class token, the mean of patches and that of prompts.

    In all published configurations the second cut is the first one again: prompts are copies of the patches' tokens. They are copied here, where
    as published the tokenizer is run twice, so that in training its statistics drift twice. Published numbers have the head ``mlp3:activation=gelu``.
    It begins changed: the maps begin small and not at nothing. In a pyramid each level has prompts and maps of its own, and prompts are as near to
    one another and to patches as patches are.
    """

    name: ClassVar[str] = "ppt"
    title: ClassVar[str] = "PPT"
    figures: ClassVar[Figures | None] = Figures(None, 89.00, "its repository")
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"
    lasting: ClassVar[str] = "its prompts are made of each cloud anew"

    rank: int | None = option(
        None, least=1, most=1 << 13, means="width of the bottlenecks; none: two thirds of the tokens', as published, where it is 256"
    )
    groups: int | None = option(None, least=1, most=1 << 16, means="prompts, of each level; none: as many as it has patches")
    group_size: int | None = option(
        None, least=1, most=1 << 16, means="points, or patches below, of the patch that a prompt is made of; none: those of a patch"
    )
    readout: Literal["means", "all", "tokens"] = option(
        "means",
        means="a head sees lead tokens and the means of patches and of prompts; what it would, and the mean of prompts; or what it would",
    )

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Those of the released configurations for Point-MAE; those for ReCon have the same sizes."""

        def setting(file: str, groups: int) -> Published:
            sizes = {"rank": 256, "groups": groups, "group_size": 32, "readout": "means"}
            again = () if file == "modelnet_8k" else (_AGAIN,)
            return Published(sizes, f"PPT cfgs/pointmae_configs/finetune_{file}.yaml", (WHOLE, _BENT, *again))

        return {
            "scan-hardest": setting("scan_hardest", 128),
            "scan-objbg": setting("scan_objbg", 128),
            "scan-objonly": setting("scan_objonly", 128),
            "modelnet40": setting("modelnet", 64),
            "modelnet40-8k": setting("modelnet_8k", 64),
        }

    def graft(self, model: Headed) -> None:
        """Prompts of each stack of blocks, and the three maps."""
        backbone = model.backbone
        self.refuse_ragged(backbone)
        count = 0
        for number, stage in enumerate(backbone.anatomy.stages):
            rank = max(1, 2 * stage.width // 3) if self.rank is None else self.rank
            self.refuse_wide(rank, stage.width, stage.blocks)
            own = (stage.groups, stage.group_size)
            count, size = self.groups or own[0], self.group_size or own[1]
            again = (count, size) == own and self.reading == "as_intended"
            prompts = Positional(stage.width, rank, None if again else self.cut(backbone, number, count, size))
            self.place(model, stage, prompts, count)
            for site in stage.sites:
                backbone.get_submodule(site.residual_mlp).register_forward_hook(prompts.beside.parallel)
        if self.readout != "tokens":
            last = backbone.anatomy.norms[-1]
            read = self.put(model, last, ReadoutShare(count, backbone.leads))
            backbone.get_submodule(last).register_forward_hook(read.faded)
            means = f"leads+mean+{EXTRA}" if backbone.leads else f"mean+{EXTRA}"
            backbone.readout = means if self.readout == "means" else with_extra(backbone.readout)
