"""Delta files: of a tuned model what its backbone was not before, to be joined to that backbone again.

A safetensors file with a card, as one of a whole model: what was grafted, the head, and of the backbone itself what training changed, BatchNorm's
statistics too. The card names the values that it began with by their digest, and those of the whole model, which has to come back bit for bit.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wisetune.errors import UsageError, WeightsError
from wisetune.nets.backbone import Backbone
from wisetune.nets.files.carded import content_digest, said_in, said_wrong, same_bits, values_of, write
from wisetune.nets.files.save import DELTA as FORMAT
from wisetune.nets.files.save import FORMAT as WHOLE
from wisetune.nets.files.save import Card, Graft, card_of, empty_of, said_of
from wisetune.nets.grafts import told, unexplained
from wisetune.nets.headed import Headed
from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter

_DIGITS = 16


@dataclasses.dataclass(frozen=True)
class Delta:
    """What a delta file says it is: the card of its model, and digests of the backbone that it began with and of all values together."""

    card: Card
    start: str
    model: str


def save_delta(path: str | Path, model: Headed, start: Backbone | Headed, about: Mapping[str, Any] | None = None) -> str:
    """Write what of a tuned model its start has not; returns the digest of these values. ``load_delta`` makes the model of both.

    Args:
        path: the file; a safetensors file by content, whatever its name.
        model: one that knows its ``head_spec`` and ``classes``.
        start: the backbone that it was tuned from, or a model that has it, as it was before.
        about: plain JSON to keep beside: data, accuracy, where the start is found.

    Raises:
        UsageError: no path, model or start; a start into which something was grafted, or that is another backbone; else as ``save_model``.
        WeightsError: values are not finite.
        StorageError: the file cannot be written.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(model, Headed) or not isinstance(start, (Backbone, Headed)):
        raise UsageError(
            f"save_delta was given {type(path).__name__}, {type(model).__name__} and {type(start).__name__}; it takes a path, a tuned model with its "
            "head, and the backbone that it was tuned from: wisetune.save_delta('mine.safetensors', model, wisetune.resolve('point-mae-mini').load())."
        )
    said, begun = said_of(path, model), _begun(start, "save_delta")
    if begun.spec != model.backbone.spec:
        raise UsageError(
            f"{path}: the model's backbone is {model.backbone.spec}, and the start given is {begun.spec}. Give the one that it was tuned from."
        )
    state, before = model.state_dict(), begun.state_dict()
    changed = {name: value for name, value in state.items() if name not in before or not same_bits(value, before[name])}
    ends = {"start": content_digest(before), "model": content_digest(state)}
    return write(Path(path), changed, {"format": FORMAT, **said, **ends}, about)


def load_delta(path: str | Path, start: Backbone | Headed, graft: Graft | None = None) -> Model | Segmenter:
    """The model of a delta file and the backbone that it began with, in eval mode: bit for bit the one that was saved. The start stays as it is.

    Without ``graft`` a file into whose backbone a tuning grafted is refused: ``wisetune.load_delta`` reads it.

    Raises:
        BadFile: the file is damaged or not safetensors.
        WeightsError: it is no delta, not what it says, or of another start.
        UsageError: no path or no start, or one into which something was grafted.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(start, (Backbone, Headed)):
        raise UsageError(
            f"load_delta was given {type(path).__name__} and {type(start).__name__}; it takes the path of a delta file and the backbone that it began "
            "with: wisetune.load_delta('mine.safetensors', wisetune.resolve('point-mae-mini').load())."
        )
    path, begun = Path(path), _begun(start, "load_delta")
    delta = read_delta(path)
    card, before = delta.card, begun.state_dict()
    if card.backbone != begun.spec:
        raise WeightsError(
            f"{path} is of a {card.backbone}, and the start given is a {begun.spec}. Give the backbone that it was tuned from."
        )
    if (digest := content_digest(before)) != delta.start:
        raise WeightsError(
            f"{path} was tuned from the weights {delta.start[:_DIGITS]} of a {card.backbone.name}, and those given are {digest[:_DIGITS]}. Give "
            "the weights that it was tuned from."
        )
    if card.grafts and graft is None:
        raise WeightsError(f"{path} holds what {', '.join(card.grafts)} grafted; it is read by wisetune.load_delta.")
    model = empty_of(path, card, graft)
    assert isinstance(model, (Model, Segmenter))
    wanted = model.state_dict()
    with values_of(path) as values:
        values.check(card.backbone.name, {name: value for name, value in wanted.items() if name in values.found or name not in before})
        stored = values.read(card.digest)
    state = {name: stored[name] if name in stored else before[name].detach().clone() for name in wanted}
    if content_digest(state) != delta.model:
        raise WeightsError(f"{path} and the start given do not make the model that was saved. Get the file again from its source.")
    model.load_state_dict(state, assign=True)
    return model.eval()


def is_delta(path: Path) -> bool:
    """Whether a file of wisetune is a delta, and not a whole model or a backbone."""
    return said_in(path).get("format") == FORMAT


def read_delta(path: Path) -> Delta:
    """What a file says it is, without reading its values; errors as ``load_delta``."""
    said = said_in(path)
    if said.get("format") != FORMAT:
        whole = " It holds a whole model, or a backbone: wisetune.load_model reads it." if said.get("format") == WHOLE else ""
        raise WeightsError(
            f"{path} is no delta file of this wisetune: its format is '{said.get('format', 'unnamed')}', not '{FORMAT}'.{whole}"
        )
    with said_wrong(path):
        card, start, model = card_of(path, said), said["start"], said["model"]
        if card.head is None or not all(isinstance(digest, str) for digest in (start, model)):
            raise ValueError("no head, or digests that are none")
    return Delta(card, start, model)


def _begun(start: Backbone | Headed, who: str) -> Backbone:
    backbone = start.backbone if isinstance(start, Headed) else start
    if backbone.grafts or unexplained(backbone):
        raise UsageError(f"{who} was given a start with {told(backbone)} grafted into it. Give the backbone as it was before it was tuned.")
    return backbone
