"""Models at their official sizes with grafts, and the rule by which the golden values' weights are made (shared/reference/petl/METHODS.md, 6)."""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wisetune.nets.backbone import build_empty, on_meta
from wisetune.nets.create import BACKBONES, assemble, class_names, parse_any_head
from wisetune.nets.model import Model
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

RELEASED = {
    "pointmae-full-modelnet40": "full",
    "pointmae-full-scanobjectnn": "full",
    "dapt-modelnet40": "dapt:preset=modelnet40",
    "dapt-scan_hardest": "dapt:preset=scan-hardest",
    "dapt-scan_objonly": "dapt:preset=scan-objonly",
    "idpt-modelnet40": "idpt:preset=modelnet40",
    "idpt-scan_hardest": "idpt:preset=scan-hardest",
    "idpt-scan_objbg": "idpt:preset=scan-objbg",
    "idpt-scan_objonly": "idpt:preset=scan-objonly",
    "vptdeep-modelnet40": "vpt:preset=modelnet40",
    "vptdeep-scan_hardest": "vpt:preset=scan-hardest",
}
"""Of the released files whose golden values there are, the tuning that each is of."""


def empty(
    tuning: str, classes: int, *, reading: str = "as_published", preset: str = "scanobjectnn", **options: Any
) -> tuple[Model, Tuning]:
    """A Point-MAE with its head on the meta device, with what the tuning grafts, and the tuning; both in this reading."""
    known = BACKBONES.entry("point-mae").presets()[preset]
    spec = dataclasses.replace(known.backbone, reading=reading, **options)
    backbone, chosen = build_empty(spec), TUNINGS.parse(tuning, {"reading": reading})
    with on_meta():
        chosen.graft_into(Model(backbone, torch.nn.Identity()))
        return assemble(backbone, parse_any_head(known.head), class_names(classes)).eval(), chosen


def fill_live(model: Model, tuning: Tuning) -> Model:
    """Give a model on the meta device the golden weights of its released names, in float64."""
    state = model.state_dict()
    for own, value in state.items():
        if own.endswith(".share"):
            state[own] = torch.ones((), dtype=torch.float64)
        elif value.is_floating_point():
            state[own] = live_value((tuning.released(own) or (own,))[-1], tuple(value.shape)).clone()
        else:
            state[own] = torch.zeros_like(value, device="cpu")
    model.load_state_dict(state, assign=True)
    tuning.freeze(model)
    return model


@functools.lru_cache(maxsize=1000)
def live_value(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The value of a tensor of this released name."""
    n = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = 1 + np.abs(0.1 * n)
    elif leaf == "running_mean":
        value = 0.1 * n
    elif len(shape) >= 2:
        value = n / np.sqrt(np.prod(shape[1:]))
    else:
        value = 0.1 * n + (leaf == "weight" or leaf.startswith("tfts_gamma"))
    return torch.from_numpy(np.asarray(value))


def schema_of(shared: Path, case: str) -> dict[str, Any]:
    """Names and shapes of a released model, and its counts."""
    return json.loads((shared / "reference/petl/schemas" / f"{case}.json").read_text())


def golden_of(shared: Path, case: str) -> dict[str, np.ndarray]:
    """Its golden values."""
    with np.load(shared / "reference/petl/golden" / f"{case}.npz") as file:
        return dict(file)
