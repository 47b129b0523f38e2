"""What a tuning is: the modules that it grafts into a model, and which parameters train. Each is one file here."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Anatomy, Backbone, Grafted
from wisetune.nets.decay import decays
from wisetune.nets.grafts import parts
from wisetune.nets.headed import Headed
from wisetune.spec import Spec


@dataclasses.dataclass(frozen=True)
class Published:
    """A published setting of a tuning: its options, and the paper or configuration file that has them.

    ``differs`` says in what the released code departs from its paper there. ``reading=as_published`` does as the code, as far as it can.
    """

    options: Mapping[str, object]
    source: str
    differs: tuple[str, ...] = ()


class Found(NamedTuple):
    """What a tuning found of its grafts at the end of a training: in words, which go on after a model's name and a colon, and as numbers by name."""

    words: str
    facts: Mapping[str, float]


def in_common(presets: Mapping[str, Published]) -> list[str]:
    """In what the released code departs from its paper in each of these."""
    first = next(iter(presets.values()), Published({}, ""))
    return [differs for differs in first.differs if all(differs in one.differs for one in presets.values())]


DAPTS_TABLE = "Zhou et al., CVPR 2024 (DAPT)"
"""The source of the figures that are of one table."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was published of a tuning on ScanObjectNN's hardest part (PB_T50_RS), of the official Point-MAE: million values that train, accuracy in %.

    All released codes call the test part their validation part, so that an accuracy is that of the best epoch on it.
    """

    trainable: float | None
    accuracy: float
    source: str

    @classmethod
    def in_dapts_table(cls, trainable: float, accuracy: float) -> Figures:
        """Those of DAPT's table of methods, which were all trained alike."""
        return cls(trainable, accuracy, DAPTS_TABLE)


