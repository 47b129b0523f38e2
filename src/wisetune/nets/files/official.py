"""Released checkpoints into a model: which tensor went where, what was left over, and a refusal when too little fits.

A file that does not belong to a model must not load "a little": strict=False in other codes has silently loaded nothing at all.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wisetune.errors import UsageError, WeightsError, an, counted, first_of, spelled
from wisetune.nets.backbone import Backbone, BackboneSpec, Preset, build_empty
from wisetune.nets.create import BACKBONES, named
from wisetune.nets.files.checkpoint import Checkpoint, read_state
from wisetune.nets.files.identify import PREFIX, Looks, bare, identify
from wisetune.nets.files.kin import Kin, kin_of, way
from wisetune.nets.files.torch_pointcloud import NAME, translate
from wisetune.nets.headed import Headed
from wisetune.nets.segmenter import Segmenter

_SPARE = 0.01
"""The share of a file's backbone that may have no place: codes leave something of their own beside a model's tensors."""
_MOST_NAMED = 6
"""Presets that a message names."""
_FEW, _MOST_OUTPUTS = 2, 1_000_000
_TUNED = ("adapter", "dgcnn_cls", "lora_", "prompt", "tfts_")
"""What stands in the names of what tunings put into a model; without it the rest of their files is not the function that was trained."""


class Tuned:
    """What is known of released files of models into which tunings grafted; ``tune.saved`` knows it. By itself nothing.

    ``places`` has, of each tensor that was grafted into the model and that such files hold, its names there; the last is the one that counts.
    ``notes`` says what such a file was trained with and this model does not do.
    """

    places: Mapping[str, tuple[str, ...]] = types.MappingProxyType({})
    notes: tuple[str, ...] = ()

    def refusal(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Why a file with these shapes is none of what was grafted into this model; empty where it is, or is of no tuning."""
        del shapes
        return ""


_OF_PARTS = ("propagation", "label_conv")
"""What names in every released part segmentation head begin with, and in nothing else."""
PARTS_LEFT_OUT = "this is a part segmentation model's file; its encoder is used, and its head left out"


def head_left_out(outputs: int) -> str:
    """What is said of a file whose classification head is not used."""
    return f"its classification head ({counted(outputs, 'output')}) is left out"


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What a checkpoint gave a model. ``coverage`` is the share of the backbone's pre-trainable values that the file had."""

    source: str
    layout: str
    prefix: str
    loaded: dict[str, str]
    """Name in the model: name in the file, without ``prefix``."""
    fresh: tuple[str, ...]
    ignored: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """Name in the model, shape in the file, shape in the model; only a head's can be here, which then is fresh as a whole."""
    coverage: float
    family: str = ""
    """Whose encoder it is, where that is another family's than the model's."""
    notes: tuple[str, ...] = ()
    """What these weights are not, in this model, and a head that was left out."""
    names: str = ""
    """Whose names the file has, where they are not the released ones."""
    mistyped: tuple[tuple[str, str, str], ...] = ()
    """Name in the model, type of its numbers in the file, type in the model; only a head's, as with ``mismatched``."""

    def __str__(self) -> str:
        of = f", names of {self.names}" if self.names else ""
        lines = [
            f"{self.source}: {_share(self.coverage)} of the backbone's values found (layout {self.layout}, prefix '{self.prefix}'{of})"
        ]
        for title, names in (("loaded", self.loaded), ("fresh", self.fresh), ("ignored", self.ignored)):
            lines.append(f"  {title:<10} {len(names):>4}  {_by_part(names)}")
        for name, found, wanted in self.mismatched:
            lines.append(f"  {'other size':<10}       {name}: {_shape(found)} in the file, {_shape(wanted)} here")
        lines += [f"  {'other type':<10}       {name}: {found} in the file, {wanted} here" for name, found, wanted in self.mistyped]
        lines += [f"  {'note':<10}       {note}" for note in self.notes]
        return "\n".join(lines)


