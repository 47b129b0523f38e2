"""wisetune's own weights files: one safetensors file that says what it is, so that a model comes back from it alone.

The metadata hold the backbone's spec in full, what tunings grafted into it, the head's, the classes, and a digest of the values, by which damage
is found. A file may come from anywhere: it is compared with an empty model of its spec before any memory is taken for one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wisetune.catalog import NotImported
from wisetune.errors import UsageError, WeightsError
from wisetune.nets.backbone import Backbone, BackboneSpec, build_empty, on_meta
from wisetune.nets.categories import Categories
from wisetune.nets.create import BACKBONES, assemble, class_names, parse_any_head
from wisetune.nets.files.carded import said_in, said_wrong, values_of, widened, write
from wisetune.nets.grafts import told, unexplained
from wisetune.nets.headed import Headed
from wisetune.nets.heads import Head
from wisetune.nets.model import Model
from wisetune.nets.parts import PartsHead
from wisetune.nets.segmenter import Segmenter

FORMAT = "wisetune-weights-1"
DELTA = "wisetune-delta-1"
"""The format of a file that holds what a tuned model has and its start has not (``delta.py``)."""
Graft = Callable[[Headed, str], None]
"""Puts what a tuning grafts into a model, by the tuning's spelling."""


@dataclasses.dataclass(frozen=True)
class Card:
    """What a weights file says it is.

    ``head`` is None and ``classes`` empty for a backbone alone. Of a part segmentation model ``categories`` are what it knows of which parts are
    of which category. ``grafts`` spells the tunings that put modules into the backbone. ``about`` is the
    writer's own.
    """

    backbone: BackboneSpec
    head: Head | PartsHead | None
    classes: tuple[str, ...]
    digest: str
    version: str
    about: dict[str, Any]
    grafts: tuple[str, ...] = ()
    categories: Categories = dataclasses.field(default_factory=dict)


def save_model(path: str | Path, model: Headed, about: Mapping[str, Any] | None = None, *, half: bool = False) -> str:
    """Write a model with its head; returns the digest of its values.

    Args:
        path: the file; a safetensors file by content, whatever its name.
        model: one that knows its ``head_spec`` and ``classes``, as those of ``create`` and ``load_model`` do.
        about: plain JSON to keep beside: data, accuracy, licence.
        half: store float16.

    Raises:
        UsageError: no path or no model, a model that does not know its head, or whose backbone has something that no tuning put there, so that
            it could not be read again; or something in ``about`` that is no JSON.
        WeightsError: values are not finite, also when half precision is too narrow for them.
        StorageError: the file cannot be written.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(model, Headed):
        raise UsageError(
            f"save_model was given {type(path).__name__} and {type(model).__name__}; it takes a path and a whole model with its head: "
            "wisetune.save_model('mine.safetensors', model)."
        )
    said = said_of(path, model)
    return write(Path(path), _stored(model.state_dict(), half), {"format": FORMAT, **said}, about)


def said_of(path: str | Path, model: Headed) -> dict[str, Any]:
    """What a file has to say of a whole model, so that it comes back from it; errors as ``save_model``."""
    if model.headless:
        raise UsageError(
            "this model has no head, and save_model writes whole models. Give classes= to create, or write its backbone: "
            "wisetune.save_backbone('mine.safetensors', model.backbone)."
        )
    if model.head_spec is None or not model.classes:
        raise UsageError(
            "this model does not know its head, and a file of it could not be read again: use a model of wisetune.create, or build it as "
            "Model(backbone, head, head_spec, classes)."
        )
    if others := unexplained(model.backbone):
        _refuse_additions(path, model.backbone, f"'{others[0]}'", "Graft it by a tuning in a recipe, or take it out.")
    categories = model.categories if isinstance(model, Segmenter) else {}
    said = {"backbone": model.backbone.spec.in_full(), "head": model.head_spec.in_full(), "classes": categories or list(model.classes)}
    return said | ({"grafts": [graft.tuning for graft in model.backbone.grafts]} if model.backbone.grafts else {})


def save_backbone(path: str | Path, backbone: Backbone, about: Mapping[str, Any] | None = None, *, half: bool = False) -> str:
    """Write a backbone without a head, into which nothing was grafted, for ``resolve`` and ``--from``; as ``save_model`` else."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(backbone, Backbone):
        raise UsageError(
            f"save_backbone was given {type(path).__name__} and {type(backbone).__name__}; it takes a path and a backbone: "
            "wisetune.save_backbone('mine.safetensors', model.backbone)."
        )
    if backbone.grafts or unexplained(backbone):
        _refuse_additions(path, backbone, told(backbone), "Save the whole model, with its head.")
    return write(Path(path), _stored(backbone.state_dict(), half), {"format": FORMAT, "backbone": backbone.spec.in_full()}, about)


