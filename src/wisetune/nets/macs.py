"""How much a model computes: multiply-accumulates, by two counters that disagree, each by its name.

``published`` is what the papers of this field give: hooks on linear maps and convolutions of the model as released, one for each output value and
input channel. Attention's own products, norms, sampling and neighbours are not counted. ``true`` is what is computed here: every matrix product
that is run, after the algebra that saves some (docs/performance.md), attention's included. Both are of one cloud in eval mode, and need neither
weights nor data: the model is built on the meta device.

A hook sees modules that are called. What is grafted, and heads of part segmentation, may compute with the weights of maps that are not, and say
themselves what these would have been (``wisetune.nets.uncalled``).
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wisetune.nets.backbone import Groups
from wisetune.nets.headed import Headed
from wisetune.nets.parts import PartsHead
from wisetune.nets.segmenter import Segmenter
from wisetune.nets.uncalled import Uncalled

_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class Macs(NamedTuple):
    """Multiply-accumulates of one cloud."""

    published: int
    true: int


def macs(model: Headed) -> Macs:
    """Of a model, or a backbone's features under another head, on one cloud of as many points as its spec says."""
    empty = copy.deepcopy(model).to("meta").eval()
    points = torch.zeros(1, model.backbone.points, 3, device="meta", dtype=next(empty.parameters()).dtype)
    with torch.no_grad():
        groups = empty.group(points)
        with FlopCounterMode(display=False) as counter:
            _answer(empty, groups)
        counted = 0

        def count(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
            del inputs
            nonlocal counted
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            counted += output.numel() * weight[0].numel()

        def count_uncalled(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            nonlocal counted
            assert isinstance(module, Uncalled)
            counted += module.uncalled_macs(*inputs)

        for module in empty.modules():
            if isinstance(module, _MAPS):
                module.register_forward_hook(count)
            if isinstance(module, Uncalled):
                module.register_forward_pre_hook(count_uncalled)
        # A tokenizer that somebody listens to is computed as published.
        _answer(empty, groups)
    return Macs(counted, counter.get_total_flops() // 2)


def _answer(model: Headed, groups: Groups) -> None:
    """Of a cloud its class, or of a cloud of any category the part of each point."""
    if isinstance(model, Segmenter):
        assert isinstance(model.head_spec, PartsHead)
        model.answer(groups, groups[0].new_zeros(1, model.head_spec.categories))
    else:
        model.head(model.encode(groups))