def load_official(
    model: Headed | Backbone,
    source: str | Path | Mapping[str, Tensor],
    *,
    min_coverage: float = 1.0,
    family: str | None = None,
    tuned: Tuned | None = None,
) -> LoadReport:
    """Load a released checkpoint in place, converted to the model's dtype and device.

    Leading ``module.`` is stripped, the names of torch-pointcloud are turned into the released ones, then the backbone renames each key. A
    head loads as a whole or, when its classes or layers differ, not at all. So does what a tuning grafted: with all of it from a file of a model
    tuned so (``wisetune.load_official``), or fresh, from one that was not tuned.

    Args:
        model: a model, or a backbone alone (heads in the file are then left out).
        source: a file (see ``read_state``) or a state dict.
        min_coverage: the least share of the backbone's values that the file must have. All, by default: a layer that is missing may have few
            values and makes another function. Lower, what is missing stays fresh and the report's notes name it.
        family: whose file it is, where the model is to begin with another family's encoder: ``recon`` with a ``point-mae``. What of it has no
            counterpart is left out, and the report's notes say what such weights are not. Without it such a file is refused.
        tuned: what is known of files of tuned models.

    Raises:
        BadFile: the file cannot be read as weights.
        WeightsError: it is not this model's: too little fits, shapes differ, two keys want one place, or values are not finite. The model
            is then as it was.
        UsageError: no model, neither a file nor a state dict, or a family whose encoder is another architecture.
    """
    if not isinstance(model, (Headed, Backbone)) or not isinstance(source, (str, Path, Mapping)):
        raise UsageError(
            f"load_official was given {type(model).__name__} and {type(source).__name__}; it takes a model or backbone, then the file (or its "
            "state dict) to load into it: wisetune.load_official(model, 'pretrain.pth')."
        )
    if isinstance(source, (str, Path)):
        label, checkpoint = Path(source).name, read_state(source)
    else:
        label, checkpoint = "the state dict", Checkpoint(_tensors(source), {}, "plain")
    return load_checkpoint(model, label, checkpoint, min_coverage=min_coverage, family=family, tuned=tuned)


def load_checkpoint(
    model: Headed | Backbone,
    label: str,
    checkpoint: Checkpoint,
    *,
    min_coverage: float = 1.0,
    family: str | None = None,
    tuned: Tuned | None = None,
) -> LoadReport:
    """As ``load_official``, of a file that was read already; ``label`` is what messages call it."""
    if isinstance(min_coverage, bool) or not isinstance(min_coverage, (int, float)) or not 0 <= min_coverage <= 1:
        raise UsageError(
            f"min_coverage is {min_coverage!r}; it is a share of the backbone's values, from 0 to 1. 1, the default, takes nothing less than all."
        )
    found, called, prefix = under_released_names(label, checkpoint.tensors)
    match = _Match(label, model, found, family, called, tuned or Tuned())
    report = match.report(checkpoint, prefix)
    match.refuse_unfit(min_coverage)
    with torch.no_grad():
        for target, key in match.loaded.items():
            match.targets[target].copy_(found[key])
    return report


def _tensors(source: Mapping[str, object]) -> dict[str, Tensor]:
    """What a caller gave as a state dict, arrays as tensors.

    Raises:
        UsageError: it holds something else.
    """
    found: dict[str, Tensor] = {}
    for name, value in source.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor):
            inside = f" Give what is in it: checkpoint['{name}']." if isinstance(value, Mapping) else ""
            raise UsageError(f"the state dict has a {type(value).__name__} as '{name}'; it takes tensors by name.{inside}")
        found[name] = value
    return found


def fitting(found: Mapping[str, Tensor], looks: Looks) -> dict[str, Preset]:
    """The presets, by one word, whose backbones these tensors fill; names as in a file, those of torch-pointcloud too."""
    released, _, _ = under_released_names("", found)
    shapes = _on_meta(released)
    return {
        name: preset
        for family, sizes in looks.families.items()
        if not looks.front
        for name, preset in named(family).items()
        if _sized(preset.backbone, sizes) and _fits(build_empty(preset.backbone), shapes)
    }


def outputs_of(model_of: Callable[[int], Headed], found: Mapping[str, Tensor]) -> int | None:
    """How many outputs the head in a file has, where it is the one of these models, which are given by that number; None where it is not."""

    def match(outputs: int) -> _Match:
        return _Match("", model_of(outputs), found, None, {}, Tuned())

    few = match(_FEW)
    there = {shape[:1] for name, shape, _ in few.mismatched if name.startswith(few.head_prefixes)} or {(_FEW,)}
    outputs = next(iter(there), ())
    if len(there) > 1 or not outputs or not 1 <= outputs[0] <= _MOST_OUTPUTS:
        return None
    whole = match(outputs[0])
    left = any((whole.renamed(key) or "").startswith(whole.head_prefixes) for key in whole.ignored)
    return outputs[0] if not left and any(name.startswith(whole.head_prefixes) for name in whole.loaded) else None