def load_model(path: str | Path, graft: Graft | None = None) -> Model | Segmenter:
    """The model in a file that ``save_model`` wrote, in eval mode, in float32 if it was stored in half precision.

    Without ``graft`` a file into whose backbone a tuning grafted is refused: ``wisetune.load_model`` reads it.

    Raises:
        BadFile: the file is damaged or not safetensors.
        WeightsError: it is not wisetune's, holds no head, or is not what it says.
        UsageError: ``path`` is no path.
    """
    card, model = _read(_path(path, "load_model"), with_head=True, graft=graft)
    assert isinstance(model, (Model, Segmenter))
    assert card.head is not None
    return model


def load_backbone(path: str | Path) -> Backbone:
    """The backbone in a file that ``save_backbone`` or ``save_model`` wrote, in eval mode; errors as ``load_model``."""
    _, model = _read(_path(path, "load_backbone"), with_head=False)
    return model.backbone if isinstance(model, Headed) else model


def read_card(path: str | Path) -> Card:
    """What a file says it is, without reading its values; errors as ``load_model``."""
    path = Path(path)
    said = said_in(path)
    if said.get("format") != FORMAT:
        if said.get("format") == DELTA:
            raise WeightsError(
                f"{path} is a delta file: of a tuned model what its start has not, and no whole model. From Python the two are joined, and written as "
                f"one: wisetune.save_model('whole.safetensors', wisetune.load_delta('{path}', wisetune.resolve('{_begun(said)}').load()))."
            )
        raise WeightsError(f"{path} was not written by this wisetune: its format is '{said.get('format', 'unnamed')}', not '{FORMAT}'.")
    return card_of(path, said)


def _begun(said: Mapping[str, Any]) -> str:
    """Where the start of a delta is found, as far as its file says."""
    about = said.get("about")
    return str(about.get("start", "START")) if isinstance(about, Mapping) else "START"


def card_of(path: Path, said: Mapping[str, Any]) -> Card:
    """What a file says it is, from what was read."""
    with said_wrong(path):
        head = parse_any_head(said["head"], filed=True) if "head" in said else None
        classes = class_names(said["classes"]) if head else ()
        categories = said["classes"] if head and isinstance(said["classes"], dict) else {}
        backbone, grafts = BACKBONES.parse_imported(said["backbone"]), tuple(str(text) for text in said.get("grafts", ()))
        return Card(backbone, head, classes, said["sha256"], said["version"], dict(said["about"]), grafts, categories)


def _read(path: Path, with_head: bool, graft: Graft | None = None) -> tuple[Card, Headed | Backbone]:
    card = read_card(path)
    if with_head and card.head is None:
        raise WeightsError(f"{path} holds a backbone without a head: load it with load_backbone, or give a model that was tuned.")
    if card.grafts and graft is None:
        raise WeightsError(
            f"{path} holds a model into which {', '.join(card.grafts)} grafted, and a backbone as {card.backbone.name} builds it is needed. "
            "Give weights that were not tuned so; the whole model is read by wisetune.load_model."
        )
    model = empty_of(path, card, graft)
    with values_of(path) as values:
        values.check(card.backbone.name, model.state_dict())
        stored = values.read(card.digest)
    model.load_state_dict({name: widened(value) for name, value in stored.items()}, assign=True)
    return card, model.eval()


def empty_of(path: Path, card: Card, graft: Graft | None) -> Headed | Backbone:
    """What a file says it holds, without memory for its values.

    Raises:
        WeightsError: there is no such thing.
    """
    backbone = build_empty(card.backbone)
    if graft is not None:
        for tuning in card.grafts:
            _regraft(path, Model(backbone, nn.Identity()), tuning, graft)
    if card.head is None:
        return backbone
    try:
        with on_meta():
            return assemble(backbone, card.head, card.categories or card.classes).eval()
    except UsageError as error:  # a head that cannot read this backbone
        raise WeightsError(f"{path} does not say what model it holds: {error}") from None


def _path(given: str | Path, reader: str) -> Path:
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(f"{reader} was given {type(given).__name__}; it takes the path of a weights file.")
    return Path(given)


def _regraft(path: Path, model: Headed, tuning: str, graft: Graft) -> None:
    try:
        with on_meta():
            graft(model, tuning)
    except NotImported as error:
        raise WeightsError(f"{path} cannot be read as yet: {error}") from None
    except UsageError as error:
        raise WeightsError(f"{path} does not say what model it holds: {error}") from None
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:  # of an option that the tuning does not bound
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"{path} does not say what model it holds: '{tuning}' cannot be grafted ({why})") from error


def _refuse_additions(path: str | Path, backbone: Backbone, what: str, do: str) -> None:
    raise UsageError(
        f"{path}: {what} was put into this backbone after {backbone.spec.name} built it, and a file of it could not be read again. {do}"
    )


def _stored(state: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    return {name: value.to(torch.float16) if half and value.is_floating_point() else value for name, value in state.items()}