@dataclasses.dataclass(frozen=True)
class Tuning(Spec):
    """Base of every tuning; the fields of a subclass are its options."""

    title: ClassVar[str] = ""
    """What people call it; by itself its name."""

    of_parts: ClassVar[bool] = False
    """Whether it was made for part segmentation: among all ways to tune a classifier it is none."""

    figures: ClassVar[Figures | None] = None
    """What was published of it, where that is of the size that it has by itself."""

    @property
    def called(self) -> str:
        """What pages call it: the title, and options that are not at their defaults."""
        options = str(self).removeprefix(self.name).lstrip(":")
        return (self.title or self.name) + (f" ({options})" if options else "")

    def canonical(self) -> dict[str, Any]:
        """As any spec's, with the version from the second on."""
        return super().canonical() | ({"version": self.version} if self.version > 1 else {})

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Published settings by name; ``NAME:preset=...`` begins with one."""
        return {}

    @classmethod
    def sizes(cls, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object] | None:
        """The options that the shapes in a released state dict tell; None if this tuning grafted nothing into its model."""
        del shapes
        return None

    def released(self, name: str) -> tuple[str, ...]:
        """What one of the tensors that it grafts, by its name in the backbone, is called in released files; none for what these do not hold.

        A tensor may stand there more than once: the last name is the one whose values count, as where torch loads them in turn.
        """
        del name
        return ()

    @property
    def unlike_released(self) -> str:
        """What a released file of this tuning was trained with, where that is not what these options do; empty where it is."""
        return ""

    version: ClassVar[int] = 1
    """Raised where the same options come to train other weights, which then have another digest."""
    begins: ClassVar[Literal["unchanged", "changed"]] = "unchanged"
    """Whether what it grafts gives, before it is trained, the features of the backbone without it."""
    lasting: ClassVar[str] = ""
    """Why what it grafts is no change of weights, in words that go on after "cannot be folded:"."""

    looks_back: ClassVar[bool] = False
    """Whether a reader should know something of its grafts that shows once they are trained (``look_back``)."""

    def look_back(self, model: Headed, look: Callable[[], object]) -> Found:
        """What of its grafts in a trained model a reader should know. ``look`` shows it every training cloud once, not augmented, in eval mode."""
        raise NotImplementedError(f"{type(self).__name__} says that it looks back, and must define look_back")

    @property
    def folds(self) -> bool:
        """Whether what it grafts is a change of weights, which ``fold`` puts into them."""
        return type(self).fold is not Tuning.fold and not self.lasting

    def trains(self, name: str, backbone: Backbone) -> bool:
        """Whether the parameter of this name (``backbone.…`` or ``head.…``) trains, in a model of this backbone, with all that was grafted into it.

        It is asked by all that wants to know: the training, counts of values and memory, what is held near the start.
        """
        raise NotImplementedError(f"{type(self).__name__} must define trains")

    def beside(self, anatomy: Anatomy) -> tuple[str, ...]:
        """Of the backbone's own parameters, and parts of it, those that train beside what it grafted, by name: a class token, say."""
        del anatomy
        return ()

    def trained(self, model: Headed) -> dict[str, nn.Parameter]:
        """The parameters that train, by name; the model stays as it is.

        Those of the backbone beside its grafts come last: in this order gradients are summed where they are cut, and an optimiser's state is stored.
        """
        last = [f"backbone.{part}." for part in self.beside(model.backbone.anatomy)]
        place = {part: number for number, part in enumerate(last)}
        named = {name: value for name, value in model.named_parameters() if self.trains(name, model.backbone)}
        return dict(sorted(named.items(), key=lambda one: next((place[part] for part in last if f"{one[0]}.".startswith(part)), -1)))

    def freeze(self, model: Headed) -> dict[str, nn.Parameter]:
        """Let what trains have a gradient, and nothing else, in place; what trains, by name."""
        chosen = self.trained(model)
        for name, value in model.named_parameters():
            value.requires_grad_(name in chosen)
        return chosen

    @property
    def moves_features(self) -> bool:
        """Whether training changes what the head sees. Where it does not, features are computed once and the backbone stays in eval mode."""
        return True

    def graft(self, model: Headed) -> None:
        """Add modules to the backbone of a model, in place; by itself none.

        They become submodules of the backbone, so that its keys stay and theirs are new, and are called by hooks that are *bound methods* of a
        module in the model: models are deep-copied, and a closure would go on calling the module of the original. Initial values are torch's:
        whoever grafts seeds it. What is grafted is stored whole; of the rest what training changed. So all that it computes with follows
        from its options or is in the state dict. It also grafts into models on the meta device, whose tensors have no values, to look at what it
        adds. With drop path in training on the CPU ``attn`` and ``mlp`` see the kept rows of a batch alone: what a graft there adds to has fewer.
        With ``recompute`` a block, and what is called inside it, is computed twice a step: a hook there must leave nothing behind after the block.
        """

    def graft_into(self, model: Headed) -> None:
        """``graft``, noted in the backbone if anything changes: its file has to say it, and models that are mixed have to agree on it.

        Raises:
            UsageError: a graft in the place of something, as when it is grafted twice, into the head, with a tensor that is not stored, or called by
                a hook that a copy of the backbone would not have.
        """
        backbone = model.backbone
        there, attributes, calls, whole = parts(backbone), _attributes(backbone), _calls(model), parts(model)
        self.graft(model)
        strays = [name for name, part in parts(model).items() if whole.get(name) is not part and name.split(".")[0] != "backbone"]
        if strays:
            raise UsageError(
                f"'{self}' grafts '{strays[0]}' outside the backbone, and a head is no more than its spec says: no file would hold it. Graft into "
                "the backbone."
            )
        now, stored = parts(backbone), backbone.state_dict()
        attributes_now, calls_now = _attributes(backbone), _calls(model)
        gone = [name for name, part in there.items() if now.get(name) is not part]
        if gone:
            raise self.displaces(gone[0])
        added = tuple(name for name in now if name not in there)
        lost = [name for name in added if isinstance(now[name], Tensor) and name not in stored]
        if lost:
            raise UsageError(f"'{self}' grafts the buffer '{lost[0]}', which no file would hold. Register it with persistent=True.")
        loose = [name for name, value in attributes_now.items() if isinstance(value, Tensor) and attributes.get(name) is not value]
        if loose:
            raise UsageError(f"'{self}' grafts the tensor '{loose[0]}', which no file would hold. Make it a parameter or a buffer.")
        shared = [name for name in added if isinstance(now[name], Tensor) and sum(part is now[name] for part in now.values()) > 1]
        if shared:
            raise UsageError(
                f"'{self}' grafts '{shared[0]}' under another name too, which no file would tell. Register it once, and hook it often."
            )
        strange = [place for place, call in calls_now.items() if calls.get(place) is not call and not _copied(backbone, place, call)]
        if strange:
            raise UsageError(
                f"'{self}' grafts a call at '{strange[0]}' that a copy of the backbone would lack, or make to the original. What is called "
                "at a module of the backbone must be a method of a module of the backbone."
            )
        same = attributes_now.keys() == attributes.keys() and all(attributes_now[name] is value for name, value in attributes.items())
        if rival := _rival(calls, calls_now):
            raise UsageError(
                f"'{self}' {rival}, as '{backbone.grafts[-1].tuning if backbone.grafts else 'something'}' does that was grafted before, and neither "
                "could tell its own from the other's. Graft one of them."
            )
        if added or calls_now != calls or not same:
            backbone.grafts = (*backbone.grafts, Grafted(self.in_full(), added, self.folds))

    def displaces(self, name: str) -> UsageError:
        """What is said where a graft would stand in the place of something."""
        return UsageError(
            f"'{self}' grafts in the place of '{name}', which the backbone had before. Graft once, and under names of its own."
        )

    def fold(self, model: Headed, plain: Headed) -> None:
        """Put what it grafted into a model into the weights of another one, which has the first one's values and no grafts (``wisetune.fold``).

        Where nothing was grafted there is nothing to do. In eval mode both then give the same, up to rounding.

        Raises:
            UsageError: it is no change of weights, or of these weights it is none.
        """
        del plain
        if any(graft.tuning == self.in_full() for graft in model.backbone.grafts):
            raise UsageError(
                f"'{self}' cannot be folded: {self.lasting or 'it does not say what change of weights it is'}. Keep its grafts."
            )

    def first_site(self, backbone: Backbone) -> int:
        """The first block, counted over all levels, that what it grafts changes, or whose tokens it sees; 0 for all that is before the blocks too.

        Where nothing before it trains, and every epoch sees the same clouds, what enters this block is computed once.
        """
        del backbone
        return 0

    def term(self, model: Headed) -> Tensor | None:
        """What a training step adds to the loss of the task, of the forward pass in training mode that has just been; by itself nothing.

        It is called once after each such pass. With its weight in it already; the log has its mean over an epoch's clouds.
        """
        del model

    def decaying(self, model: Headed) -> set[str]:
        """Names of the parameters that have weight decay, of those that train; by itself the released codes' rule says it (``decays``)."""
        return {name for name, value in model.named_parameters() if decays(name, value)}

    def in_training(self, model: Headed) -> list[nn.Module]:
        """The modules that are in training mode while this tuning trains, with all that is in them: the others' dropout and BatchNorm rest.

        By itself the whole model, or the head alone where the features do not change.
        """
        return [model] if self.moves_features else [model.head]


