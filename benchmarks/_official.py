"""Run the public classifiers of the caller's checkouts on any machine: what they import is replaced, the files themselves are not touched.

Their compiled CUDA operations have no CPU version, so stand-ins of ours do what they do: farthest point sampling and nearest neighbours can be
switched between wisetune's (then only the models differ) and the plain torch loops (then the whole differs). Point-BERT's own torch search for
neighbours stays what it is. The other stand-ins are those parts of timm and of the checkouts' helpers that a classifier touches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import _plain
from wisetune.points.neighbours import gather, nearest_neighbours
from wisetune.points.sampling import SamplingRule, farthest_points


class Operations:
    """The two geometric operations behind the files' imports."""

    def __init__(self, rule: SamplingRule = "intended") -> None:
        self.rule: SamplingRule = rule
        self.ours()

    def ours(self) -> None:
        """wisetune's: what remains different is the model."""
        self.sample: Callable[[torch.Tensor, int], torch.Tensor] = lambda points, count: farthest_points(points, count, self.rule)
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


@dataclasses.dataclass(frozen=True)
class Family:
    """Where a family's public classifier is: repository, file below ``models``, class, and the options of its configuration."""

    repository: str
    file: str
    cls: str
    options: Callable[[Any], dict[str, Any]]


class Options(types.SimpleNamespace):
    """What easydict makes of a configuration file."""

    def get(self, name: str, default: object = None) -> object:
        """As a dict's."""
        return getattr(self, name, default)


def _of_plain(spec: Any) -> dict[str, Any]:
    own = {"depth": spec.depth, "num_heads": spec.heads, "num_group": spec.groups, "group_size": spec.group_size}
    widths = {"trans_dim": spec.width, "embed_dim": spec.width, "encoder_dims": spec.token_width or spec.width}
    return own | widths | {"type": "full", "transfer_type": "full", "cls_head_arch": "1x"}


def _of_pyramid(spec: Any) -> dict[str, Any]:
    levels = {"num_groups": spec.groups, "group_sizes": spec.group_sizes, "encoder_dims": spec.widths, "encoder_depths": spec.depths}
    return {name: list(value) for name, value in levels.items()} | {
        "local_radius": list(spec.radii),
        "num_heads": spec.heads,
        "smooth": 0.3,
    }


FAMILIES = {
    "point-mae": Family("Pang-Yatian/Point-MAE", "Point_MAE", "PointTransformer", _of_plain),
    "point-bert": Family("lulutang0608/Point-BERT", "Point_BERT", "PointTransformer", _of_plain),
    "maskpoint": Family("haotian-liu/MaskPoint", "MaskPoint", "PointTransformer", _of_plain),
    "act": Family("RunpeiDong/ACT", "act", "PointTransformer", _of_plain),
    "recon": Family("qizekun/ReCon", "transformer", "PointTransformer", _of_plain),
    "point-m2ae": Family("ZrrSkywalker/Point-M2AE", "Point_M2AE_Finetune", "Point_M2AE_ModelNet40", _of_pyramid),
}


def load(family: str, checkout: Path, spec: Any, classes: int, rule: SamplingRule) -> tuple[nn.Module, Operations]:
    """A family's public classifier from a checkout, of the sizes of our spec, and the operations it runs on.

    Raises:
        SystemExit: no such file.
    """
    known = FAMILIES[family]
    folder = checkout / "models"
    file = folder / f"{known.file}.py"
    if not file.is_file():
        raise SystemExit(f"{file} is not there; give --official the folder of a checkout of https://github.com/{known.repository}.")
    operations = Operations(rule)
    options = known.options(spec) | {"drop_path_rate": spec.drop_path, "cls_dim": classes}
    with _modules(_stand_ins(operations, folder)), _anything():
        module = importlib.import_module(f"models.{known.file}")
        return getattr(module, known.cls)(Options(**options)), operations


def _stand_ins(operations: Operations, folder: Path) -> dict[str, types.ModuleType]:
    class Neighbours(nn.Module):
        """KNN_CUDA's class; the files only use the indices."""

        def __init__(self, k: int, transpose_mode: bool) -> None:
            super().__init__()
            self.count, self.rows = k, transpose_mode

        def forward(self, points: torch.Tensor, queries: torch.Tensor) -> tuple[None, torch.Tensor]:
            if not self.rows:
                raise NotImplementedError("the classifiers lay clouds out as [batch, points, 3]")
            return None, operations.near(points, queries, self.count)

    class Registry:
        """Decorates the classes and remembers nothing."""

        @staticmethod
        def register_module() -> Callable[[type], type]:
            return lambda cls: cls

    class PointOps:
        """MaskPoint's own operations."""

        @staticmethod
        def fps(points: torch.Tensor, count: int) -> torch.Tensor:
            return fps(points, count)

        @staticmethod
        def knn(queries: torch.Tensor, points: torch.Tensor, count: int) -> tuple[torch.Tensor]:
            return (operations.near(points, queries, count),)

        index_points = staticmethod(gather)

    def fps(points: torch.Tensor, count: int) -> torch.Tensor:
        return gather(points, operations.sample(points, count))

    def knn_point(count: int, points: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        return nearest_neighbours(points, queries, count, "expanded")

    def silent(*_: object, **__: object) -> str:
        return ""

    misc = _module("utils.misc", fps=fps)
    layers = _module("timm.models.layers", DropPath=DroppedPath, trunc_normal_=nn.init.trunc_normal_)
    timm_models = _module("timm.models", layers=layers)
    messages = {"get_missing_parameters_message": silent, "get_unexpected_parameters_message": silent}
    unused = {"ChamferDistanceL1": nn.Identity, "ChamferDistanceL2": nn.Identity}  # of pre-training
    public = _module("models")
    public.__path__ = [str(folder)]
    every = [
        *(misc, layers, timm_models, public),
        _module("timm", models=timm_models),
        _module("utils", misc=misc),
        _module("utils.checkpoint", **messages),
        _module("utils.logger", print_log=silent),
        _module("utils.knn", knn_point=knn_point),
        _module("knn_cuda", KNN=Neighbours),
        _module("extensions"),
        _module("extensions.chamfer_dist", **unused),
        _module("extensions.pointops"),
        _module("extensions.pointops.functions", pointops=PointOps),
        _module("models.build", MODELS=Registry),
    ]
    return {module.__name__: module for module in every}


def _module(name: str, **content: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__path__ = []  # importing below it must find the other stand-ins
    module.__dict__.update(content)
    return module


@contextlib.contextmanager
def _modules(stand_ins: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Modules under these names while a file is loaded; what was there before comes back, and the public modules go."""
    before = dict(sys.modules)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name in stand_ins or name.startswith("models.")]:
            del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name in stand_ins or name.startswith("models.")})


class _Absent(types.ModuleType):
    """A module that the public files import for what a classifier does not use; any name in it is a class that does nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return nn.Identity


class _Absents(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nobody else did."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is in it."""


@contextlib.contextmanager
def _anything() -> Iterator[None]:
    finder = _Absents()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Absent)]:
            del sys.modules[name]
