"""Small backbones, clouds, and the rule by which the golden values' weights are made (shared/reference/backbones/GOLDEN.md)."""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wisetune.nets.backbone import Backbone
from wisetune.nets.families.point_mae import PointMAESpec
from wisetune.nets.model import Model

TINY_OPTIONS = {"points": 64, "groups": 8, "group_size": 8, "width": 16, "depth": 2, "heads": 2, "tokenizer": (6, 8, 10)}
TINY = PointMAESpec(**TINY_OPTIONS)
TINY_PLAIN = dataclasses.replace(TINY, class_token=False, readout="max+mean", initial="fan-in")


def cloud(seed: int, b: int, n: int) -> torch.Tensor:
    points = np.random.Generator(np.random.PCG64(seed)).standard_normal((b, n, 3))
    points -= points.mean(axis=1, keepdims=True)
    points /= np.linalg.norm(points, axis=2).max(axis=1)[:, None, None]
    return torch.from_numpy(points.astype(np.float32))


def schema(shared: Path, name: str) -> dict[str, tuple[int, ...]]:
    file = json.loads((shared / "reference/backbones/schemas" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in file["state_dict"].items()}


@functools.lru_cache(maxsize=400)
def golden_value(name: str, shape: tuple[int, ...], rule: str) -> torch.Tensor:
    z = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(size=shape)
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.long)
    if last == "running_var":
        z = 1 + abs(0.02 * z)
    elif last == "running_mean":
        z = 0.02 * z
    elif last == "weight" and len(shape) == 1:
        z = 1 + 0.02 * z
    elif rule == "std02":
        z = 0.02 * z
    elif len(shape) >= 2:
        z = z / np.sqrt(np.prod(shape[1:]))
    else:
        z = 0.1 * z
    return torch.from_numpy(z.astype(np.float32))


def fill(model: nn.Module, rule: str, prefix: str = "") -> nn.Module:
    """Give a model (also one on the meta device) the golden weights of its names."""
    state = {name: golden_value(prefix + name, tuple(value.shape), rule) for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def same_state(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


UNUSED = {"h_encoder.encoder_norms.0", "h_encoder.encoder_norms.1"}
"""Of a pyramid that was built without them: they norm what only Point-M2AE's decoder and part segmentation see."""
Seen = dict[str, list[torch.Tensor]]


def by_rule(*names: str, rule: str):
    """A case of golden values. Under ``std02`` the tokenizer all but vanishes, so that it says little beside ``fanin``: it is for the slow tests."""
    return pytest.param((*names, rule), id="-".join((*names, rule)), marks=[pytest.mark.slow] if rule == "std02" else [])


@functools.cache
def golden_file(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"reference/backbones/golden/{name}.npz") as file:
        return dict(file)


def watch(model: Backbone | Model, golden: dict[str, np.ndarray], at: str, find: Callable[[str], nn.Module]) -> Seen:
    """What every module gave that the golden values know, call by call, and every block."""
    seen: Seen = {"blocks": []}
    backbone = model if isinstance(model, Backbone) else model.backbone

    def keep(name: str):
        return lambda _module, _inputs, output: seen.setdefault(name, []).append(output)

    named = {key.removeprefix(at).partition(":")[0] for key in golden if key.startswith(at) and ":" in key}
    assert named
    there = dict(backbone.named_modules())
    for name in named - {name for name in UNUSED if name not in there}:
        find(name).register_forward_hook(keep(name))
    for site in backbone.anatomy.sites:
        backbone.get_submodule(site.block).register_forward_hook(keep("blocks"))
    return seen


def summary(values: torch.Tensor) -> list[float]:
    values = values.double()
    return [float(values.mean()), float(values.std(correction=0)), float(values.abs().max())]