def resting(tuning: Tuning, model: Headed) -> int:
    """How many of the first blocks, with all before them, give the same of a cloud at every step of a training by this tuning.

    Nothing there trains or is in training mode, and nothing is grafted there.
    """
    backbone, anatomy = model.backbone, model.backbone.anatomy
    first = tuning.first_site(backbone)
    if not first or [graft.tuning for graft in backbone.grafts] != [tuning.in_full()] or backbone.further:
        return 0
    (grafted,) = backbone.grafts
    behind = tuple(f"{place}." for place in (*(site.block for site in anatomy.sites[first:]), anatomy.norms[-1]))
    active = {id(part) for top in tuning.in_training(model) for part in top.modules()}
    moving = [name.removeprefix("backbone.") for name in tuning.trained(model) if name.startswith("backbone.")]
    moving += [name for name, part in backbone.named_modules() if id(part) in active]
    return first if all(name in grafted.names or f"{name}.".startswith(behind) for name in moving) else 0


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _calls(model: Headed) -> dict[str, object]:
    """What is called where a module of a model is, by place: hooks, and a ``forward`` in place of its class's."""
    found: dict[str, object] = {}
    for name, module in model.named_modules():
        found |= {f"{name}.{kind.strip('_')}[{key}]": hook for kind in _HOOKS for key, hook in getattr(module, kind).items()}
        found |= {f"{name}.forward": value for key, value in vars(module).items() if key == "forward"}
    return found


def _rival(before: dict[str, object], now: dict[str, object]) -> str:
    """What a new call and one that was there both do at one place, where only one may (``Graft.alone``); empty where there is no such thing."""
    taken = {(place.partition("[")[0], claim) for place, call in before.items() if (claim := _claim(call))}
    new = ((place.partition("[")[0], _claim(call)) for place, call in now.items() if before.get(place) is not call)
    return next((f"{claim} at {place.rpartition('.')[0]}" for place, claim in new if (place, claim) in taken), "")


def _claim(call: object) -> str:
    return getattr(call.__self__, "alone", "") if isinstance(call, types.MethodType) else ""


def _copied(backbone: Backbone, place: str, call: object) -> bool:
    """Whether a deep copy of the backbone has this call, as one of its own."""
    return place.startswith("backbone.") and isinstance(call, types.MethodType) and call.__self__ in set(backbone.modules())


def _attributes(backbone: Backbone) -> dict[str, object]:
    """What the modules of a backbone have beside their parts, by name."""
    return {f"{name}.{key}".lstrip("."): value for name, module in backbone.named_modules() for key, value in vars(module).items()}
