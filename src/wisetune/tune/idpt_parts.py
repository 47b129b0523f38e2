"""IDPT for part segmentation: a prompt for each level that the head reads."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import nn

from wisetune.nets.backbone import ForParts
from wisetune.nets.headed import Headed
from wisetune.nets.transformer import Context
from wisetune.nets.uncalled import Uncalled
from wisetune.tune._edges import condensed
from wisetune.tune._tokens import AttentionShare, ReadoutShare, joined, placed
from wisetune.tune.graft import WHOLE, Grafting
from wisetune.tune.tuning import Published


class LevelPrompt(nn.Module, Uncalled):
    """A prompt made of the patches' tokens by one map and their maximum, for one block. Behind it come the prompt as it was made and as it is now."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(width, width, 1, bias=False), nn.BatchNorm1d(width)
        self._made: torch.Tensor | None = None

    def forward(self, patches: Float[torch.Tensor, "b g d"]) -> Float[torch.Tensor, "b 1 d"]:
        """The prompt of each cloud."""
        return condensed(patches, self.conv, self.norm)

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """The map of each patch."""
        return inputs[0][..., 0].numel() * self.conv.weight.numel()

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into the block."""
        x, context, *rest = inputs
        self._made = self(x[:, context.leads : _own(context)])
        return joined(x, self._made), context, *rest

    def leave(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Out of it, for whoever reads there."""
        made, self._made = self._made, None
        assert made is not None
        return joined(output, made)

    def clear(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before the next block, which sees neither."""
        x, context, *rest = inputs
        return x[:, : _own(context)], context, *rest


class Place(nn.Module):
    """The position of all prompts of a stack of blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.position, std=0.02)

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into a block, with a prompt."""
        x, context, *rest = inputs
        return x, placed(context, self.position), *rest


def _own(context: Context) -> int:
    assert context.centres is not None
    return context.leads + context.centres.shape[1]


@dataclasses.dataclass(frozen=True)
class IDPTParts(Grafting):
    """A prompt for the last block of each level that a head of parts reads (Zha et al., ICCV 2023, as released for part segmentation).

    What makes it is one map and a maximum, no graph. It is dropped behind its block. The head sees the prompts, as made and as they come out of their
    blocks, in place of maximum and mean over patches; heads with another idea of a whole level, and classifiers, see what they would. In a pyramid each
    level has its own, with a position of its own. It begins changed: prompts take their part of every softmax.
    """

    name: ClassVar[str] = "idpt-parts"
    title: ClassVar[str] = "IDPT for parts"
    begins: ClassVar[Literal["unchanged", "changed"]] = "changed"
    lasting: ClassVar[str] = "its prompts are made of each cloud anew"
    of_parts: ClassVar[bool] = True

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """It has no sizes."""
        twice = "It steps its optimiser twice a batch, before gradients are cut and after."
        dead = "Of each prompt's module a BatchNorm is registered twice, and the second, 2,304 parameters in all, is never used."
        return {"shapenetpart": Published({}, "IDPT segmentation/models/prompt_pt3.py", (WHOLE, twice, dead))}

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """None of its options can be seen."""
        return {} if any(name.startswith("blocks.dgcnn_cls") for name in shapes) else None

    def released(self, name: str) -> tuple[str, ...]:
        """A module a block; the first name of a norm is that which is never used."""
        if name == "blocks.idptparts.position":
            return ("prompt_cls_pos",)
        found = re.fullmatch(r"blocks\.blocks\.(\d+)\.idptparts\.(conv|norm)\.(.*)", name)
        if found is None:
            return ()
        at = f"blocks.dgcnn_cls{found[1]}"
        return (f"{at}.conv5.0.{found[3]}",) if found[2] == "conv" else (f"{at}.bn5.{found[3]}", f"{at}.conv5.1.{found[3]}")

    def graft(self, model: Headed) -> None:
        """A prompt at each block behind which a level is read."""
        backbone, anatomy = model.backbone, model.backbone.anatomy
        for stage in anatomy.stages:
            place = self.put(model, stage.blocks, Place(stage.width))
            for number in dict.fromkeys(stage.read):
                site = stage.sites[number]
                prompt = self.put(model, site.block, LevelPrompt(stage.width))
                seen = self.put(model, site.attend, AttentionShare(1))
                block = backbone.get_submodule(site.block)
                block.register_forward_pre_hook(prompt.enter)
                block.register_forward_pre_hook(place.enter)
                block.register_forward_hook(prompt.leave)
                backbone.get_submodule(site.attend).register_forward_pre_hook(seen.before)
                for after in stage.sites[number + 1 : number + 2]:
                    backbone.get_submodule(after.block).register_forward_pre_hook(prompt.clear, prepend=True)
        for norm, stage in zip(reversed(anatomy.norms), reversed(anatomy.stages), strict=False):
            shown = self.put(model, norm, ReadoutShare())
            backbone.get_submodule(stage.blocks).register_forward_pre_hook(shown.look)
            backbone.get_submodule(norm).register_forward_hook(shown.after)
        backbone.for_parts = ForParts("extra", "_cls")
