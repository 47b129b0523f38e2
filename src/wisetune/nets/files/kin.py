"""One family's encoder in another's model: which may stand in which, and what must be said of it.

The plain transformer is one architecture under several names, so a Point-MAE classifier can begin with what ReCon, ACT, Point-BERT or MaskPoint
pre-trained; published tables do so. It is done where it is asked for by ``family=`` and nowhere else: what such weights are then is not what
their file's name says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from wisetune.errors import UsageError, an, spelled
from wisetune.nets.backbone import Backbone, BackboneSpec, build_empty
from wisetune.nets.create import BACKBONES
from wisetune.nets.files.identify import Looks, in_words
from wisetune.nets.plain import Plain, PlainSpec
from wisetune.nets.transformer import Block


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
        raise UsageError(
            f"{spelled('family', family)} was given with {an(own)}: their encoders are different architectures. Load it into {an(family)}."
        )
    lender = cast(Plain, build_empty(entry()))
    notes = [f"this is the encoder of {family}; patches are cut as by {an(own)}, and the rest of its file is left out"]
    notes += [lender.lent] if lender.lent else []
    fresh = [name for name in backbone.anatomy.fresh if name in dict(lender.named_parameters())]
    if fresh:
        notes.append(
            f"{' and '.join(fresh)} are {family}'s, pre-trained; mixing takes them from the fine-tuned model all the same, as of every {own}"
            + (f"; load it into {' or '.join(others)} to have them mixed" if (others := _mixing(fresh)) else "")
        )
    return Kin(family, type(lender), tuple(notes))


def way(backbone: Backbone, looks: Looks, fits: Callable[[Backbone, str], bool]) -> str:
    """How a file of another family could be loaded into this backbone, in a sentence; empty where it could not.

    ``fits`` says whether a backbone takes the file's encoder as that of a family.
    """
    spec = backbone.spec
    lenders = [name for name in looks.families if issubclass(BACKBONES.entry(name), PlainSpec)]
    if looks.front or spec.name in looks.families or not lenders or not _takes(backbone):
        return ""
    # Released classifiers of some families cannot be told apart: which one a file is, is the user's to say, as results will name it.
    ways: dict[str, list[str]] = {}
    for family in lenders:
        sizes = {**looks.families[family], "token_width": looks.families[family].get("token_width")}
        needed = {option: value for option, value in sizes.items() if getattr(spec, option, value) != value}
        # As it is; then with other sizes; then without a class token, or with one, which is rarely in the way.
        sizes_alone = {option: value for option, value in needed.items() if option != "class_token"}
        for options in (dict[str, object](), sizes_alone, needed):
            if (other := _with(spec, options)) is not None and fits(backbone if other == spec else build_empty(other), family):
                ways.setdefault(f" of {in_words(options)}" if options else "", []).append(spelled("family", family))
                break
    which = ", whichever it is" if len(lenders) > 1 else ""
    own = an(spec.name)
    return "".join(
        f" {own[0].upper()}{own[1:]}{given} takes its encoder where that is asked for: {' or '.join(names)}{which}."
        for given, names in ways.items()
    )


def _with(spec: BackboneSpec, options: Mapping[str, object]) -> BackboneSpec | None:
    try:
        return dataclasses.replace(spec, **dict(options))
    except UsageError:  # its heads do not divide that width
        return None


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
