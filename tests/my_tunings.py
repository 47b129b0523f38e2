"""Tunings that graft, stories and models of them, as somebody else would write them outside wisetune."""

from __future__ import annotations

import builtins
import dataclasses

import torch
from torch import nn

import pico
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.recipe import Mix
from wisetune.results import Variant
from wisetune.spec import option
from wisetune.stories.story import Story, fine_tuning, linear_probing
from wisetune.tune.full import Full
from wisetune.weights.wise import Wise


class Bottleneck(nn.Module):
    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up, self.drop = nn.Linear(width, rank), nn.Linear(rank, width), nn.Dropout(0.5)

    def after(self, _module, _inputs, output):
        return output + self.up(self.drop(torch.relu(self.down(output))))


@dataclasses.dataclass(frozen=True)
class Adapter(Full):
    rank: int = 2

    def trains(self, name, _backbone):
        return name.startswith("head.") or ".adapter." in name

    def graft(self, model):
        for site in model.backbone.anatomy.sites if self.rank else ():
            block = model.backbone.get_submodule(site.block)
            block.adapter = Bottleneck(site.width, self.rank)
            block.register_forward_hook(block.adapter.after)

    def in_training(self, model):
        return [model.head, *(module for module in model.backbone.modules() if isinstance(module, Bottleneck))]


@dataclasses.dataclass(frozen=True)
class Inside(Full):
    """Bottlenecks on the residual branches, where drop path leaves rows out; everything trains."""

    def graft(self, model):
        for site in model.backbone.anatomy.sites:
            for name in (site.attn, site.mlp):
                part = model.backbone.get_submodule(name)
                part.adapter = Bottleneck(site.width, 2)
                part.register_forward_hook(part.adapter.after)


class Factor(nn.Module):
    """It has no parameter: nothing in a state dict tells of it."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def after(self, _module, _inputs, output):
        return self.by * output


@dataclasses.dataclass(frozen=True)
class Scaled(Full):
    by: float = option(0.5, absent=1.0)

    def graft(self, model):
        norm = model.backbone.norm
        norm.factor = Factor(self.by)
        norm.register_forward_hook(norm.factor.after)


@dataclasses.dataclass(frozen=True)
class ScaledProbe(Scaled):
    """Only the head trains, on features that are those of no other recipe."""

    def trains(self, name, _backbone):
        return name.startswith("head.")

    @property
    def moves_features(self):
        return False


@dataclasses.dataclass(frozen=True)
class Forgetful(Full):
    def graft(self, model):
        model.backbone.norm.register_buffer("table", torch.ones(2), persistent=False)


@dataclasses.dataclass(frozen=True)
class Loose(Full):
    """A tensor that is in no state dict."""

    def graft(self, model):
        model.backbone.norm.factor = Factor(torch.ones(2))


@dataclasses.dataclass(frozen=True)
class Broken(Full):
    """Its option raises whatever it likes."""

    kind: str = "ValueError"

    def graft(self, _model):
        raise getattr(builtins, self.kind)("out of order\nat large")


@dataclasses.dataclass(frozen=True)
class Reading(Full):
    """It looks at the weights that it is grafted beside, by one of the ways in which torch refuses that on a model without values."""

    way: str = "item"

    def graft(self, model):
        weight = model.backbone.norm.weight
        model.backbone.norm.factor = Factor(weight.sum().item() if self.way == "item" else float(weight.detach().numpy().sum()))


class Peek(nn.Module):
    def after(self, _module, _inputs, output):
        return output if output.sum().item() else -output


@dataclasses.dataclass(frozen=True)
class Peeking(Full):
    """What it does follows from values that it looks at while it runs."""

    def graft(self, model):
        norm = model.backbone.norm
        norm.peek = Peek()
        norm.register_forward_hook(norm.peek.after)


def adapted(setting):
    return dataclasses.replace(fine_tuning(setting), tuning=Adapter())


@dataclasses.dataclass(frozen=True)
class Adapting(Story):
    """Adapters beside linear probing and full fine-tuning."""

    def recipes(self, setting):
        return {Variant("lp"): linear_probing(setting), Variant("ft"): fine_tuning(setting), Variant(self.name): adapted(setting)}


@dataclasses.dataclass(frozen=True)
class Sweeping(Adapting):
    """The line from the start to adapters, on which these have no value."""

    def recipes(self, setting):
        return {**super().recipes(setting), Variant(self.name): Mix((setting.start, adapted(setting)), Wise(0.5))}


def tuned(*tunings, seed=0, spec=pico.SPEC) -> Model:
    """A model of these tunings in turn; each value is as if training had moved it."""
    model = Model(pico.backbone(spec, seed), LinearHead().build(32, 3), LinearHead(), ("a", "b", "c"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for tuning in tunings:
            tuning.graft_into(model)
        for value in model.parameters():
            value.data += 0.01 * torch.randn_like(value)
    return model.eval()
