"""Every tuning on every family of backbones, for classes and for parts: small, with weights as if trained, and made once."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import NamedTuple

import torch

from net_samples import TINY_OPTIONS, cloud
from wisetune.nets.backbone import Backbone, BackboneSpec
from wisetune.nets.create import BACKBONES, assemble, fresh_backbone, parse_any_head
from wisetune.nets.families.act import ACTSpec
from wisetune.nets.families.maskpoint import MaskPointSpec
from wisetune.nets.families.point_bert import PointBERTSpec
from wisetune.nets.families.point_m2ae import PointM2AESpec
from wisetune.nets.families.point_mae import PointMAESpec
from wisetune.nets.families.recon import ReConSpec
from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

_SMALL = {**TINY_OPTIONS, "initial": "fan-in"}
_MADE = {**_SMALL, "token_width": 12}
_PYRAMID = PointM2AESpec(
    points=64,
    groups=(10, 8, 6),
    group_sizes=(8, 4, 4),
    widths=(8, 12, 16),
    depths=(1, 2, 1),
    heads=2,
    tokenizer=(6, 8, 10),
    initial="fan-in",
)


class Kind(NamedTuple):
    """A backbone and a head that reads it."""

    spec: BackboneSpec
    head: str


KINDS: dict[str, dict[str, Kind]] = {
    "act": {
        "classes": Kind(ACTSpec(**_SMALL), "linear"),
        "parts": Kind(ACTSpec(**_SMALL, class_token=False, readout="max+mean"), "parts:categories=3"),
    },
    "maskpoint": {
        "classes": Kind(MaskPointSpec(**_MADE), "linear"),
        "parts": Kind(MaskPointSpec(**_MADE), "parts:categories=3"),
    },
    "point-bert": {
        "classes": Kind(PointBERTSpec(**_MADE), "linear"),
        "parts": Kind(PointBERTSpec(**_MADE, segments=True), "parts-graph:categories=3,fine=20,middle=12"),
    },
    "point-m2ae": {
        "classes": Kind(_PYRAMID, "linear"),
        "parts": Kind(dataclasses.replace(_PYRAMID, norm="each"), "parts-pyramid:categories=3"),
    },
    "point-mae": {
        "classes": Kind(PointMAESpec(**_SMALL), "linear"),
        "parts": Kind(PointMAESpec(**_SMALL, class_token=False, readout="max+mean"), "parts:categories=3"),
    },
    "recon": {
        "classes": Kind(ReConSpec(**_SMALL), "linear"),
        "parts": Kind(ReConSpec(**_SMALL), "parts:categories=3,leads=true"),
    },
}
"""A new family must be added here."""
assert set(KINDS) == set(BACKBONES.names())

_SIZES = {"rank": 4, "length": 3, "prompts": 2}


def small(name: str) -> Tuning:
    """A tuning of the catalog, no wider than these backbones."""
    kind = TUNINGS.entry(name)
    return kind(**{field.name: _SIZES[field.name] for field in dataclasses.fields(kind) if field.name in _SIZES})


TUNINGS_HERE = [small(name) for name in TUNINGS.names()]
OTHERS = [
    TUNINGS.parse(text)
    for text in (
        "adapter:rank=3,after=mlp",
        "bitfit:biases=all",
        "dapt:rank=3,reading=as_published",
        "dapt:rank=3,readout=tokens",
        "idpt:layer=0",
        "idpt:reading=as_published",
        "lora:rank=2,alpha=4,at=qkv+proj+fc1+fc2",
        "lora:rank=2,at=q+k+v+qkv",
        "prefix:length=3,hidden=5",
        "vpt:prompts=2,deep=false",
    )
]
"""Settings that go another way."""


class Cell(NamedTuple):
    """One tuning on one backbone for one kind of head."""

    tuning: Tuning
    family: str
    kind: str

    def __str__(self) -> str:
        return f"{self.tuning}-{self.family}-{self.kind}"


EVERY = [Cell(tuning, family, kind) for tuning in TUNINGS_HERE for family in KINDS for kind in KINDS[family]]
EVERY += [Cell(tuning, family, kind) for tuning in OTHERS for family in ("point-mae", "point-m2ae", "recon") for kind in KINDS[family]]

CLOUDS = cloud(3, 3, 64)
LABELS = torch.tensor([0, 2, 1])


@functools.cache
def _untuned(family: str, kind: str) -> Model:
    spec, head = KINDS[family][kind]
    backbone = fresh_backbone(spec, 0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        backbone.train()
        for seed in range(3):  # statistics that are not their initial values
            backbone(cloud(seed, 4, 64))
    return assemble(backbone, parse_any_head(head), ("a", "b", "c")).eval()


def untuned(cell: Cell) -> Model:
    """The model before the tuning, with a head that has seen nothing."""
    return copy.deepcopy(_untuned(cell.family, cell.kind))


def start(cell: Cell) -> Backbone:
    """The backbone that it begins with; do not change it."""
    return _untuned(cell.family, cell.kind).backbone


def grafted(cell: Cell) -> Model:
    """The model before training."""
    model = untuned(cell)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        cell.tuning.graft_into(model)
        return assemble(model.backbone, model.head_spec, model.classes).eval()  # a head is built upon what was grafted


@functools.cache
def _tuned(cell: Cell) -> Model:
    model = grafted(cell)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in cell.tuning.trained(model).values():
            value += 0.05 * torch.randn(value.shape, generator=random)
        for name, value in model.backbone.named_parameters():
            if name.endswith("adapter.scale.bias"):
                value.fill_(3.0)  # DAPT's gates, some of which would be closed for every token
    return model


def tuned(cell: Cell) -> Model:
    """The model as if training had moved what trains."""
    return copy.deepcopy(_tuned(cell))


def answer(model: Model, points: torch.Tensor = CLOUDS, labels: torch.Tensor = LABELS) -> torch.Tensor:
    """Logits."""
    return model(points, labels[: len(points)]) if isinstance(model, Segmenter) else model(points)


def seen(model: Model, before: Model, points: torch.Tensor = CLOUDS) -> torch.Tensor:
    """What a head reads of the backbone that it reads of the backbone before tuning too."""
    with torch.no_grad():
        groups = model.group(points)[: model.backbone.grouped]
        if isinstance(model, Segmenter):
            tokens = [level.tokens for level in model.backbone.levels(groups)]
            return torch.cat([part.flatten(1) for found in tokens for part in (found.lead, found.patch)], dim=1)
        return before.backbone.pool(model.backbone.encode(groups))


def logits(model: Model, points: torch.Tensor = CLOUDS) -> torch.Tensor:
    """Logits, without a gradient."""
    with torch.no_grad():
        return answer(model, points)
