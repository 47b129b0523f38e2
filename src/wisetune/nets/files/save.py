"""wisetune's own weights files: one safetensors file that says what it is, so that a model comes back from it alone.

The metadata hold the backbone's spec in full, what tunings grafted into it, the head's, the classes, and a digest of the values, by which damage
is found. A file may come from anywhere: it is compared with an empty model of its spec before any memory is taken for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from wisetune import runtime
from wisetune.errors import BadFile, UsageError, WeightsError
from wisetune.files import write_bytes
from wisetune.nets.backbone import Backbone, BackboneSpec, build_empty, on_meta
from wisetune.nets.categories import Categories
from wisetune.nets.create import BACKBONES, assemble, class_names, parse_any_head
from wisetune.nets.files.checkpoint import kind_of
from wisetune.nets.grafts import told, unexplained
from wisetune.nets.headed import Headed
from wisetune.nets.heads import Head
from wisetune.nets.model import Model
from wisetune.nets.parts import PartsHead
from wisetune.nets.segmenter import Segmenter

FORMAT = "wisetune-weights-1"
KEY = "wisetune"
"""The one key of the metadata: safetensors writes several in any order, and the same model should be the same bytes."""
_HALF = (torch.float16, torch.bfloat16)
_FLOATS = ("F", "BF")
"""What the names of such types begin with in a safetensors file."""
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
    if model.headless:
        raise UsageError(
            "this model has no head, and save_model writes whole models. Give classes= to create, or write its backbone: "
            "wisetune.nets.files.save.save_backbone('mine.safetensors', model.backbone)."
        )
    if model.head_spec is None or not model.classes:
        raise UsageError(
            "this model does not know its head, and a file of it could not be read again: use a model of wisetune.create, or build it as "
            "Model(backbone, head, head_spec, classes)."
        )
    if others := unexplained(model.backbone):
        _refuse_additions(path, model.backbone, f"'{others[0]}'", "Graft it by a tuning in a recipe, or take it out.")
    categories = model.categories if isinstance(model, Segmenter) else {}
    said = {"head": model.head_spec.in_full(), "classes": categories or list(model.classes)}
    if model.backbone.grafts:
        said["grafts"] = [graft.tuning for graft in model.backbone.grafts]
    return _write(Path(path), model.state_dict(), model.backbone.spec, said, about, half)


def save_backbone(path: str | Path, backbone: Backbone, about: Mapping[str, Any] | None = None, *, half: bool = False) -> str:
    """Write a backbone without a head, into which nothing was grafted; as ``save_model`` else."""
    if backbone.grafts or unexplained(backbone):
        _refuse_additions(path, backbone, told(backbone), "Save the whole model, with its head.")
    return _write(Path(path), backbone.state_dict(), backbone.spec, {}, about, half)


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
    text = _said(path)
    if text is None:
        kind = "" if path.suffix == ".safetensors" else ": it is a PyTorch file or another archive"
        raise WeightsError(
            f"{path} was not written by wisetune{kind}. If it is a released checkpoint, wisetune show {path} says of which model; then from Python: "
            f"model = wisetune.create('point-mae', preset='modelnet-1k'), or whichever it is; wisetune.load_official(model, '{path}'); "
            "wisetune.save_model('mine.safetensors', model) writes a file that can be used here."
        )
    try:
        said = json.loads(text)
        if said.get("format") != FORMAT:
            raise WeightsError(f"{path} was not written by this wisetune: its format is '{said.get('format', 'unnamed')}', not '{FORMAT}'.")
        head = parse_any_head(said["head"], filed=True) if "head" in said else None
        classes = class_names(said["classes"]) if head else ()
        categories = said["classes"] if head and isinstance(said["classes"], dict) else {}
        backbone, grafts = BACKBONES.parse_imported(said["backbone"]), tuple(str(text) for text in said.get("grafts", ()))
        card = Card(backbone, head, classes, said["sha256"], said["version"], dict(said["about"]), grafts, categories)
    except (UsageError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        raise WeightsError(f"{path} does not say what model it holds: {what}") from None
    return card


def is_ours(path: str | Path) -> bool:
    """Whether a weights file was written by wisetune, and so knows its model.

    Raises:
        BadFile: it is no weights file at all.
    """
    return _said(Path(path)) is not None


def _said(path: Path) -> str | None:
    """What a file says of itself; None where it is none of wisetune's."""
    if kind_of(path) != "safetensors":
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {}).get(KEY)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadFile(path, f"it is a damaged safetensors file ({error})", "get it again from its source") from None


