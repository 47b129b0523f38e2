"""Folding: a model whose weights do by themselves what a tuning grafted, so that it costs and is stored as any other."""

from __future__ import annotations

import copy

from wisetune.errors import UsageError
from wisetune.nets.backbone import build_empty
from wisetune.nets.grafts import told, unexplained
from wisetune.nets.headed import Headed
from wisetune.tune.tunings import TUNINGS


def fold(model: Headed) -> Headed:
    """A model without the grafts of this one, whose weights do in eval mode what these did, up to rounding. The model itself stays as it is.

    LoRA and SSF become weights; prefixes made by a map become prefixes. One without grafts (BitFit's, full fine-tuning's) is copied.

    Raises:
        UsageError: what was grafted is no change of weights, was grafted by several tunings, or by none that is known.
    """
    backbone = model.backbone
    if len(backbone.grafts) > 1 or unexplained(backbone):
        raise UsageError(f"this model has {told(backbone)} grafted into it; it is folded where one tuning grafted. Keep its grafts.")
    plain = build_empty(backbone.spec)
    state = backbone.state_dict()
    plain.load_state_dict({name: state[name].clone() for name in plain.state_dict()}, assign=True)
    plain.train(backbone.training)
    folded = copy.deepcopy(model, {id(backbone): plain})
    for graft in backbone.grafts:
        TUNINGS.parse_imported(graft.tuning).fold(model, folded)
    return folded
