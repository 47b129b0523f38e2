"""Prefix tuning: keys and values beside those of the tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune._tokens import Keys
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Published


@dataclasses.dataclass(frozen=True)
class Prefix(Grafting):
    """``k' = [P_k; k], v' = [P_v; v]`` in every block (Li & Liang, ACL 2021). There are no more tokens than before, and it has no place."""

    name: ClassVar[str] = "prefix"
    title: ClassVar[str] = "prefix tuning"

    length: int = option(50, least=1, most=1 << 12, means="keys and values of each block")

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Anything from 42 to 52 rounds to the published 0.7 M."""
        return {DAPT_TABLE: Published({"length": 50}, "DAPT's table, 0.7 M: any from 42 to 52 rounds to it", (BY_FIGURE,))}

    def graft(self, model: Headed) -> None:
        """Keys and values at each attention."""
        for site in model.backbone.anatomy.sites:
            graft = self.put(model, site.attend, Keys(self.length, site.width))
            model.backbone.get_submodule(site.attend).register_forward_pre_hook(graft.before)
