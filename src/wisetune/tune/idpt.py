"""IDPT: a prompt that each cloud makes for itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Backbone
from wisetune.nets.headed import Headed
from wisetune.nets.readout import EXTRA, with_extra
from wisetune.nets.uncalled import Uncalled
from wisetune.spec import option
from wisetune.tune._edges import EdgeConv, condensed
from wisetune.tune._tokens import AttentionShare, ReadoutShare, joined, placed
from wisetune.tune.graft import WHOLE, Grafting
from wisetune.tune.tuning import Figures, Published


class DynamicPrompt(nn.Module, Uncalled):
    """Three edge convolutions over the patches' tokens, a map of all three, and the maximum over tokens (Zha et al., ICCV 2023, section 3.3)."""

    def __init__(self, width: int, neighbours: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(EdgeConv(width, neighbours) for _ in range(3))
        self.conv, self.norm = nn.Conv1d(3 * width, width, 1, bias=False), nn.BatchNorm1d(width)
        self.position = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Float[torch.Tensor, "b g d"]) -> Float[torch.Tensor, "b 1 d"]:
        """The prompt of each cloud."""
        found = []
        for edges in self.edges:
            x = edges(x)
            found.append(x)
        return condensed(torch.cat(found, dim=-1), self.conv, self.norm)

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """The map of all three."""
        return inputs[0][..., 0].numel() * self.conv.weight.numel()

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into the block before which the prompt is made."""
        x, context, *rest = inputs
        assert context.centres is not None
        patches = x[:, context.leads : context.leads + context.centres.shape[1]]
        return joined(x, self(patches)), placed(context, self.position), *rest

    def stay(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """In each block after it."""
        x, context, *rest = inputs
        return x, placed(context, self.position), *rest


_LEFT = "The prompt's position stays as it was drawn: the filter of names that says what trains misses it."
_TRICK = "This configuration differs from the others in this; its authors call it a trick to get the highest value (issue 4)."


@dataclasses.dataclass(frozen=True)
class IDPT(Grafting):
    """One prompt, made of the tokens that enter a late block, beside them from there on; the head sees it too.

    As published its position is left as it was drawn, since a filter of names misses it. In a pyramid it is made of the last level's tokens. It begins
    changed: the prompt takes its part of every softmax. With ``class-token=false`` nothing before its block changes, so that clouds that are the
    same in every epoch (``augment=none``) pass the blocks before it once.
    """

    name: ClassVar[str] = "idpt"
    title: ClassVar[str] = "IDPT"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(1.7, 84.94)
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"
    lasting: ClassVar[str] = "its prompt is made of each cloud anew"

    layer: int | None = option(None, least=0, means="the block that it enters first, counted from 0; none: the last")
    neighbours: int = option(20, least=1, most=1 << 10, means="of each token, in the space of tokens")
    readout: Literal["all", "prompt"] = option("all", means="a head sees what it would, and the prompt; or the prompt alone")

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Those of the released configurations; the last of their blocks is 11."""
        usual = {"layer": None, "neighbours": 20, "readout": "all"}
        file, differs = "IDPT cfgs/finetune_{}_idpt.yaml", (WHOLE, _LEFT)
        return {
            "scan-hardest": Published(usual, file.format("scan_hardest"), differs),
            "scan-objonly": Published({**usual, "layer": 6}, file.format("scan_objonly"), (*differs, f"layer=6: {_TRICK}")),
            "scan-objbg": Published({**usual, "readout": "prompt"}, file.format("scan_objbg"), (*differs, f"readout=prompt: {_TRICK}")),
            "modelnet40": Published(usual, file.format("modelnet"), differs),
            "few-shot": Published(usual, "IDPT cfgs/fewshot_idpt.yaml", differs),
        }

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """What the head sees; neither the block nor the neighbours can be seen in shapes."""
        edge = shapes.get("blocks.cls.conv1.0.weight", ())
        if len(edge) != 4:
            return None
        readout = {1: "prompt", 3: "all"}.get(cls.head_units(shapes, edge[0]) or 0)
        return {} if readout is None else {"readout": readout}

    def released(self, name: str) -> tuple[str, ...]:
        """Each BatchNorm stands twice in the released module: by itself, and in the convolution that it follows."""
        if name == "blocks.idpt.position":
            return ("prompt_pos",)
        found = re.fullmatch(r"blocks\.idpt\.(?:edges\.(\d)\.)?(conv|norm)\.(.*)", name)
        if found is None:
            return ()
        layer = 5 if found[1] is None else int(found[1]) + 1
        if found[2] == "conv":
            return (f"blocks.cls.conv{layer}.0.{found[3]}",)
        return f"blocks.cls.bn{layer}.{found[3]}", f"blocks.cls.conv{layer}.1.{found[3]}"

    def graft(self, model: Headed) -> None:
        """A prompt, and its way through the blocks after it."""
        if self.readout == "prompt":
            self.refuse_parts(model)
        backbone = model.backbone
        stage = backbone.anatomy.stages[-1]
        first = self._first(backbone)
        if first >= len(stage.sites):
            raise UsageError(
                f"'{self}' enters block {first}, and {backbone.spec.name} has blocks 0 to {len(stage.sites) - 1}. Give one of these."
            )
        prompt = self.put(model, stage.blocks, DynamicPrompt(stage.width, self.neighbours))
        for number, site in enumerate(stage.sites[first:]):
            seen = self.put(model, site.attend, AttentionShare(1))
            backbone.get_submodule(site.attend).register_forward_pre_hook(seen.before)
            backbone.get_submodule(site.block).register_forward_pre_hook(prompt.stay if number else prompt.enter)
        shown = self.put(model, backbone.anatomy.norms[-1], ReadoutShare())
        backbone.get_submodule(stage.blocks).register_forward_pre_hook(shown.look)
        backbone.get_submodule(backbone.anatomy.norms[-1]).register_forward_hook(shown.after)
        backbone.readout = EXTRA if self.readout == "prompt" else with_extra(backbone.readout)

    def first_site(self, backbone: Backbone) -> int:
        """The block that the prompt enters first."""
        return len(backbone.anatomy.sites) - len(backbone.anatomy.stages[-1].sites) + self._first(backbone)

    def _first(self, backbone: Backbone) -> int:
        """Its number in the last stage."""
        return len(backbone.anatomy.stages[-1].sites) - 1 if self.layer is None else self.layer

    def trains(self, name: str, backbone: Backbone) -> bool:
        """As published not the prompt's position."""
        left = self.reading == "as_published" and name.endswith(f".{self.slot}.position")
        return not left and super().trains(name, backbone)
