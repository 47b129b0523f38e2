"""Backbones and models by name, with fresh weights that are a pure function of a seed.

create("point-mae", preset="modelnet-1k", reading="as_published")
create("point-mae", preset="mini", classes=["bolt", "nut", "washer"], head="linear", seed=3)
create("point-mae", classes=10, width=192, heads=3, depth=6)
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from wisetune.catalog import Catalog
from wisetune.errors import UsageError, did_you_mean
from wisetune.nets.backbone import Backbone, BackboneSpec, Masking, Preset, empty_as
from wisetune.nets.categories import Categories, part_names
from wisetune.nets.heads import HEADS, Head, parse_head
from wisetune.nets.model import Model
from wisetune.nets.official_fits import Reading
from wisetune.nets.parts import Parts, PartsHead, PyramidParts
from wisetune.nets.parts_graph import GraphParts
from wisetune.nets.segmenter import Segmenter
from wisetune.runtime import drawing

BACKBONES: Catalog[BackboneSpec] = Catalog("backbone", "wisetune.nets.families", BackboneSpec)
"""The catalog of backbones: each module of ``families`` is one entry."""

PARTS_HEADS: dict[str, type[PartsHead]] = {cls.name: cls for cls in (Parts, PyramidParts, GraphParts)}
_DEFAULT_HEAD = "mlp3"
_MOST_CLASSES = 1_000_000
LISTED = "wisetune options backbone lists them all, and wisetune options recon the presets of one."
_OCCO = (
    "there is no backbone 'occo': code and weights of the Transformer-OcCo in published tables were never released (Point-BERT's issue 43), so "
    "its rows can be quoted and not loaded. The same architecture with released weights is act, maskpoint, point-bert or point-mae."
)


def create(
    name: str,
    *,
    preset: str | None = None,
    classes: int | Sequence[str] | Categories | None = None,
    head: str | None = None,
    reading: Reading | None = None,
    seed: int = 0,
    **options: object,
) -> Model | Segmenter:
    """A model with fresh weights, in eval mode: ``model(points)`` gives logits, ``model.features(points)`` what the head sees.

    Without ``classes``, where the preset knows none, it has no head and gives features alone. ``wisetune.create`` is this, with ``tuning=``.

    Args:
        name: a backbone, or its spec (``point-mae:width=192,heads=3``).
        preset: a published setting of the backbone; its sizes are the defaults of ``options``.
        classes: how many, or their names; a preset for one data set knows its own. Of part segmentation the parts, best as a table of
            categories with the names of each one's parts: ``{"chair": ["seat", "leg"], "table": ["top", "leg"]}``.
        head: one of ``HEADS`` (``linear``, ``mlp1``, ``mlp2``, ``mlp3``), with options if wanted
            (``mlp3:dropout=0.1``); by default the preset's, else ``mlp3``. With a head of part
            segmentation (``preset="shapenetpart"``) it is a ``Segmenter``, and classes are the parts.
        reading: ``as_intended`` (default), or ``as_published`` where the released code differs from the paper.
        seed: fresh weights are a pure function of it, and torch's own random state stays as it is.
        options: the backbone's options.

    Raises:
        UsageError: a name, preset, head or option that does not exist or does not fit; the message lists what there is.
    """
    wanted = planned(name, preset, classes, head, reading, options)
    return headed(fresh_backbone(wanted.backbone, seed), wanted.head, wanted.classes, seed).eval()


class Planned(NamedTuple):
    """What a model is made of; without a head it gives features alone."""

    backbone: BackboneSpec
    head: Head | PartsHead | None
    classes: Sequence[str] | Categories


def planned(
    name: str,
    preset: str | None,
    classes: int | Sequence[str] | Categories | None,
    head: str | None,
    reading: Reading | None,
    options: Mapping[str, object],
) -> Planned:
    """What ``create`` makes of these; errors as there."""
    for option, word in (("name", name), ("preset", preset), ("head", head)):
        if not isinstance(word, str) and (word is not None or option == "name"):
            raise UsageError(
                f"create was given {option}={word!r}; it takes a word, such as wisetune.create('point-mae', preset='mini', head='linear', classes=4)."
            )
    spec, chosen = _architecture(name, preset)
    spec = with_options(spec, options if reading is None else {**options, "reading": reading})
    if classes is None and chosen is not None:
        classes = chosen.classes
    if classes is None and head is None:
        return Planned(spec, None, ())
    names = class_names(classes)
    return Planned(
        spec, parse_any_head(head or (chosen.head if chosen else _DEFAULT_HEAD)), classes if isinstance(classes, Mapping) else names
    )


def headed(backbone: Backbone, head: Head | PartsHead | None, classes: Sequence[str] | Categories, seed: int) -> Model | Segmenter:
    """A model of a backbone as it is and a head whose weights are a pure function of the seed, or without one; errors as ``assemble``.

    Of a backbone without values it has none either.
    """
    if head is None:
        return Model(backbone, nn.Identity())
    with drawing(seed, "head"), empty_as(backbone):
        return assemble(backbone, head, classes)


def assemble(backbone: Backbone, head: Head | PartsHead, classes: Sequence[str] | Categories) -> Model | Segmenter:
    """The model of a backbone and a head with fresh weights, drawn from torch's default generator: a ``Segmenter`` where the head is of parts.

    Raises:
        UsageError: a head that cannot read this backbone, or is not of what ``classes`` name.
    """
    names = class_names(classes)
    if isinstance(head, PartsHead):
        return Segmenter(backbone, head.build(backbone, len(names)), head, classes)
    if isinstance(classes, Mapping):
        raise UsageError(
            f"classes name the parts of {len(classes)} categories, and '{head}' is a head of classes. Give classes= as a number or a list, or "
            f"a head of parts: {', '.join(PARTS_HEADS)}."
        )
    return Model(backbone, head.build(backbone.feature_width, len(names)), head, names)


def parse_any_head(text: str, *, filed: bool = False) -> Head | PartsHead:
    """A head from its spelling, of classification or of part segmentation; the rest as ``parse_head``."""
    name, _, options = text.partition(":")
    if name in PARTS_HEADS:
        return PARTS_HEADS[name].from_options(options, filed=filed)
    if name not in HEADS:
        raise UsageError(f"there is no head '{name}'. There are: {', '.join([*HEADS, *PARTS_HEADS])}.")
    return parse_head(text, filed=filed)


def parse_backbone(text: str) -> BackboneSpec:
    """A backbone's spec from its spelling: ``point-mae:width=192,heads=3``, or backbone and preset in one word: ``point-mae-mini``.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    if (known := preset_called(text)) is not None:
        return known.backbone
    name, _, options = text.partition(":")
    if name in BACKBONES.names() and (preset := re.search(r"(?:^|,)preset=([^,]*)", options)):
        word = f"{name}-{preset[1]}"
        hint = "" if preset_called(word) else meant_backbone(word)
        raise UsageError(f"'{name}' has no option 'preset': a preset is named in one word, '{word}', without options.{hint}")
    if ":" in text or text in BACKBONES.names():
        return BACKBONES.parse(text)
    _refuse_unreleased(text)
    raise UsageError(f"there is no backbone '{text}'.{meant_backbone(text)} {LISTED}")