def put_by_tunings(names: Iterable[str]) -> list[str]:
    """Those of names in a file that are of what a tuning put into its model."""
    return [name for name in names if any(word in name.lower() for word in _TUNED)]


def _on_meta(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.to("meta") for key, value in found.items()}


def _fits(model: Headed | Backbone, found: Mapping[str, Tensor], family: str | None = None) -> bool:
    try:
        return not _Match("", model, found, family, {}, Tuned()).why_not(1.0)
    except WeightsError:  # two tensors for one place
        return False


def _sized(spec: BackboneSpec, sizes: Mapping[str, object]) -> bool:
    """Whether a spec has these options; a class token says nothing, as it may be fresh, or left out."""
    told = {"token_width": None, **sizes}
    return all(getattr(spec, name, value) == value for name, value in told.items() if name != "class_token")


def under_released_names(label: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Tensors under the released names, without what DataParallel puts in front; of each translated one the name in the file; what was in front.

    Raises:
        WeightsError: two tensors for one name.
    """
    found = {bare(key): value for key, value in tensors.items()}
    if len(found) < len(tensors):
        raise WeightsError(f"{label} has keys that differ only by a leading '{PREFIX}'; give a file that holds one model.")
    renamed, called = translate(found)
    if len(renamed) < len(found):
        raise WeightsError(f"{label} has two tensors for one place under the names of {NAME}; give a file that holds one model.")
    return renamed, called, PREFIX if any(key.startswith(PREFIX) for key in tensors) else ""


class _Match:
    """Which tensor of a checkpoint goes where."""

    def __init__(
        self,
        label: str,
        model: Headed | Backbone,
        found: Mapping[str, Tensor],
        family: str | None,
        called: Mapping[str, str],
        tuned: Tuned,
    ) -> None:
        self.label, self.model, self.found, self.family, self.called = label, model, found, family, called
        self.shapes = {key: tuple(value.shape) for key, value in found.items()}
        self.backbone = model.backbone if isinstance(model, Headed) else model
        self.kin = kin_of(self.backbone, family) if family is not None else None
        self.tuned = tuned
        self.grafts = {theirs: (own, order) for own, names in tuned.places.items() for order, theirs in enumerate(names)}
        self.of_tuned = any(key in self.grafts for key in found)
        self.grafted = {name for graft in self.backbone.grafts for name in graft.names} - (set(tuned.places) if self.of_tuned else set())
        """Of what was grafted into the model, what the file does not hold."""
        self.twice: list[str] = []
        self.targets: dict[str, Tensor] = model.state_dict()
        self.loaded: dict[str, str] = {}
        self.ignored: list[str] = []
        self.homeless: list[str] = []
        self.mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self.mistyped: list[tuple[str, str, str]] = []
        self.head_prefixes = model.head_prefixes if isinstance(model, Headed) else (self.backbone.head_name + ".",)
        if self.kin is not None:
            self._refuse_others(self.kin)
        for key, value in found.items():
            self._place(key, value)
        self._head_whole_or_not()

    def _place(self, key: str, value: Tensor) -> None:
        target = self.renamed(key)
        if target is None or target not in self.targets:
            self.ignored.append(key)
            own = target is None or target.startswith((*self.head_prefixes, *self.backbone.spare))
            if not (own or (self.kin is not None and target is not None and self.kin.leaves(target))):
                self.homeless.append(key)
            return
        if target in self.loaded and key in self.grafts and (other := self.loaded[target]) in self.grafts:
            first, last = sorted((other, key), key=lambda name: self.grafts[name][1])
            if not torch.equal(self.found[first], value if last == key else self.found[last]):
                self.twice.append(f"{first} and {last} are one tensor and have different values; those of {last} are taken, as torch does")
            self.loaded[target] = last
            return
        if target in self.loaded:
            raise WeightsError(f"{self.label} has both '{self.loaded[target]}' and '{key}', which are the same place; it holds two models.")
        wanted = self.targets[target]
        if value.shape != wanted.shape:
            self.mismatched.append((target, tuple(value.shape), tuple(wanted.shape)))
        # A float's place takes any float and nothing else, and a counter's any whole number.
        elif value.is_floating_point() != wanted.is_floating_point():
            self.mistyped.append((target, str(value.dtype), str(wanted.dtype)))
        self.loaded[target] = key

    def renamed(self, key: str) -> str | None:
        """Where a tensor of the file belongs in the model; None for what it has no place for."""
        if key in self.grafts:
            return self.grafts[key][0]
        if isinstance(self.model, Segmenter) and (own := self.model.unreleased(key)) is not None:
            return self.model.released(own)
        return (self.kin.lender if self.kin else self.backbone).rename(key)

    def _head_whole_or_not(self) -> None:
        wanted = [name for name in self.targets if name.startswith(self.head_prefixes) and not name.endswith("num_batches_tracked")]
        wrong = {name for name, _, _ in (*self.mismatched, *self.mistyped)}
        if any(name.startswith(self.head_prefixes) for name in wrong) or any(name not in self.loaded for name in wanted):
            for name in [name for name in self.loaded if name.startswith(self.head_prefixes)]:
                self.ignored.append(self.loaded.pop(name))

    def report(self, checkpoint: Checkpoint, prefix: str) -> LoadReport:
        order = list(self.found)
        return LoadReport(
            source=self.label,
            layout=checkpoint.layout,
            prefix=prefix,
            loaded={target: self.called.get(key, key) for target, key in self.loaded.items()},
            fresh=tuple(name for name in self.targets if name not in self.loaded and not (self.of_tuned and name in self.grafted)),
            ignored=tuple(self.called.get(key, key) for key in sorted(self.ignored, key=order.index)),
            mismatched=tuple(self.mismatched),
            mistyped=tuple(self.mistyped),
            coverage=self._coverage(),
            family=self.kin.family if self.kin else "",
            notes=(
                *(self.kin.notes if self.kin else ()),
                *(self.tuned.notes if self.of_tuned else ()),
                *self.twice,
                *self._left_out(),
                *self._missing(),
                *self._others(),
            ),
            names=NAME if self.called else "",
        )

    def _left_out(self) -> Iterator[str]:
        """A head that the model has no place for is told of: who gave the file may have meant to keep it."""
        if any(key.startswith(_OF_PARTS) for key in self.ignored):
            yield PARTS_LEFT_OUT
            return
        prefix = (self.kin.lender if self.kin else self.backbone).head_name + "."
        maps = [self.shapes[key] for key in self.found if key in self.ignored and (self.renamed(key) or "").startswith(prefix)]
        outputs = [shape[0] for shape in maps if len(shape) == 2]
        if outputs:
            yield head_left_out(outputs[-1])

    def _expected(self) -> dict[str, int]:
        """How many values the parameters have that the file should hold, by name."""
        without = {*self.backbone.anatomy.fresh, *self.grafted}
        return {name: value.numel() for name, value in self.backbone.named_parameters() if name not in without}

    def _absent(self) -> list[str]:
        """What the backbone has of pre-training and the file has not."""
        return [name for name in self._expected() if name not in self.loaded]

    def _missing(self) -> Iterator[str]:
        """Few values may be a whole layer: what stays fresh and is not declared to be so is told."""
        if absent := self._absent():
            yield (
                f"{counted(len(absent), 'tensor')} of the backbone {'is' if len(absent) == 1 else 'are'} not in it and fresh, so that this is not the "
                f"function that was trained: {first_of(absent)}"
            )

    def _others(self) -> Iterator[str]:
        """A file that looks like another family's alone: families that share names differ in how they cut patches."""
        # Where names and sizes are those of several, the model's among them, whoever named the model has said whose it is.
        if self.family is not None or self.of_tuned:
            return
        looks, own = identify(self.shapes), self.backbone.spec.name
        if looks.families and own not in looks.families and not looks.front:
            whose = " or ".join(looks.families)
            yield f"its names and sizes are those of {whose}, and it is read as {an(own)}; {spelled('family', own)} says that it is one"

    def _coverage(self) -> float:
        values = self._expected()
        return sum(count for name, count in values.items() if name in self.loaded) / sum(values.values())

    def why_not(self, min_coverage: float) -> str:
        """Why the file is not this backbone's; empty where it is."""
        if why := self.tuned.refusal(self.shapes):
            return why
        mismatched = [wrong for wrong in self.mismatched if not wrong[0].startswith(self.head_prefixes)]
        if mismatched:
            shown = "; ".join(f"{name} is {_shape(found)} in the file and {_shape(wanted)} here" for name, found, wanted in mismatched[:3])
            return f"{len(mismatched)} of its tensors have another size: {shown}"
        mistyped = [wrong for wrong in self.mistyped if not wrong[0].startswith(self.head_prefixes)]
        if mistyped:
            shown = "; ".join(f"{name} is {found} in the file and {wanted} here" for name, found, wanted in mistyped[:3])
            return f"{len(mistyped)} of its tensors hold numbers of another type: {shown}; convert them first"
        if not any(name in self.loaded for name, _ in self.backbone.named_parameters()):
            return f"none of its {len(self.found)} tensors has a place in {self.backbone.spec}"
        coverage = self._coverage()
        if coverage < min_coverage:
            absent = self._absent()
            apart = ", which pre-training files have and those of classifiers have not" if _all_begin(absent, self.backbone.spare) else ""
            return f"it has {_share(coverage)} of the backbone's values, not {_share(min_coverage)}; missing: {_by_part(absent)}{apart}"
        put = put_by_tunings(self.homeless)
        if put:
            return f"a tuning put {counted(len(put), 'tensor')} into its model for which there is no place here: {_by_part(put)}"
        if self.of_tuned and (wrong := self._other_readout()):
            return wrong
        lost = sum(self.found[key].numel() for key in self.homeless)
        kept = sum(self.targets[name].numel() for name in self.loaded if not name.startswith(self.head_prefixes))
        if lost > max(_SPARE, 1 - min_coverage) * (lost + kept):
            return f"{len(self.homeless)} of its tensors have no place in {self.backbone.spec}: {_by_part(self.homeless)}"
        return self._half_norm()

    def refuse_unfit(self, min_coverage: float) -> None:
        """Raise WeightsError unless the file is this backbone's."""
        if why := self.why_not(min_coverage):
            raise self._refusal(why)
        self._refuse_not_finite()

    def _other_readout(self) -> str:
        """A tuned model's head sees what its tuning makes it see: one for more or fewer numbers is of another tuning, not of other classes."""
        width = self.backbone.feature_width
        for name, found, wanted in self.mismatched:
            if name.startswith(self.head_prefixes) and len(found) == len(wanted) == 2 and wanted[1] == width != found[1]:
                return f"its head sees {found[1]} numbers of a cloud, and here it would see {width}: the tuning has another readout"
        return ""

    def _refuse_others(self, kin: Kin) -> None:
        if BACKBONES.entry(kin.family).sizes(self.shapes) is None:
            raise self._refusal(f"{spelled('family', kin.family)} was given, and it is none of that family's")

    def _half_norm(self) -> str:
        """A norm's weights without its statistics would load, run, and be wrong."""
        for name, value in self.backbone.named_buffers():
            if value.is_floating_point() and name not in self.loaded and name.rpartition(".")[0] + ".weight" in self.loaded:
                return f"it has the weights of a BatchNorm but not its statistics '{name}'"
        return ""

    def _refuse_not_finite(self) -> None:
        bad = [key for key in self.loaded.values() if not torch.isfinite(self.found[key]).all()]
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise WeightsError(f"{self.label} has values that are not finite, in '{bad[0]}'{more}: its training diverged.")

    def _refusal(self, why: str) -> WeightsError:
        """With whose file it seems to be, how this model could begin with it, and the presets that it fits."""
        looks, spec = identify(self.shapes), self.backbone.spec
        told = "" if spec.name in looks.families and not looks.front and _sized(spec, looks.families[spec.name]) else str(looks)
        told = f" It looks like {told}." if told else ""
        if self.kin is None:
            told += way(self.backbone, looks, lambda backbone, family: _fits(backbone, _on_meta(self.found), family))
        there = [name for name in fitting(self.found, looks) if spec.name not in looks.families or name.startswith(f"{spec.name}-")]
        told += f" It fits {first_of(there, _MOST_NAMED)}." if there else ""
        return WeightsError(f"{self.label} does not fit this {spec.name}: {why}.{told} Nothing was loaded.")


def _all_begin(names: Sequence[str], starts: tuple[str, ...]) -> bool:
    return bool(names and starts) and all(name.startswith(starts) for name in names)


def _by_part(names: Iterable[str]) -> str:
    parts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(part if count == 1 else f"{part} ({count})" for part, count in parts.items()) or "-"


def _share(part: float) -> str:
    """In percent; what is not all is never called 100."""
    return f"{math.floor(part * 1000) / 10:.1f}%"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
