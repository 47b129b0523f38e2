"""What a file of released weights is, and which presets it fits, without choosing one of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from wisetune.errors import UsageError, WeightsError, counted, first_of
from wisetune.nets.backbone import BackboneSpec, Preset, build_empty, on_meta
from wisetune.nets.create import BACKBONES, assemble, class_names, parse_any_head
from wisetune.nets.files.checkpoint import read_state
from wisetune.nets.files.identify import Looks, bare, identify, in_words
from wisetune.nets.files.official import fitting, outputs_of, under_released_names
from wisetune.nets.files.torch_pointcloud import NAME
from wisetune.nets.headed import Headed
from wisetune.nets.heads import HEADS, Head
from wisetune.nets.parts import PartsHead
from wisetune.spelling import dashed, spell

PRE_TRAINING, CLASSIFICATION, PARTS, ENCODER = "pre-training", "classification", "part segmentation", "an encoder alone"
_APART = ("drop_path", "initial")
"""Options that make no other function of weights that are there."""
_GROUPING = ("points", "groups")
_LABELS = "label_conv."
"""What every part segmentation begins with, and those of torch-pointcloud, whatever their head is."""


@dataclasses.dataclass(frozen=True)
class Look:
    """What one file holds.

    ``presets`` are those whose backbones it fills, by one word; ``with_head`` the names of those whose head it fills too. ``head`` is spelled as
    one is, empty where there is none or none that is known; ``outputs`` how many classes, or parts, it tells apart. ``sized`` spells
    family and sizes where no preset has these.
    """

    layout: str
    prefix: str
    names: str
    looks: Looks
    holds: str
    tensors: int
    values: int
    types: Mapping[str, int]
    head: str
    outputs: int | None
    presets: Mapping[str, Preset]
    with_head: tuple[str, ...]
    sized: str
    beside: Mapping[str, int | float | str | None]
    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor, by its released name."""


def look(path: str | Path) -> Look:
    """What a released file is.

    Raises:
        BadFile: it cannot be read as weights.
        WeightsError: they are of no backbone that there is here; the message says whose they seem to be.
    """
    path = Path(path)
    checkpoint = read_state(path)
    shapes = {key: tuple(value.shape) for key, value in checkpoint.tensors.items()}
    looks = identify(shapes)
    if looks.front or not looks.families:
        roots = Counter(bare(key).partition(".")[0] for key in shapes)
        seems = f"It looks like {looks}." if str(looks) else f"Its names begin with {first_of(roots)}."
        raise WeightsError(
            f"{path.name} holds {counted(len(shapes), 'tensor')}, under the names of no backbone that there is here. {seems}"
        )
    found, called, prefix = under_released_names(path.name, checkpoint.tensors)
    found = {key: value.to("meta") for key, value in found.items()}
    presets = fitting(checkpoint.tensors, looks)
    family = next(iter(looks.families))
    holds = _holds(found, family)
    heads = dict(_heads(found, holds, family, looks, presets))
    head, outputs = next(iter(heads.values()), ("", None))
    return Look(
        layout=checkpoint.layout,
        prefix=prefix,
        names=NAME if called else "",
        looks=looks,
        holds=holds,
        tensors=len(shapes),
        values=sum(value.numel() for value in checkpoint.tensors.values()),
        types=Counter(str(value.dtype).removeprefix("torch.") for value in checkpoint.tensors.values()),
        head=head,
        outputs=outputs,
        presets=presets,
        with_head=tuple(name for name in heads if name),
        sized="" if presets else sized(looks),
        beside=checkpoint.beside,
        shapes={key: tuple(value.shape) for key, value in found.items()},
    )


def sized(looks: Looks) -> str:
    """The family and the sizes that shapes tell, as a backbone is spelled; what they do not tell is left to be filled in."""
    family, sizes = next(iter(looks.families.items()))
    return f"{family}:{in_words(sizes).replace(', ', ',')},heads=H,points=N,groups=G"


def told_apart(presets: Mapping[str, Preset]) -> list[tuple[str, str]]:
    """Presets by name, those of one function together, each with the options in which it differs from the others."""
    kinds: dict[BackboneSpec, list[str]] = {}
    for name, preset in presets.items():
        kinds.setdefault(_function(preset.backbone), []).append(name)
    options = {spec: {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)} for spec in kinds}
    values: dict[str, set[str]] = {}
    for own in options.values():
        for option, value in own.items():
            values.setdefault(option, set()).add(spell(value))
    shown = [option for option, there in values.items() if len(there) > 1 or option in _GROUPING]
    return [
        (", ".join(names), ",".join(f"{dashed(option)}={spell(options[spec][option])}" for option in shown if option in options[spec]))
        for spec, names in kinds.items()
    ]


def _function(spec: BackboneSpec) -> BackboneSpec:
    defaults = {field.name: field.default for field in dataclasses.fields(spec) if field.name in _APART}
    return dataclasses.replace(spec, **defaults)


def _holds(found: Mapping[str, Tensor], family: str) -> str:
    entry = BACKBONES.entry(family)
    backbone = build_empty(entry())
    heads = {type(head) for preset in entry.presets().values() if isinstance(head := parse_any_head(preset.head), PartsHead)}
    parts = tuple(name for head in heads for suffix in ("", backbone.for_parts.suffix) for name in head.prefixes(suffix))
    names = {key: backbone.rename(key) for key in found}
    if any(key.startswith((*parts, _LABELS)) for key in found):
        return PARTS
    if any(name is not None and name.startswith(f"{backbone.head_name}.") for name in names.values()):
        return CLASSIFICATION
    return PRE_TRAINING if None in names.values() else ENCODER


def _heads(
    found: Mapping[str, Tensor], holds: str, family: str, looks: Looks, presets: Mapping[str, Preset]
) -> Iterator[tuple[str, tuple[str, int]]]:
    """Of each preset whose head is in the file its spelling and how many outputs it has; without such a preset the head that is there, under ''."""
    if holds not in (CLASSIFICATION, PARTS):
        return
    known = False
    for name, preset in presets.items():
        head = parse_any_head(preset.head)
        if isinstance(head, PartsHead) == (holds == PARTS) and (outputs := _outputs(preset.backbone, head, found)) is not None:
            known = True
            yield name, (str(head), outputs)
    spec = next((preset.backbone for preset in presets.values()), None) or _spec(family, looks)
    if known or holds == PARTS or spec is None:
        return
    for head in (kind() for kind in HEADS.values()):
        if (outputs := _outputs(spec, head, found)) is not None:
            yield "", (str(head), outputs)
            return


def _outputs(spec: BackboneSpec, head: Head | PartsHead, found: Mapping[str, Tensor]) -> int | None:
    backbone = build_empty(spec)

    def model(outputs: int) -> Headed:
        with on_meta():
            return assemble(backbone, head, class_names(outputs))

    return outputs_of(model, found)


def _spec(family: str, looks: Looks) -> BackboneSpec | None:
    """One with these sizes; how many heads attention has is not in the shapes, and does not matter to what a head sees."""
    bare = {"readout": "max+mean"} if looks.families[family].get("class_token") is False else {}
    text = in_words({**looks.families[family], **bare}).replace(", ", ",")
    specs = (_parsed(f"{family}:{text},heads={heads}") for heads in (6, 4, 3, 2, 1))
    return next((spec for spec in specs if spec is not None), None)


def _parsed(text: str) -> BackboneSpec | None:
    try:
        return BACKBONES.parse(text)
    except UsageError:  # its width is no multiple of these heads
        return None
