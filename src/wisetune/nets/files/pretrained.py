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

from wisetune.errors import UsageError, WeightsError, counted, did_you_mean, spelled
from wisetune.nets.backbone import Backbone, BackboneSpec, build_empty
from wisetune.nets.create import LISTED, fresh_backbone, parse_backbone, preset_called
from wisetune.nets.files.carded import KEY, content_digest, is_ours
from wisetune.nets.files.checkpoint import Checkpoint, kind_of, read_state
from wisetune.nets.files.identify import identify
from wisetune.nets.files.load_report import LoadReport
from wisetune.nets.files.look import sized, told_apart
from wisetune.nets.files.match import PARTS_LEFT_OUT, head_left_out, put_by_tunings
from wisetune.nets.files.official import fitting, load_checkpoint
from wisetune.nets.files.save import load_backbone, read_card
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
            f"'{text}' is {found.spec}, and {spelled('family', family)} was given, which says whose a released checkpoint is. Leave it out."
        )
    if spec is not None and spec != found.spec:
        raise UsageError(f"'{text}' is {found.spec}, not {spec}. Leave the backbone out: these weights know theirs.")
    return found


def is_released(source: str) -> bool:
    """Whether this is a released checkpoint, which does not know what backbone it is for; False too of what is not there.

    Raises:
        BadFile: a file that is no weights file.
    """
    shipped = source in PRETRAINED or source.startswith(f"{Random.name}:")
    return not shipped and Path(source).exists() and not is_ours(source)


def _random(text: str) -> Pretrained:
    options = Random.from_options(text.partition(":")[2])
    spec = parse_backbone(options.backbone)
    state = fresh_backbone(spec, options.seed).state_dict()
    return Pretrained(str(options), spec, f"{Random.name}:{options.seed}", state)


def _from_file(text: str, spec: BackboneSpec | None, seed: int, family: str | None) -> Pretrained:
    path = Path(text)
    # A word without a suffix or folder is a name that was mistyped, not a file that is missing.
    if not path.exists() and not path.suffix and path.name == text:
        there = ", ".join(PRETRAINED)
        if preset_called(text) is not None:
            raise UsageError(
                f"'{text}' is an architecture, and no weights of it are shipped; {Random.name}:{text} has fresh ones. There are: {there}."
            )
        raise UsageError(
            f"there are no weights '{text}'.{did_you_mean(text, PRETRAINED)} There are: {there}; or give a file, or {Random.name}:NAME with the "
            f"name of a backbone. {LISTED}"
        )
    kind = kind_of(path)
    checkpoint = read_state(path)
    if kind == "safetensors" and KEY in checkpoint.metadata:
        return _of_own_file(path.name, path)
    if spec is None:
        raise UsageError(_without_backbone(path.name, checkpoint))
    model = fresh_backbone(spec, seed)
    report = load_checkpoint(model, path.name, checkpoint, family=family)
    return dataclasses.replace(_of_backbone(path.name, model), report=report, notes=report.notes)


def _without_backbone(name: str, checkpoint: Checkpoint) -> str:
    """Which backbones a released file can be for, and how they differ: that is not in its shapes."""
    looks = identify({key: tuple(value.shape) for key, value in checkpoint.tensors.items()})
    told = f"{name} does not say what backbone it is for."
    if looks.front or not looks.families:
        return f"{told} " + (
            f"It looks like {looks}." if str(looks) else f"Its names are those of no backbone that there is here. {LISTED}"
        )
    told += f" It looks like {looks}; how points are grouped is not in it."
    if tuned := put_by_tunings(checkpoint.tensors):
        made = counted(len(tuned), "tensor")
        return f"{told} A tuning put {made} into its model, without which it is not what was trained: take a file from before it."
    there = told_apart(fitting(checkpoint.tensors, looks))
    if not there:
        return f"{told} No preset has these sizes: give {spelled('backbone', sized(looks))}, with its attention heads and its grouping."
    lines = "".join(f"\n  {names}: {differs}" for names, differs in there)
    return f"{told} Name its backbone with {spelled('backbone')}, of one of these:{lines}"


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