def meant_backbone(word: str) -> str:
    """Which backbone, or preset of one, was meant by a word that is none, as ``did_you_mean`` asks it."""
    return did_you_mean(word, [*BACKBONES.names(), *named()])


def named(family: str | None = None) -> dict[str, Preset]:
    """Every preset of every backbone, or of this one, by one word: ``point-mae-mini``."""
    families = BACKBONES.names() if family is None else [family]
    return {f"{name}-{preset}": value for name in families for preset, value in BACKBONES.entry(name).presets().items()}


def pretrainable() -> dict[str, Masking]:
    """The backbones that wisetune can pre-train, and how."""
    found = {name: BACKBONES.entry(name).masking for name in BACKBONES.names()}
    return {name: masking for name, masking in found.items() if masking is not None}


def masking_of(kind: type[BackboneSpec]) -> Masking:
    """How backbones of this family are pre-trained.

    Raises:
        UsageError: wisetune cannot pre-train them; the message lists those that it can.
    """
    if kind.masking is None:
        raise UsageError(f"'{kind.name}' cannot be pre-trained by wisetune. These can: {', '.join(pretrainable())}.")
    return kind.masking


def preset_called(word: str) -> Preset | None:
    """The preset of that one word (``point-mae-mini``), if there is one. Only backbones whose names it begins with are imported."""
    for name in BACKBONES.names():
        if word.startswith(f"{name}-") and (found := BACKBONES.entry(name).presets().get(word.removeprefix(f"{name}-"))) is not None:
            return found
    return None


