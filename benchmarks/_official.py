"""Run the public Point-MAE file of the caller's checkout on any machine: what it imports is replaced, the file itself is not touched.

Its compiled CUDA operations have no CPU version, so stand-ins of ours do what they do: farthest point sampling and nearest neighbours can be
switched between wisetune's (then only the models differ) and the plain torch loops (then the whole differs). The other stand-ins are those parts
of timm and of the checkout's helpers that the classifier touches.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import _plain
from wisetune.points.neighbours import gather, nearest_neighbours
from wisetune.points.sampling import farthest_points


class Operations:
    """The two geometric operations behind the file's imports."""

    def __init__(self) -> None:
        self.ours()

    def ours(self) -> None:
        """wisetune's: what remains different is the model."""
        self.sample: Callable[[torch.Tensor, int], torch.Tensor] = farthest_points
        self.near: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor] = nearest_neighbours

    def plain(self) -> None:
        """Torch loops, as pasted in codes that run without the compiled operations."""
        self.sample, self.near = _plain.farthest_points, _plain.neighbours


class DroppedPath(nn.Module):
    """timm's layer: one draw a sample, so that equal seeds give wisetune and the file equal draws."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branch, or nothing of it."""
        if not self.training:
            return x
        kept = x.new_empty(len(x), 1, 1).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)


def load(checkout: Path, options: Mapping[str, Any]) -> tuple[nn.Module, Operations]:
    """The classifier of ``CHECKOUT/models/Point_MAE.py`` with these options of its configuration, and the operations it runs on.

    Raises:
        SystemExit: no such file.
    """
    file = checkout / "models" / "Point_MAE.py"
    if not file.is_file():
        raise SystemExit(f"{file} is not there; give --official the folder of a checkout of https://github.com/Pang-Yatian/Point-MAE.")
    operations = Operations()
    with _modules(_stand_ins(operations)):
        described = importlib.util.spec_from_file_location("_official_models.Point_MAE", file)
        if described is None or described.loader is None:
            raise SystemExit(f"{file} cannot be loaded as a Python module.")
        module = importlib.util.module_from_spec(described)
        described.loader.exec_module(module)
    return module.PointTransformer(types.SimpleNamespace(**options)), operations


def _stand_ins(operations: Operations) -> dict[str, types.ModuleType]:
    class Neighbours(nn.Module):
        """KNN_CUDA's class; the file only uses the indices."""

        def __init__(self, k: int, transpose_mode: bool) -> None:
            super().__init__()
            if not transpose_mode:
                raise NotImplementedError("the file lays clouds out as [batch, points, 3]")
            self.count = k

        def forward(self, points: torch.Tensor, queries: torch.Tensor) -> tuple[None, torch.Tensor]:
            return None, operations.near(points, queries, self.count)

    class Registry:
        """Decorates the classes and remembers nothing."""

        @staticmethod
        def register_module() -> Callable[[type], type]:
            return lambda cls: cls

    def fps(points: torch.Tensor, count: int) -> torch.Tensor:
        return gather(points, operations.sample(points, count))

    def silent(*_: object, **__: object) -> str:
        return ""

    misc = _module("utils.misc", fps=fps)
    layers = _module("timm.models.layers", DropPath=DroppedPath, trunc_normal_=nn.init.trunc_normal_)
    models = _module("timm.models", layers=layers)
    messages = {"get_missing_parameters_message": silent, "get_unexpected_parameters_message": silent}
    unused = {"ChamferDistanceL1": nn.Identity, "ChamferDistanceL2": nn.Identity}  # of pre-training
    every = [
        *(misc, layers, models),
        _module("timm", models=models),
        _module("utils", misc=misc),
        _module("utils.checkpoint", **messages),
        _module("utils.logger", print_log=silent),
        _module("knn_cuda", KNN=Neighbours),
        _module("extensions"),
        _module("extensions.chamfer_dist", **unused),
        _module("_official_models"),
        _module("_official_models.build", MODELS=Registry),
    ]
    return {module.__name__: module for module in every}


def _module(name: str, **content: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__path__ = []  # importing below it must find the other stand-ins
    module.__dict__.update(content)
    return module


@contextlib.contextmanager
def _modules(stand_ins: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Modules under these names while the file is loaded; what was there before comes back."""
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
