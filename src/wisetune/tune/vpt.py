"""Visual prompt tuning: tokens beside those of the patches."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune._tokens import AttentionShare, Prompts
from wisetune.tune.graft import WHOLE, Grafting
from wisetune.tune.tuning import Figures, Published


@dataclasses.dataclass(frozen=True)
class VPT(Grafting):
    """Prompts and their positions (Jia et al., ECCV 2022): new ones before each block, thrown away behind it (deep), or one set (shallow).

    As ported to point clouds by IDPT's authors: behind the patches, and each with a position that trains. Neither has weight decay; as published both
    have, as the filter of names that leaves out a class token misses them. In a pyramid the prompts of a block have its
    width, and shallow ones are the first level's. It begins changed: prompts take their part of every softmax.
    """

    name: ClassVar[str] = "vpt"
    title: ClassVar[str] = "VPT"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.4, 81.09)
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"
    lasting: ClassVar[str] = "tokens beside the patches' are in no weight of the backbone"
    version: ClassVar[int] = 2
    """2: weight decay of both prompts and positions, or of neither; before of positions alone."""

    prompts: int = option(10, least=1, most=1 << 12, means="how many, of each block or at all")
    deep: bool = option(True, means="new ones for every block, or one set before the first")

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Those of IDPT's repository, which ports it to point clouds."""
        file = "cfgs/finetune_{}_vpt.yaml of IDPT's repository"
        sets = {"scan-hardest": "scan_hardest", "scan-objbg": "scan_objbg", "scan-objonly": "scan_objonly", "modelnet40": "modelnet"}
        ten = {name: Published({"prompts": 10, "deep": True}, file.format(data), (WHOLE,)) for name, data in sets.items()}
        return {**ten, "few-shot": Published({"prompts": 20, "deep": True}, "cfgs/fewshot_vpt.yaml of IDPT's repository", (WHOLE,))}

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """How many prompts."""
        first = shapes.get("cls_prompt_list.0", ())
        return {"prompts": first[1], "deep": True} if len(first) == 3 else None

    def released(self, name: str) -> tuple[str, ...]:
        """Two lists, of prompts and of their positions."""
        found = re.fullmatch(r"blocks\.blocks\.(\d+)\.vpt\.(tokens|positions)", name)
        return (f"cls_prompt_{'list' if found[2] == 'tokens' else 'pos_list'}.{found[1]}",) if found else ()

    def decaying(self, model: Headed) -> set[str]:
        """As intended neither prompts nor positions: they are values that tokens have, and no map."""
        chosen = super().decaying(model)
        return chosen if self.reading == "as_published" else chosen - {f"backbone.{name}" for name in self.grafted(model.backbone)}

    def graft(self, model: Headed) -> None:
        """Prompts before each block, or before all."""
        anatomy = model.backbone.anatomy
        for site in anatomy.sites if self.deep else anatomy.stages[0].sites:
            seen = self.put(model, site.attend, AttentionShare(self.prompts))
            model.backbone.get_submodule(site.attend).register_forward_pre_hook(seen.before)
        if not self.deep:
            stage = anatomy.stages[0]
            prompts = self.put(model, stage.blocks, Prompts(self.prompts, stage.width))
            model.backbone.get_submodule(stage.blocks).register_forward_pre_hook(prompts.enter)
            return
        for site in anatomy.sites:
            prompts = self.put(model, site.block, Prompts(self.prompts, site.width))
            block = model.backbone.get_submodule(site.block)
            block.register_forward_pre_hook(prompts.enter)
            block.register_forward_hook(prompts.leave)
