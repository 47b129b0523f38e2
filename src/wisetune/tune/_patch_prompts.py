"""Prompts that have a place: tokens of further patches of the cloud, beside those of a backbone's own. PPT and PointLoRA share them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Anatomy, Backbone, FurtherPatches, Stage
from wisetune.nets.headed import Headed
from wisetune.nets.transformer import Context, PatchTokens
from wisetune.spec import option
from wisetune.tune._bottleneck import Bottleneck
from wisetune.tune._tokens import AttentionShare
from wisetune.tune.graft import Grafting


def small(width: int, rank: int, outside: int | None = None) -> Bottleneck:
    """A bottleneck with GELU that begins as these methods begin it: small, and not at nothing."""
    made = Bottleneck(width, rank, F.gelu, outside=outside)
    for linear in (made.down, made.up):
        nn.init.trunc_normal_(linear.weight, std=0.02)
    return made


class PatchPrompts(nn.Module):
    """Prompts behind the patches of one stack of blocks, and a bottleneck for either, which all its blocks share."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.patches, self.prompts = small(width, rank), small(width, rank)

    def prompt(self, own: PatchTokens, further: tuple[PatchTokens, ...]) -> PatchTokens:
        """The prompts of clouds, of their own patches and the further ones that there are."""
        raise NotImplementedError(f"{type(self).__name__} must define prompt")

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into all blocks, each prompt with its place."""
        x, context, *rest = inputs
        assert context.centres is not None
        assert context.position is not None
        first, behind = context.leads, context.leads + context.centres.shape[1]
        prompts = self.prompt(PatchTokens(x[:, first:behind], context.position[:, first:behind], context.centres), context.further)
        return torch.cat([x, prompts.tokens], dim=1), _beside(context, prompts), *rest

    def adapt(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into one block: what either bottleneck makes of a token and its position is added to both."""
        x, context, *rest = inputs
        assert context.centres is not None
        x = context.placed(x)
        lead, patches, prompts = x.tensor_split((context.leads, context.leads + context.centres.shape[1]), dim=1)
        x = torch.cat([lead, patches + self.patches(patches), prompts + self.prompts(prompts)], dim=1)
        return x, context._replace(position=None), *rest


def _beside(context: Context, prompts: PatchTokens) -> Context:
    """What is around patches and prompts. Where patches attend to those near them alone, prompts do too."""
    position, centres, near = context.position, context.centres, context.near
    assert position is not None
    assert centres is not None
    if near is not None and context.reach is not None:
        across = torch.cdist(centres, prompts.centres) < context.reach
        among = torch.cdist(prompts.centres, prompts.centres) < context.reach
        near = torch.cat([torch.cat([near, across], dim=2), torch.cat([across.transpose(1, 2), among], dim=2)], dim=1)
    return context._replace(position=torch.cat([position, prompts.position], dim=1), near=near)


class ReadoutShare(AttentionShare):
    """At the last norm: how much of prompts a readout sees that takes their mean, or their maximum with the patches'."""

    def __init__(self, count: int, leads: int) -> None:
        super().__init__(count)
        self.leads = leads

    def faded(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        """Of normed tokens, for a mean over prompts: at share 0 it is 0."""
        if not self.partly:
            return None
        own, prompts = output.tensor_split((output.shape[1] - self.count,), dim=1)
        return torch.cat([own, prompts * self.share], dim=1)

    def lowered(self, _module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
        """The same for a maximum over patches and prompts: at share 0 it is the patches', between 0 and 1 on the line from there."""
        if not self.partly:
            return None
        own, prompts = output.tensor_split((output.shape[1] - self.count,), dim=1)
        peak = own[:, self.leads :].amax(dim=1, keepdim=True)
        return torch.cat([own, torch.lerp(peak.expand_as(prompts), prompts, self.share)], dim=1)


@dataclasses.dataclass(frozen=True)
class PatchPromptTuning(Grafting):
    """Base of tunings with such prompts. The map of positions and the first half of the tokenizer train too, by values of their own: no graft is there.

    At share 0 what is left of the tuning are these; they are mixed as weights are. As intended the tokenizer's BatchNorm goes by its statistics. As
    published it goes by the batch, and the bias before it has no gradient.
    """

    position: bool = option(True, means="whether the map of positions trains too")
    tokenizer: bool = option(True, means="whether the first half of the tokenizer trains too")

    def beside(self, anatomy: Anatomy) -> tuple[str, ...]:
        """These too."""
        stages = ([stage.position] * self.position + [f"{stage.tokenizer}.first_conv"] * self.tokenizer for stage in anatomy.stages)
        return (*super().beside(anatomy), *itertools.chain.from_iterable(stages))

    def refuse_ragged(self, backbone: Backbone) -> None:
        """Raise where nobody knows how many prompts there are."""
        if backbone.ragged:
            raise UsageError(
                f"'{self}' puts prompts behind patches, and how many patches '{backbone.spec}' has depends on the batch. Take its "
                "reading=as_intended."
            )

    def cut(self, backbone: Backbone, stage: int, groups: int, size: int) -> int:
        """Have clouds cut into these patches too; which one of its stage's it is."""
        below = backbone.anatomy.stages[stage - 1].groups if stage else backbone.points
        if max(groups, size) > below:
            raise UsageError(
                f"'{self}' cuts a cloud into {groups} patches of {size}, and '{backbone.spec}' has {below} points or patches to make them of. "
                "Give fewer."
            )
        number = sum(one.stage == stage for one in backbone.further)
        backbone.further = (*backbone.further, FurtherPatches(stage, groups, size))
        return number

    def place(self, model: Headed, stage: Stage, prompts: PatchPrompts, count: int) -> None:
        """Graft them at one stack of blocks."""
        backbone = model.backbone
        self.put(model, stage.blocks, prompts)
        backbone.get_submodule(stage.blocks).register_forward_pre_hook(prompts.enter)
        for site in stage.sites:
            seen = self.put(model, site.attend, AttentionShare(count))
            backbone.get_submodule(site.attend).register_forward_pre_hook(seen.before)
            backbone.get_submodule(site.block).register_forward_pre_hook(prompts.adapt)
