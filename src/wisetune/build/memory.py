"""The memory that tunings of one backbone train with, side by side, full fine-tuning among them: what ``wisetune memory`` says."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from wisetune.errors import UsageError, naming
from wisetune.measure.training_memory import Attention, TrainingMemory, training_memory
from wisetune.nets.backbone import build_empty
from wisetune.nets.create import class_names, headed, parse_any_head, parse_backbone, preset_called
from wisetune.nets.headed import Headed
from wisetune.nets.heads import Head
from wisetune.nets.model import Model
from wisetune.nets.parts import PartsHead
from wisetune.nets.segmenter import Segmenter
from wisetune.tune.full import Full
from wisetune.tune.tuned import refusal, tuned_model, without_values
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

ALL = "all"
"""In place of a tuning: every one of the catalog, as it is by default."""
CLASSES = 40
_HEAD = "mlp3"
_MOST = 1 << 16


@dataclasses.dataclass(frozen=True)
class MemoryTable:
    """Tunings of one model and what each asks for, full fine-tuning first; ``left_out`` are those that this model refused, and why.

    ``classes`` are those of a classifier, or the parts that a part segmentation model tells apart (``parts``).
    """

    backbone: str
    points: int
    head: str
    classes: int
    batch: int
    attention: Attention
    recompute: bool
    parts: bool
    memory: dict[str, TrainingMemory]
    left_out: dict[str, str]

    @property
    def full(self) -> TrainingMemory:
        """Full fine-tuning's."""
        return next(iter(self.memory.values()))

    def to_json(self) -> dict[str, Any]:
        """As plain data; sizes in bytes."""
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "memory"}
        return told | {"tunings": [self._row(name, one) for name, one in self.memory.items()]}

    def _row(self, name: str, one: TrainingMemory) -> dict[str, Any]:
        return {
            "tuning": name,
            "trainable": one.trainable,
            "peak": one.peak,
            "peak_against_full": self.against_full(one),
            "held": one.held,
            "saved_a_cloud": round(one.saved),
            "weights": one.weights,
            "inputs": one.inputs,
            "gradients": one.gradients,
            "moments": one.moments,
        }

    def against_full(self, one: TrainingMemory) -> float:
        """How much more than full fine-tuning's its peak is, in parts of that."""
        return one.peak / self.full.peak - 1


def compare_memory(
    methods: Sequence[str],
    backbone: str,
    *,
    batch: int = 512,
    classes: int | None = None,
    head: str | None = None,
    attention: Attention = "fused",
    recompute: bool = False,
) -> MemoryTable:
    """What training by each of these methods asks for.

    Args:
        methods: tunings with their options (``linear``), or ``all``; full fine-tuning is always there.
        backbone: one, or a preset in one word (``point-mae-scanobjectnn``).
        batch: clouds of a step.
        classes: how many, or how many parts where the head is of parts; by itself the preset's, or 40.
        head: by itself the preset's, or mlp3.
        attention: how it is computed.
        recompute: whether blocks are computed again in the backward pass.

    Raises:
        UsageError: a name, option or number that does not exist or does not fit.
    """
    if batch < 2:
        raise UsageError(f"--batch is {batch}; a training step takes at least 2 clouds: BatchNorm compares them.")
    if batch > _MOST:
        raise UsageError(f"--batch is {batch:,}; at most {_MOST:,} clouds are counted. What is saved grows with the batch: ask for fewer.")
    with naming("--backbone"):
        spec, preset = parse_backbone(backbone), preset_called(backbone)
    with naming("--head" if head else ""):
        head_spec = parse_any_head(head or (preset.head if preset else _HEAD))
    with naming("--classes" if classes is not None else ""):
        names = class_names(classes if classes is not None else (preset.classes if preset else None) or CLASSES)
    model = headed(build_empty(spec), head_spec, names, 0)
    memory, left_out = dict[str, TrainingMemory](), dict[str, str]()
    for tuning, asked in _tunings(methods).items():
        why = "" if asked else _not_for(tuning, head_spec) or refusal(tuning, spec, head_spec)
        if why:
            left_out[str(tuning)] = why
        else:
            memory[str(tuning)] = memory_of(tuning, model, batch, attention, recompute=recompute)
    points = model.backbone.points
    return MemoryTable(
        str(spec), points, str(head_spec), len(names), batch, attention, recompute, isinstance(model, Segmenter), memory, left_out
    )


def memory_of(tuning: Tuning, model: Headed, batch: int, attention: Attention = "fused", *, recompute: bool = False) -> TrainingMemory:
    """What training a model by one tuning asks for; the model, on any device, stays as it is.

    Raises:
        UsageError: it cannot be grafted into this backbone, or reads values while it runs.
    """
    empty = grafted(tuning, model)
    with without_values(
        f"'{tuning}' reads values while it runs", "So its memory cannot be told from shapes alone; measure it on a device."
    ):
        return training_memory(
            empty,
            tuning.trained(empty),
            batch,
            in_training=tuning.in_training(empty),
            moves_features=tuning.moves_features,
            attention=attention,
            recompute=recompute,
        )


def grafted(tuning: Tuning, model: Headed) -> Model | Segmenter:
    """A copy of a model as this tuning trains it, on the meta device, with the head that it would have.

    Raises:
        UsageError: it cannot be grafted into this backbone, or reads values.
    """
    assert model.head_spec is not None
    return tuned_model(copy.deepcopy(model.backbone).to("meta"), tuning, parse_any_head(str(model.head_spec)), model.classes)


def _not_for(tuning: Tuning, head: Head | PartsHead) -> str:
    """Why a tuning is none of all ways to tune a model with such a head; empty where it is one."""
    return f"it was made for part segmentation, and '{head}' is a head of classes" if tuning.of_parts and isinstance(head, Head) else ""


def _tunings(methods: Sequence[str]) -> dict[Tuning, bool]:
    """Full fine-tuning and then these, each once, and whether it was asked for by name."""
    if not methods:
        raise UsageError(f"no METHOD was given. There are: {', '.join(TUNINGS.names())}; or {ALL} for all of them.")
    found: dict[Tuning, bool] = {Full(): True}
    for method in methods:
        if method == ALL:
            found = {TUNINGS.parse(name): False for name in TUNINGS.names()} | found
        else:
            found |= {TUNINGS.parse(method): True}
    return {Full(): True} | found
