"""wisetune: robust fine-tuning of pre-trained 3D point-cloud models.

    model = wisetune.create("point-mae", preset="modelnet-1k", classes=40)
    report = wisetune.load_official(model, "modelnet_1k.pth")
    mixed = wisetune.mix(wisetune.resolve("point-mae-mini").load(), wisetune.load_model("tuned.safetensors"), 0.5)
    choice = wisetune.greedy_alpha(wisetune.Curve(alphas, accuracy, robustness))
    classifier = wisetune.Classifier().fit("scans/")

Names are loaded when first used: importing wisetune imports neither torch nor a backbone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wisetune._version import __version__

if TYPE_CHECKING:
    from wisetune.build.estimator import Classifier
    from wisetune.data.tasks import parse_task
    from wisetune.errors import WisetuneError
    from wisetune.measure.part_iou import part_iou
    from wisetune.nets.files.delta import save_delta
    from wisetune.nets.files.load_report import LoadReport
    from wisetune.nets.files.pretrained import resolve
    from wisetune.nets.files.save import save_backbone, save_model
    from wisetune.tune.create import create
    from wisetune.tune.folding import fold
    from wisetune.tune.saved import load_delta, load_model, load_official, official_state
    from wisetune.weights.choose import Choice, Curve, greedy_alpha, interval_alpha
    from wisetune.weights.mix import mix

_HOMES = {
    "Choice": "weights.choose",
    "Classifier": "build.estimator",
    "Curve": "weights.choose",
    "LoadReport": "nets.files.load_report",
    "WisetuneError": "errors",
    "create": "tune.create",
    "fold": "tune.folding",
    "greedy_alpha": "weights.choose",
    "interval_alpha": "weights.choose",
    "load_delta": "tune.saved",
    "load_model": "tune.saved",
    "load_official": "tune.saved",
    "mix": "weights.mix",
    "official_state": "tune.saved",
    "parse_task": "data.tasks",
    "part_iou": "measure.part_iou",
    "resolve": "nets.files.pretrained",
    "save_backbone": "nets.files.save",
    "save_delta": "nets.files.delta",
    "save_model": "nets.files.save",
}

__all__ = [
    "Choice",
    "Classifier",
    "Curve",
    "LoadReport",
    "WisetuneError",
    "__version__",
    "create",
    "fold",
    "greedy_alpha",
    "interval_alpha",
    "load_delta",
    "load_model",
    "load_official",
    "mix",
    "official_state",
    "parse_task",
    "part_iou",
    "resolve",
    "save_backbone",
    "save_delta",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wisetune' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"wisetune.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
