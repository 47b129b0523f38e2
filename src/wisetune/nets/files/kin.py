"""One family's encoder in another's model: which may stand in which, and what must be said of it.

The plain transformer is one architecture under several names, so a Point-MAE classifier can begin with what ReCon, ACT, Point-BERT or MaskPoint
pre-trained; published tables do so. It is done where it is asked for by ``family=`` and nowhere else: what such weights are then is not what
their file's name says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import cast

from wisetune.errors import UsageError
from wisetune.nets.backbone import Backbone, build_empty
from wisetune.nets.create import BACKBONES
from wisetune.nets.plain import Plain, PlainSpec
from wisetune.nets.transformer import Block
from wisetune.spec import dashed, spell


@dataclasses.dataclass(frozen=True)
class Kin:
    """A family whose encoder stands in another's model."""

    family: str
    lender: type[Plain]
    notes: tuple[str, ...]

    def leaves(self, name: str) -> bool:
        """Whether a part, as renamed, is the lender's own, and no model of the other family has a place for it."""
        tokens = tuple(f"{lead}_{part}" for lead in self.lender.leading for part in ("token", "pos"))
        return name.startswith((*self.lender.spare, *tokens)) or any(part in name for part in self.lender.aside)


def kin_of(backbone: Backbone, family: str) -> Kin | None:
    """How ``family``'s encoder stands in this backbone; None where it is this family's own.

    Raises:
        UsageError: there is no such family, or its encoder is another architecture.
    """
    entry, own = BACKBONES.entry(family), backbone.spec.name
    if family == own:
        return None
    if not (_takes(backbone) and issubclass(entry, PlainSpec)):
        raise UsageError(f"family={family} was given with a {own}: their encoders are different architectures. Load it into a {family}.")
    lender = cast(Plain, build_empty(entry()))
    notes = [f"this is the encoder of {family}; patches are cut as by a {own}, and the rest of its file is left out"]
    notes += [lender.lent] if lender.lent else []
    fresh = [name for name in backbone.anatomy.fresh if name in dict(lender.named_parameters())]
    if fresh:
        notes.append(
            f"{' and '.join(fresh)} are {family}'s, pre-trained; mixing takes them from the fine-tuned model all the same, as of every {own}"
            + (f"; load it into {' or '.join(others)} to have them mixed" if (others := _mixing(fresh)) else "")
        )
    return Kin(family, type(lender), tuple(notes))


def way(backbone: Backbone, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """How a file of another family could be loaded into this backbone, in a sentence; empty where it could not."""
    found = {name: sizes for name in BACKBONES.names() if (sizes := BACKBONES.entry(name).sizes(shapes)) is not None}
    spec = backbone.spec
    lenders = [name for name in found if issubclass(BACKBONES.entry(name), PlainSpec)]
    if spec.name in found or not lenders or not _takes(backbone):
        return ""
    # Released classifiers of some families cannot be told apart: which one a file is, is the user's to say, as results will name it.
    ways: dict[str, list[str]] = {}
    for family in lenders:
        needed = {option: value for option, value in found[family].items() if getattr(spec, option, value) != value}
        given = f" of {', '.join(f'{dashed(option)}={spell(value)}' for option, value in needed.items())}" if needed else ""
        ways.setdefault(given, []).append(f"'{family}'")
    which = ", whichever it is" if len(lenders) > 1 else ""
    return "".join(
        f" A {spec.name}{given} takes its encoder where that is asked for: family={' or '.join(names)}{which}."
        for given, names in ways.items()
    )


def _mixing(names: Sequence[str]) -> list[str]:
    """The plain families that have these parameters with a pre-trained value, so that a mix mixes them."""
    found: list[str] = []
    for family in BACKBONES.names():
        if issubclass(entry := BACKBONES.entry(family), PlainSpec) and _takes(backbone := build_empty(entry())):
            own = dict(backbone.named_parameters())
            found += [family] if all(name in own and name not in backbone.anatomy.fresh for name in names) else []
    return found


def _takes(backbone: Backbone) -> bool:
    return isinstance(backbone, Plain) and backbone.block is Block
