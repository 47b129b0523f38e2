"""wisetune's own weights files: one safetensors file that says what it is, so that a model comes back from it alone.

The metadata hold the backbone's spec in full, the head's, the classes, and a digest of the values, by which damage is found. A file may come
from anywhere: it is compared with an empty model of its spec before any memory is taken for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from wisetune import runtime
from wisetune.errors import BadFile, UsageError, WeightsError
from wisetune.files import write_bytes
from wisetune.nets.backbone import Backbone, BackboneSpec
from wisetune.nets.checkpoint import kind_of
from wisetune.nets.create import BACKBONES, class_names
from wisetune.nets.heads import Head, parse_head
from wisetune.nets.model import Model, feature_width

FORMAT = "wisetune-weights-1"
KEY = "wisetune"
"""The one key of the metadata: safetensors writes several in any order, and the same model should be the same bytes."""
_HALF = (torch.float16, torch.bfloat16)


@dataclasses.dataclass(frozen=True)
class Card:
    """What a weights file says it is. ``head`` is None and ``classes`` empty for a backbone alone; ``about`` is the writer's own."""

    backbone: BackboneSpec
    head: Head | None
    classes: tuple[str, ...]
    digest: str
    version: str
    about: dict[str, Any]


def save_model(path: str | Path, model: Model, about: Mapping[str, Any] | None = None, *, half: bool = False) -> str:
    """Write a model with its head; returns the digest of its values.

    Args:
        path: the file; a safetensors file by content, whatever its name.
        model: one that knows its ``head_spec`` and ``classes``, as those of ``create`` and ``load_model`` do.
        about: plain JSON to keep beside: data, accuracy, licence.
        half: store float16.

    Raises:
        ValueError: the model does not know its head.
        WeightsError: values are not finite, also when half precision is too narrow for them.
        StorageError: the file cannot be written.
    """
    if model.head_spec is None or not model.classes:
        raise ValueError("this model does not know its head: build it as Model(backbone, head, head_spec, classes)")
    said = {"head": model.head_spec.in_full(), "classes": list(model.classes)}
    return _write(Path(path), model.state_dict(), model.backbone.spec, said, about, half)


def save_backbone(path: str | Path, backbone: Backbone, about: Mapping[str, Any] | None = None, *, half: bool = False) -> str:
    """Write a backbone without a head; as ``save_model`` else."""
    return _write(Path(path), backbone.state_dict(), backbone.spec, {}, about, half)


def load_model(path: str | Path) -> Model:
    """The model in a file that ``save_model`` wrote, in eval mode, in float32 if it was stored in half precision.

    Raises:
        BadFile: the file is damaged or not safetensors.
        WeightsError: it is not wisetune's, holds no head, or is not what it says.
    """
    card, model = _read(Path(path), with_head=True)
    assert isinstance(model, Model)
    assert card.head is not None
    return model


def load_backbone(path: str | Path) -> Backbone:
    """The backbone in a file that ``save_backbone`` or ``save_model`` wrote, in eval mode; errors as ``load_model``."""
    _, model = _read(Path(path), with_head=False)
    return model.backbone if isinstance(model, Model) else model


def read_card(path: str | Path) -> Card:
    """What a file says it is, without reading its values; errors as ``load_model``."""
    path = Path(path)
    if kind_of(path) != "safetensors":
        raise WeightsError(
            f"{path} was not written by wisetune: it is a PyTorch file or another archive. Weights of a backbone are loaded with load_official."
        )
    try:
        with safetensors.safe_open(path, "pt") as file:
            text = dict(file.metadata() or {}).get(KEY, "{}")
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadFile(path, f"it is a damaged safetensors file ({error})", "get it again from its source") from None
    try:
        said = json.loads(text)
        if said.get("format") != FORMAT:
            raise WeightsError(f"{path} was not written by this wisetune: its format is '{said.get('format', 'unnamed')}', not '{FORMAT}'.")
        head = parse_head(said["head"]) if "head" in said else None
        classes = class_names(said["classes"]) if head else ()
        card = Card(_backbone_of(said["backbone"]), head, classes, said["sha256"], said["version"], dict(said["about"]))
    except (UsageError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        raise WeightsError(f"{path} does not say what model it holds: {what}") from None
    return card


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """64 hex digits that name these values under these names; half precision counts as the float32 values that it stands for."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = _widened(tensors[name].detach().cpu()).contiguous()
        total.update(f"{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def build_empty(spec: BackboneSpec) -> Backbone:
    """A backbone without memory for its values; fill it with ``load_state_dict(..., assign=True)``."""
    with torch.device("meta"):
        return spec.build().eval()


def _write(
    path: Path, state: Mapping[str, Tensor], spec: BackboneSpec, said: dict[str, Any], about: Mapping[str, Any] | None, half: bool
) -> str:
    stored = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if half:
        stored = {name: value.to(torch.float16) if value.is_floating_point() else value for name, value in stored.items()}
    _refuse_not_finite(path, stored)
    digest = content_digest(stored)
    whole = {
        "format": FORMAT,
        "backbone": spec.in_full(),
        **said,
        "version": runtime.version(),
        "sha256": digest,
        "about": dict(about or {}),
    }
    write_bytes(path, safetensors.torch.save(stored, {KEY: json.dumps(whole)}), make_folders=False)
    return digest


def _read(path: Path, with_head: bool) -> tuple[Card, Model | Backbone]:
    card = read_card(path)
    if with_head and card.head is None:
        raise WeightsError(f"{path} holds a backbone without a head: load it with load_backbone, or give a model that was tuned.")
    backbone = build_empty(card.backbone)
    model: Model | Backbone = backbone
    if card.head is not None:
        with torch.device("meta"):
            model = Model(backbone, card.head.build(feature_width(backbone), len(card.classes)), card.head, card.classes).eval()
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    with safetensors.safe_open(path, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
        if found != wanted:
            wrong = next(name for name in [*wanted, *found] if found.get(name) != wanted.get(name))
            raise WeightsError(
                f"{path} is not the {card.backbone.name} that it says: '{wrong}' is {found.get(wrong)}, not {wanted.get(wrong)}."
            )
        stored = {name: file.get_tensor(name).clone() for name in wanted}
    for name, value in model.state_dict().items():
        if stored[name].is_floating_point() != value.is_floating_point():
            raise WeightsError(f"{path} has '{name}' as {stored[name].dtype}, which holds no such values.")
    _refuse_not_finite(path, stored)
    if content_digest(stored) != card.digest:
        raise WeightsError(f"{path} is damaged: its values are not those that were written. Get it again from its source.")
    model.load_state_dict({name: _widened(value) for name, value in stored.items()}, assign=True)
    return card, model


def _backbone_of(text: str) -> BackboneSpec:
    """The spec in a file's metadata. A file must not choose what is imported: a backbone outside wisetune has to be there already."""
    name, _ = BACKBONES.divide(text)
    module, colon, _ = name.partition(":")
    if colon and module not in sys.modules:
        raise UsageError(f"its backbone is '{name}', from outside wisetune; import {module} first if you trust it")
    return BACKBONES.parse(text)


def _widened(value: Tensor) -> Tensor:
    return value.to(torch.float32) if value.dtype in _HALF else value


def _refuse_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WeightsError(f"{path}: '{name}' has values that are not finite; such weights are neither written nor read.")