def with_options(spec: BackboneSpec, options: Mapping[str, object]) -> BackboneSpec:
    """The spec with these options in place of its own.

    Raises:
        UsageError: an option that it does not have, or a value that does not fit.
    """
    known = [field.name for field in dataclasses.fields(spec)]
    for option in options:
        if option not in known:
            raise UsageError(f"'{spec.name}' has no option '{option}'.{did_you_mean(option, known)} Options: {', '.join(known)}.")
    return dataclasses.replace(spec, **{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})


def fresh_backbone(spec: BackboneSpec, seed: int) -> Backbone:
    """A backbone whose weights are a pure function of spec and seed, in training mode."""
    with drawing(seed, "backbone"):
        return spec.build()


def fresh_head(head: Head, backbone: Backbone, classes: int, seed: int) -> nn.Module:
    """A head for this backbone whose weights are a pure function of its sizes and seed, whatever the backbone's weights are."""
    with drawing(seed, "head"):
        return head.build(backbone.feature_width, classes)


def class_names(classes: int | Sequence[str] | Categories | None) -> tuple[str, ...]:
    """Names of classes; a count gives ``0``, ``1`` and so on, a table of categories the names of their parts.

    Raises:
        UsageError: none, or the same name twice.
    """
    if isinstance(classes, Mapping):
        if not classes or not all(
            isinstance(name, str) and name and not isinstance(parts, int) and class_names(parts) for name, parts in classes.items()
        ):
            raise UsageError(f"classes={dict(classes)!r}; a table of categories has of each, by name, the names of its parts.")
        return class_names(part_names(classes))
    if classes is None:
        raise UsageError(
            "a model with a head needs classes=: how many, or their names. (Presets for one data set know theirs. For features alone leave head= "
            "out too.)"
        )
    if isinstance(classes, int):
        if isinstance(classes, bool) or not 1 <= classes <= _MOST_CLASSES:
            raise UsageError(f"classes={classes}; it must be a whole number from 1 to {_MOST_CLASSES}, or a list of names.")
        return tuple(map(str, range(classes)))
    named = isinstance(classes, Sequence) and not isinstance(classes, str) and len(classes) > 0
    if not named or not all(isinstance(name, str) and name for name in classes):
        raise UsageError(f"classes={classes!r}; it must be a number or a list of names that are not empty.")
    twice, count = Counter(classes).most_common(1)[0]
    if count > 1:
        raise UsageError(f"classes name '{twice}' more than once; each class needs its own name.")
    return tuple(classes)


def _refuse_unreleased(name: str) -> None:
    if name.partition("-")[0] == "occo":
        raise UsageError(_OCCO)


def _architecture(name: str, preset: str | None) -> tuple[BackboneSpec, Preset | None]:
    if preset is None:
        chosen = preset_called(name)
        return parse_backbone(name), chosen
    _refuse_unreleased(name)
    if preset_called(name) is not None:
        family = next(family for family in BACKBONES.names() if name in named(family))
        raise UsageError(f"'{name}' names a preset already, and preset='{preset}' was given beside it; give '{family}' and one preset.")
    name, options = BACKBONES.divide(name)
    if options:
        raise UsageError(
            f"'{name}:{options}' gives options beside preset='{preset}'. Give the backbone's name, its preset, and options as keywords."
        )
    presets = BACKBONES.entry(name).presets()
    if preset not in presets:
        why = BACKBONES.entry(name).no_presets.get(preset)
        hint = f" {why}" if why else did_you_mean(preset, presets)
        raise UsageError(f"'{name}' has no preset '{preset}'.{hint} There are: {', '.join(presets) or 'none'}.")
    return presets[preset].backbone, presets[preset]
