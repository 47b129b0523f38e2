"""What the tunings share that put small modules into a frozen backbone: what trains, what rests, and how much of a graft counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, TypeVar

import torch
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Anatomy, Backbone
from wisetune.nets.decay import decays
from wisetune.nets.headed import Headed
from wisetune.nets.parts import PartsHead
from wisetune.spec import option
from wisetune.tune.tuning import Tuning

Reading = Literal["as_intended", "as_published"]
WHOLE = (
    "The whole model is in training mode: the frozen tokenizer's BatchNorm goes by the batch and its statistics drift, and drop path leaves frozen "
    "blocks out."
)
"""What the released codes of prompts and adapters have in common; of a setting of theirs."""
BY_FIGURE = "Its code was not released: these are sizes that give the published number of parameters."
"""Of a method in DAPT's table for which its repository has no code."""
DAPT_TABLE = "dapt-table"
"""What such a setting is called."""
M = TypeVar("M", bound=nn.Module)


class Graft(nn.Module):
    """Base of what is grafted. ``share`` of what it does counts: 1 as it was trained, 0 as if it was not there.

    Between these it is what WiSE-FT is to whole weights. Where a graft is a change of weights (low rank, scale and shift) it is exactly the line
    between those of the start and the tuned ones; where it is not (adapters, prompts) it is that part of what the graft adds. It tells of one tuned
    model and its start: of two that are tuned so a mean, tensor by tensor, is nothing (``Mix.fold``).
    """

    alone: ClassVar[str] = ""
    """What it does that at one place only one tuning may do, in words that go on after a tuning's name: each would take the other's for its own."""
    share: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.ones(()))
        self._known: tuple[torch.Tensor, int, bool] | None = None

    @property
    def partly(self) -> bool:
        """Whether what a share of 1 needs nothing of must be computed: as it is not 1, or as nobody can tell here.

        Any other device than the CPU makes the caller wait for its answer, so there it is asked once of each value.
        """
        share = self.share
        if share.is_meta:
            return False
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or share.requires_grad:
            return True
        if share.device.type == "cpu" or share.is_inference():
            return bool(share != 1)
        if self._known is None or self._known[0] is not share or self._known[1] != share._version:
            self._known = share, share._version, bool(share != 1)
        return self._known[2]


@dataclasses.dataclass(frozen=True)
class Grafting(Tuning):
    """Base of tunings of a frozen backbone: what is grafted trains, with the head and, if wanted, the class token.

    Grafts stand under a name of their own (``slot``). As published the whole model is in training mode: the frozen
    tokenizer's BatchNorm goes by the batch and its statistics drift, and frozen blocks are left out by drop path.
    """

    class_token: bool = option(True, means="whether a class token and its position train too, as the published name filters have it")
    reading: Reading = option("as_intended", means="what is frozen rests, or as published is in training mode as a whole")

    @property
    def slot(self) -> str:
        """The attribute under which its modules stand, in whatever they are grafted into: its class's name."""
        return type(self).__name__.lower()

    @staticmethod
    def head_units(shapes: Mapping[str, tuple[int, ...]], width: int) -> int | None:
        """How many times a token's width a plain classifier's head sees, by the shapes of a released state dict."""
        seen = shapes.get("cls_head_finetune.0.weight", ())
        return seen[1] // width if len(seen) == 2 else None

    def put(self, model: Headed, place: str, graft: M) -> M:
        """``graft`` at a part of the backbone, under the slot, for whoever hooks it.

        Raises:
            UsageError: there is something of that name.
        """
        part = model.backbone.get_submodule(place)
        if hasattr(part, self.slot):
            raise self.displaces(f"{place}.{self.slot}")
        part.add_module(self.slot, graft)
        return graft

    def mine(self, model: Headed, place: str, kind: type[M]) -> M:
        """What it put there."""
        graft = model.backbone.get_submodule(place).get_submodule(self.slot)
        assert isinstance(graft, kind)
        return graft

    def refuse_wide(self, rank: int, width: int, place: str) -> None:
        """Raise where a bottleneck would be none."""
        if rank > width:
            raise UsageError(
                f"'{self}' has rank={rank}, and {place} is {width} wide: a bottleneck wider than what it stands beside is none. Give a rank of at "
                f"most {width}."
            )

    def refuse_parts(self, model: Headed) -> None:
        """Raise where a head is to read nothing but what was grafted, and answers for every point."""
        if isinstance(model.head_spec, PartsHead):
            raise UsageError(
                f"'{self}' lets a head see prompts alone, and this model answers for every point, from the tokens of patches. Leave readout out."
            )

    def grafted(self, backbone: Backbone) -> frozenset[str]:
        """The names of what it grafted into a backbone, modules and values, as noted there: whatever they are called."""
        return frozenset(name for graft in backbone.grafts if graft.tuning == self.in_full() for name in graft.names)

    def beside(self, anatomy: Anatomy) -> tuple[str, ...]:
        """The class token and its position, if wanted."""
        return anatomy.class_token if self.class_token else ()

    def trains(self, name: str, backbone: Backbone) -> bool:
        """What it grafted, what trains beside that, and the head."""
        own = name.removeprefix("backbone.")
        return name.startswith("head.") or within(own, self.beside(backbone.anatomy)) or own in self.grafted(backbone)

    def decaying(self, model: Headed) -> set[str]:
        """Of a graft all but one-dimensional ones and biases, whatever they are called here; as published by the names of released files too."""
        noted = {f"backbone.{name}" for name in self.grafted(model.backbone)}
        grafted = {name: value for name, value in model.named_parameters() if name in noted}
        return (super().decaying(model) - grafted.keys()) | {name for name, value in grafted.items() if self._decays(name, value)}

    def _decays(self, name: str, value: nn.Parameter) -> bool:
        theirs = self.released(name.removeprefix("backbone.")) if self.reading == "as_published" else ()
        return decays(theirs[-1], value) if theirs else value.ndim > 1 and not name.endswith(".bias")

    def in_training(self, model: Headed) -> list[nn.Module]:
        """The grafts and the head; as published everything."""
        if self.reading == "as_published":
            return [model]
        mine = self.grafted(model.backbone)
        tops = (module for name, module in model.backbone.named_modules() if name in mine and name.rpartition(".")[0] not in mine)
        return [*tops, model.head]


def within(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a name is one of these, or of something in one of them."""
    return f"{name}.".startswith(tuple(f"{part}." for part in parts))
