"""Prefix tuning: keys and values beside those of the tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch

from wisetune.nets.headed import Headed
from wisetune.spec import option
from wisetune.tune._tokens import DirectPrefix, PrefixMap, ReparamPrefix
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Figures, Published


@dataclasses.dataclass(frozen=True)
class Prefix(Grafting):
    """``k' = [P_k; k], v' = [P_v; v]`` in every block (Li & Liang, ACL 2021). There are no more tokens than before, and it has no place.

    With ``hidden`` the prefixes of all blocks are ``U_i tanh(D E + d) + u_i`` of one table E, as their section 4.3 has it, and fold to prefixes as they
    are. It begins changed: keys that are nearly nothing still take their part of every softmax.
    """

    name: ClassVar[str] = "prefix"
    title: ClassVar[str] = "prefix tuning"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.7, 77.72)
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"
    lasting: ClassVar[str] = "keys and values that a softmax is shared with are in no weight of the backbone"

    length: int = option(50, least=1, most=1 << 12, means="keys and values of each block")
    hidden: int | None = option(
        None, least=1, most=1 << 13, absent=None, means="width inside the map that prefixes are made by; none: they are parameters"
    )

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Anything from 42 to 52 rounds to the published 0.7 M."""
        return {DAPT_TABLE: Published({"length": 50}, "DAPT's table, 0.7 M: any from 42 to 52 rounds to it", (BY_FIGURE,))}

    def graft(self, model: Headed) -> None:
        """Keys and values at each attention, or what makes them at the blocks of each level."""
        backbone = model.backbone
        for stage in backbone.anatomy.stages:
            making = None
            if self.hidden is not None:
                making = self.put(model, stage.blocks, PrefixMap(self.length, stage.width, self.hidden, len(stage.sites)))
                backbone.get_submodule(stage.blocks).register_forward_pre_hook(making.enter)
            for number, site in enumerate(stage.sites):
                keys = making[number] if making else self.put(model, site.attend, DirectPrefix(self.length, site.width))
                if isinstance(keys, ReparamPrefix):
                    backbone.get_submodule(site.block).register_forward_pre_hook(keys.enter)
                backbone.get_submodule(site.attend).register_forward_pre_hook(keys.before)

    @torch.no_grad()
    def fold(self, model: Headed, plain: Headed) -> None:
        """What the map makes, as parameters of a ``prefix`` without one."""
        if self.hidden is None:
            return super().fold(model, plain)
        direct = dataclasses.replace(self, hidden=None)
        direct.graft_into(plain)
        for stage in plain.backbone.anatomy.stages:
            making = self.mine(model, stage.blocks, PrefixMap)
            inside = making.inside()
            for number, site in enumerate(stage.sites):
                keys, values = making[number].of(inside)
                made = {"keys": keys.clone(), "values": values.clone(), "share": making[number].share.clone()}
                direct.mine(plain, site.attend, DirectPrefix).load_state_dict(made, assign=True)
        return None
