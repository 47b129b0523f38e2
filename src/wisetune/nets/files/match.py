"""Which tensor of a released checkpoint goes where in a model, and why a file is none of that model's."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from wisetune.errors import WeightsError, an, counted, first_of, spelled
from wisetune.nets.backbone import Backbone
from wisetune.nets.create import BACKBONES
from wisetune.nets.files.checkpoint import Checkpoint
from wisetune.nets.files.identify import identify
from wisetune.nets.files.kin import kin_of
from wisetune.nets.files.load_report import LoadReport, by_part, dimensions, percent
from wisetune.nets.files.torch_pointcloud import NAME
from wisetune.nets.headed import Headed
from wisetune.nets.segmenter import Segmenter

_SPARE = 0.01
"""The share of a file's backbone that may have no place: codes leave something of their own beside a model's tensors, not in its blocks."""
_TUNED = ("adapter", "dgcnn_cls", "lora_", "prompt", "tfts_")
"""Words of the field for what a tuning puts into a model, for a message that says so: without it the rest of a file is not what was trained.

They are of methods too that are no tuning here, and are asked where none is known: of a file whose backbone nobody has named. A file without
these words is refused as well where any tensor of its blocks has no place.
"""


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


class Match:
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
        """``label`` is what messages call the file, ``called`` of translated tensors the names in it.

        Raises:
            WeightsError: two tensors for one place.
            UsageError: a family whose encoder is another architecture.
        """
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
        self.inside: list[str] = []
        """Of these what stands in blocks."""
        self.mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self.mistyped: list[tuple[str, str, str]] = []
        self.head_prefixes = model.head_prefixes if isinstance(model, Headed) else (self.backbone.head_name + ".",)
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
                if target.startswith(tuple(f"{stage.blocks}." for stage in self.backbone.anatomy.stages)):
                    self.inside.append(key)
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
        """What of the file goes where, whether or not it is enough."""
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
        if self.kin is not None and BACKBONES.entry(self.kin.family).sizes(self.shapes) is None:
            return f"{spelled('family', self.kin.family)} was given, and it is none of that family's"
        if why := self.tuned.refusal(self.shapes):
            return why
        mismatched = [wrong for wrong in self.mismatched if not wrong[0].startswith(self.head_prefixes)]
        if mismatched:
            shown = "; ".join(
                f"{name} is {dimensions(found)} in the file and {dimensions(wanted)} here" for name, found, wanted in mismatched[:3]
            )
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
            return f"it has {percent(coverage)} of the backbone's values, not {percent(min_coverage)}; missing: {by_part(absent)}{apart}"
        put = put_by_tunings(self.homeless)
        if put:
            return f"a tuning put {counted(len(put), 'tensor')} into its model for which there is no place here: {by_part(put)}"
        if self.of_tuned and (wrong := self._other_readout()):
            return wrong
        lost = sum(self.found[key].numel() for key in self.homeless)
        kept = sum(self.targets[name].numel() for name in self.loaded if not name.startswith(self.head_prefixes))
        if lost > max(_SPARE, 1 - min_coverage) * (lost + kept):
            return f"{len(self.homeless)} of its tensors have no place in {self.backbone.spec}: {by_part(self.homeless)}"
        if self.inside:
            return f"{len(self.inside)} of its tensors are in blocks, and have no place in {self.backbone.spec}: {first_of(self.inside)}"
        return self._half_norm()

    def _other_readout(self) -> str:
        """A tuned model's head sees what its tuning makes it see: one for more or fewer numbers is of another tuning, not of other classes."""
        width = self.backbone.feature_width
        for name, found, wanted in self.mismatched:
            if name.startswith(self.head_prefixes) and len(found) == len(wanted) == 2 and wanted[1] == width != found[1]:
                return f"its head sees {found[1]} numbers of a cloud, and here it would see {width}: the tuning has another readout"
        return ""

    def _half_norm(self) -> str:
        """A norm's weights without its statistics would load, run, and be wrong."""
        for name, value in self.backbone.named_buffers():
            if value.is_floating_point() and name not in self.loaded and name.rpartition(".")[0] + ".weight" in self.loaded:
                return f"it has the weights of a BatchNorm but not its statistics '{name}'"
        return ""

    def refuse_not_finite(self) -> None:
        """Raise WeightsError where values that would be loaded are not finite."""
        bad = [key for key in self.loaded.values() if not torch.isfinite(self.found[key]).all()]
        if bad:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise WeightsError(f"{self.label} has values that are not finite, in '{bad[0]}'{more}: its training diverged.")


def put_by_tunings(names: Iterable[str]) -> list[str]:
    """Those of names in a file that are of what a tuning put into its model."""
    return [name for name in names if any(word in name.lower() for word in _TUNED)]


def _all_begin(names: Sequence[str], starts: tuple[str, ...]) -> bool:
    return bool(names and starts) and all(name.startswith(starts) for name in names)
