"""Pre-trained weights by one word: shipped ones, files of wisetune, released checkpoints, and untrained ones for comparison.

    point-mae-mini                          shipped with wisetune
    runs/mine.safetensors                   written by wisetune; a head in it is left out
    point_mae.pth                           a released checkpoint; say which backbone it is for
    random:point-mae-mini                   fresh weights; random:point-mae-mini,seed=3 or random:[point-mae:width=64,heads=2]

Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from wisetune.errors import UsageError, WeightsError, did_you_mean
from wisetune.nets.backbone import Backbone, BackboneSpec, build_empty
from wisetune.nets.create import fresh_backbone, named, parse_backbone
from wisetune.nets.files.checkpoint import kind_of, read_state
from wisetune.nets.files.official import PARTS_LEFT_OUT, LoadReport, head_left_out, identify, load_official
from wisetune.nets.files.save import KEY, content_digest, load_backbone, read_card
from wisetune.nets.heads import Head
from wisetune.nets.parts import PartsHead
from wisetune.spec import Spec

PRETRAINED = {"point-mae-mini": "point-mae-mini.safetensors"}
"""Shipped weights: name to file in ``wisetune/nets/weights``."""
_DIGITS = 16


@dataclasses.dataclass(frozen=True)
class Random(Spec):
    """Fresh weights of an architecture: the start that pre-training is compared with."""

    name: ClassVar[str] = "random"

    backbone: str
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights of a backbone. ``digest`` names their values whatever file they came from; ``report`` says what a released file gave.

    ``notes`` are what must be said of them: what they are not, and what of their file was left out. ``about`` is what a file of wisetune's says of
    itself (of a pre-training: its data, options, command), empty for the others.
    """

    source: str
    spec: BackboneSpec
    digest: str
    state: dict[str, Tensor] = dataclasses.field(repr=False, compare=False)
    report: LoadReport | None = dataclasses.field(default=None, repr=False, compare=False)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = dataclasses.field(default=(), repr=False, compare=False)

    def load(self) -> Backbone:
        """A new backbone with these weights, in eval mode; changing it changes nothing here."""
        backbone = build_empty(self.spec)
        backbone.load_state_dict({name: value.clone() for name, value in self.state.items()}, assign=True)
        return backbone


def resolve(source: str | Path, backbone: str | BackboneSpec | None = None, seed: int = 0, *, family: str | None = None) -> Pretrained:
    """Weights by name or file.

    Args:
        source: see the module's docstring.
        backbone: what a released checkpoint is for, a spec or its spelling (``point-mae-modelnet-1k``); the others know.
        seed: of the initial values of what a released checkpoint cannot have, such as Point-MAE's class token.
        family: whose a released checkpoint is, where the backbone is to begin with another family's encoder (see ``load_official``).

    Raises:
        UsageError: no such name, a released checkpoint without its backbone (the message says what the file looks like), or a family with
            weights that know their backbone.
        BadFile, WeightsError: the file cannot be used.
    """
    text = str(source)
    spec = parse_backbone(backbone) if isinstance(backbone, str) else backbone
    if text.startswith(f"{Random.name}:"):
        found = _random(text)
    elif text in PRETRAINED:
        with _shipped(text) as path:
            found = _of_own_file(text, path)
    else:
        found = _from_file(text, spec, seed, family)
    if family is not None and found.report is None:
        raise UsageError(
            f"'{text}' is {found.spec}, and family={family} was given, which says whose a released checkpoint is. Leave it out."
        )
    if spec is not None and spec != found.spec:
        raise UsageError(f"'{text}' is {found.spec}, not {spec}. Leave the backbone out: these weights know theirs.")
    return found


def _random(text: str) -> Pretrained:
    options = Random.from_options(text.partition(":")[2])
    spec = parse_backbone(options.backbone)
    state = fresh_backbone(spec, options.seed).state_dict()
    return Pretrained(str(options), spec, f"{Random.name}:{options.seed}", state)


def _from_file(text: str, spec: BackboneSpec | None, seed: int, family: str | None) -> Pretrained:
    path = Path(text)
    # A word without a suffix or folder is a name that was mistyped, not a file that is missing.
    if not path.exists() and not path.suffix and path.name == text:
        hint, there = did_you_mean(text, PRETRAINED), ", ".join(PRETRAINED)
        raise UsageError(
            f"there are no weights '{text}'.{hint} There are: {there}; or give a file, or random:NAME with one of: {', '.join(named())}."
        )
    kind = kind_of(path)
    checkpoint = read_state(path)
    if kind == "safetensors" and KEY in checkpoint.metadata:
        return _of_own_file(path.name, path)
    if spec is None:
        family = identify({key: tuple(value.shape) for key, value in checkpoint.tensors.items()})
        looks = f"It looks like {family}; how" if family else "How"
        presets = ", ".join(named())
        raise UsageError(
            f"{path.name} does not say what backbone it is for. {looks} points are grouped is not in it. Name a backbone: {presets}."
        )
    model = fresh_backbone(spec, seed)
    report = load_official(model, checkpoint.tensors, family=family)
    report = dataclasses.replace(report, source=path.name, layout=checkpoint.layout)
    return dataclasses.replace(_of_backbone(path.name, model), report=report, notes=report.notes)


def _of_own_file(source: str, path: Path) -> Pretrained:
    card = read_card(path)
    of_parts, of_classes = isinstance(card.head, PartsHead), isinstance(card.head, Head)
    notes = (PARTS_LEFT_OUT,) if of_parts else (head_left_out(len(card.classes)),) if of_classes else ()
    return dataclasses.replace(_of_backbone(source, load_backbone(path)), about=card.about, notes=notes)


def _of_backbone(source: str, backbone: Backbone) -> Pretrained:
    state = backbone.state_dict()
    return Pretrained(source, backbone.spec, content_digest(state)[:_DIGITS], state)


@contextmanager
def _shipped(name: str) -> Iterator[Path]:
    entry = importlib.resources.files("wisetune.nets") / "weights" / PRETRAINED[name]
    if not entry.is_file():
        raise WeightsError(f"the weights '{name}' are not in this installation: {PRETRAINED[name]} is missing. Install wisetune again.")
    with importlib.resources.as_file(entry) as path:
        yield path