def shapes_of(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file, without reading its values.

    Raises:
        BadFile: it is damaged.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadFile(path, f"it is a damaged safetensors file ({error})", "get it again from its source") from None


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """64 hex digits that name these values under these names; half precision counts as the float32 values that it stands for."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = _widened(tensors[name].detach().cpu()).contiguous()
        total.update(f"{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _write(
    path: Path, state: Mapping[str, Tensor], spec: BackboneSpec, said: dict[str, Any], about: Mapping[str, Any] | None, half: bool
) -> str:
    stored = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if half:
        stored = {name: value.to(torch.float16) if value.is_floating_point() else value for name, value in stored.items()}
    _refuse_not_finite(path, stored)
    digest = content_digest(stored)
    whole = {"format": FORMAT, "backbone": spec.in_full(), **said, "version": runtime.version(), "sha256": digest}
    try:
        text = json.dumps(whole | {"about": dict(about or {})})
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"about= cannot be written beside the weights ({error}); it takes a dict of texts, numbers, lists and dicts."
        ) from None
    write_bytes(path, safetensors.torch.save(stored, {KEY: text}), make_folders=False)
    return digest


def _read(path: Path, with_head: bool, graft: Graft | None = None) -> tuple[Card, Headed | Backbone]:
    card = read_card(path)
    if with_head and card.head is None:
        raise WeightsError(f"{path} holds a backbone without a head: load it with load_backbone, or give a model that was tuned.")
    if card.grafts and graft is None:
        raise WeightsError(
            f"{path} holds a model into which {', '.join(card.grafts)} grafted, and a backbone as {card.backbone.name} builds it is needed. "
            "Give weights that were not tuned so; the whole model is read by wisetune.load_model."
        )
    backbone = build_empty(card.backbone)
    model: Headed | Backbone = backbone
    if graft is not None:
        for tuning in card.grafts:
            _regraft(path, Model(backbone, nn.Identity()), tuning, graft)
    if card.head is not None:
        try:
            with on_meta():
                model = assemble(backbone, card.head, card.categories or card.classes).eval()
        except UsageError as error:  # a head that cannot read this backbone
            raise WeightsError(f"{path} does not say what model it holds: {error}") from None
    with safetensors.safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        found = {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
        _compare(path, card, model, found)
        stored = {name: file.get_tensor(name).clone() for name in found}
    _refuse_not_finite(path, stored)
    if content_digest(stored) != card.digest:
        raise WeightsError(f"{path} is damaged: its values are not those that were written. Get it again from its source.")
    model.load_state_dict({name: _widened(value) for name, value in stored.items()}, assign=True)
    return card, model.eval()


def _path(given: str | Path, reader: str) -> Path:
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(f"{reader} was given {type(given).__name__}; it takes the path of a weights file.")
    return Path(given)


def _regraft(path: Path, model: Headed, tuning: str, graft: Graft) -> None:
    try:
        with on_meta():
            graft(model, tuning)
    except UsageError as error:
        raise WeightsError(f"{path} does not say what model it holds: {error}") from None
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:  # of an option that the tuning does not bound
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"{path} does not say what model it holds: '{tuning}' cannot be grafted ({why})") from error


def _compare(path: Path, card: Card, model: Headed | Backbone, found: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    """The names, shapes and kinds of numbers in the file against those of the model that it says it holds."""
    wanted = model.state_dict()
    for name in [*wanted, *found]:
        shape, kind = found.get(name, (None, ""))
        right = tuple(wanted[name].shape) if name in wanted else None
        if shape != right:
            raise WeightsError(f"{path} is not the {card.backbone.name} that it says: '{name}' is {shape}, not {right}.")
        if kind.startswith(_FLOATS) != wanted[name].is_floating_point():
            raise WeightsError(f"{path} has '{name}' as {kind}, which holds no such values.")


def _refuse_additions(path: str | Path, backbone: Backbone, what: str, do: str) -> None:
    raise UsageError(
        f"{path}: {what} was put into this backbone after {backbone.spec.name} built it, and a file of it could not be read again. {do}"
    )


def _widened(value: Tensor) -> Tensor:
    return value.to(torch.float32) if value.dtype in _HALF else value


def _refuse_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WeightsError(f"{path}: '{name}' has values that are not finite; such weights are neither written nor read.")
