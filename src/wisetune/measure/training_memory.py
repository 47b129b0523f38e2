"""How much memory one training step asks for, from ``meta`` tensors: on any machine, in seconds, before a GPU is rented.

A float32 step on a batch is run without values: forward, cross-entropy, backward. What its tensors hold is counted (``_ledger``), with the
weights and AdamW's two moments of every value that trains, in place from the start. Patches are found beforehand, as they depend on the clouds alone.
It is the code of a GPU that is run. Not counted: the optimiser's own step (one to two times the trained values, when all else is gone), data that
wait, and what an allocator adds. On a CPU the tokenizer keeps less (``nets/linear_max.py``).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Container, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from wisetune.measure._ledger import Attention, Ledger, as_on_a_gpu
from wisetune.nets.backbone import Groups
from wisetune.nets.headed import Headed
from wisetune.nets.segmenter import Segmenter
from wisetune.nets.transformer import set_recompute

_MOMENTS = 2
"""Of AdamW, for each value that trains."""


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """Of one step; all but ``trainable``, a number of values, in bytes. ``held`` after forward and ``peak`` are of everything together."""

    batch: int
    attention: Attention
    trainable: int
    weights: int
    inputs: int
    gradients: int
    moments: int
    held: int
    peak: int

    @property
    def saved(self) -> float:
        """What one sample's forward pass keeps for the backward pass."""
        return (self.held - self.weights - self.inputs - self.moments) / self.batch


def training_memory(
    model: Headed,
    parameters: Container[str],
    batch: int,
    *,
    in_training: Sequence[nn.Module] | None = None,
    moves_features: bool = True,
    attention: Attention = "fused",
    recompute: bool = False,
) -> TrainingMemory:
    """Of a model, which stays as it is, on clouds of as many points as its backbone takes.

    Args:
        model: a classifier or a part segmentation model, on any device.
        parameters: names of those that train; all others are frozen.
        batch: clouds of a step.
        in_training: the modules in training mode, with all that is in them; by default all, and the head alone where features do not move.
        moves_features: whether training changes what the head sees; where it does not, there is no graph before the head.
        attention: how it is computed.
        recompute: whether blocks are computed again in the backward pass (activation checkpointing).
    """
    names = {module: name for name, module in model.named_modules()}
    if in_training is None:
        in_training = [model] if moves_features else [model.head]
    training = [names[module] for module in in_training]
    empty = copy.deepcopy(model).to("meta").eval()
    for name in training:
        empty.get_submodule(name).train()
    for name, value in empty.named_parameters():
        value.requires_grad_(name in parameters)
        value.grad = None
    set_recompute(empty, recompute)
    groups = _groups(empty, batch)
    target, category = (torch.zeros(batch, dtype=torch.int64, device="meta") for _ in range(2))
    chosen = [value for value in empty.parameters() if value.requires_grad]
    own = sum(value.numel() * value.element_size() for value in chosen)
    moments = _MOMENTS * own
    with Ledger() as ledger, as_on_a_gpu(attention):
        weights = ledger.hold([*empty.parameters(), *empty.buffers()])
        inputs = ledger.hold([*groups, target, category])
        loss = _loss(empty, groups, target, category, moves_features)
        held = ledger.live
        if loss.requires_grad:
            loss.backward()
    trainable = sum(value.numel() for value in chosen)
    return TrainingMemory(batch, attention, trainable, weights, inputs, own, moments, held + moments, ledger.peak + moments)


def _groups(model: Headed, batch: int) -> Groups:
    """Patches of so many clouds; they all have the shapes of one cloud's."""
    with torch.no_grad():
        one = model.group(torch.empty(1, model.backbone.points, 3, device="meta", dtype=next(model.parameters()).dtype))
    return tuple(part.new_empty(batch, *part.shape[1:]) for part in one)


def _loss(model: Headed, groups: Groups, target: torch.Tensor, category: torch.Tensor, moves_features: bool) -> torch.Tensor:
    """Of one step, as ``fit`` computes it."""
    if isinstance(model, Segmenter):
        logits = model.answer(groups, category).transpose(1, 2)
        return F.cross_entropy(logits, target[:, None].expand(-1, logits.shape[2]))
    with torch.set_grad_enabled(moves_features):
        features = model.encode(groups)
    return F.cross_entropy(model.head(features), target)
