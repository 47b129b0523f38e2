"""A classifier at its official size (preset modelnet-1k): inference, training step and memory, against the public file of its family.

python -m benchmarks.backbones [FAMILY] --official CHECKOUT [--threads 2] [--rounds 5] [--keep-memory] [--json FILE] [--only inference] [--whole]

Without a checkout the peer is plain torch: of Point-MAE at any size, of the others in the smoke run, which times nothing that is reported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import _plain
from benchmarks._memory import highest
from benchmarks._official import FAMILIES, DroppedPath, Operations, load
from benchmarks._timing import Comparison, arguments, check, compare, prepare, report
from wisetune.nets.create import BACKBONES, create, with_options
from wisetune.nets.model import Model
from wisetune.nets.transformer import DropPath
from wisetune.points.neighbours import gather
from wisetune.points.sampling import farthest_points

_CLASSES = 40
_BATCH = 32
_TINY_PLAIN: dict[str, object] = {"points": 128, "groups": 8, "depth": 2}
_TINY: dict[str, dict[str, object]] = {
    "point-m2ae": {"points": 128, "groups": (32, 16, 8), "group_sizes": (8, 4, 4), "depths": (1, 2, 1)},
}
"""Of each family that is no plain transformer the sizes of its smoke run."""
_TINY_BATCH = 4
_RUNNER = {1024: (8192, 1200), 128: (256, 160)}
"""Points of a file, and of them the farthest points of which the official runner draws the model's points anew in every step."""


def main() -> None:
    """Run what the options say."""
    parser = arguments(__doc__ or "")
    parser.add_argument("family", nargs="?", choices=list(FAMILIES), default="point-mae")
    parser.add_argument("--official", type=Path, help="a checkout of the family's public repository; without it, plain torch (Point-MAE)")
    parser.add_argument("--batch", type=int, default=_BATCH)
    parser.add_argument("--only", choices=("inference", "training"))
    parser.add_argument("--whole", action="store_true", help="also with sampling and neighbours by torch loops on the other side")
    options = parser.parse_args()
    if options.official is None and options.family != "point-mae" and not options.smoke:
        raise SystemExit(f"give --official the folder of a checkout of https://github.com/{FAMILIES[options.family].repository}.")
    prepare(options)
    torch.manual_seed(0)
    batch = _TINY_BATCH if options.smoke else options.batch
    model = classifier(options.family, tiny=options.smoke)
    peer, operations = opposite(model, options.family, options.official)
    points, labels = torch.randn(batch, model.backbone.points, 3) / 3, torch.arange(batch) % _CLASSES
    who = "the public file" if options.official else "plain torch"
    results: list[Comparison] = []
    memory: list[dict[str, object] | None] = []

    check_inference(model, peer, points)
    if options.only != "training":
        ours, theirs = _inference(model, points), _inference(peer, points)
        results.append(compare(f"inference, model only, {who}", ours, theirs, options.rounds))
        memory.append(highest("inference", ours, theirs))
    if options.only != "inference":
        ours, theirs = _training(model, points, labels), _training(peer, points, labels)
        results.append(compare(f"training step, model only, {who}", ours, theirs, options.rounds))
        memory.append(highest("training step", ours, theirs))
    if options.whole or options.smoke:
        operations.plain()
        results += _whole(model, peer, batch, labels, options.rounds)
        operations.ours()
    check_training(model, peer, points[:4], labels[:4])  # last: the memory that it leaves behind would change what comes after it
    report(options, results, batch=batch, memory=[row for row in memory if row is not None])


def classifier(family: str, *, tiny: bool = False) -> Model:
    """Ours, as published, with weights as large as trained ones."""
    chosen = BACKBONES.entry(family).presets()["modelnet-1k"]
    spec = with_options(chosen.backbone, _TINY.get(family, _TINY_PLAIN) if tiny else {})
    model = create(str(spec), classes=_CLASSES, head=chosen.head, reading="as_published")
    assert isinstance(model, Model)
    _spread(model)
    return model


def opposite(model: Model, family: str, checkout: Path | None) -> tuple[nn.Module, Operations]:
    """The other side with the same weights, and the operations it runs on."""
    if checkout is None:
        return _plain.plain_model(model), Operations(model.backbone.sampling)
    peer, operations = load(family, checkout, model.backbone.spec, _CLASSES, model.backbone.sampling)
    peer.load_state_dict(model.state_dict())
    rates = [module.rate for module in model.modules() if isinstance(module, DropPath) and module.rate > 0]
    layers = [module for module in peer.modules() if isinstance(module, DroppedPath)]
    for layer, rate in zip(layers, rates, strict=True):
        layer.rate = rate  # the files round their rates to float32, which a comparison in float64 would show
    return peer, operations


@torch.no_grad()
def _spread(model: nn.Module) -> None:
    """Weights as large as trained ones: under the published initial values the tokenizer's signal all but vanishes, and any result agrees."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.add_(torch.randn_like(parameter) * 0.1)


def check_inference(model: nn.Module, peer: nn.Module, points: torch.Tensor) -> None:
    """Stop where the two sides' logits differ."""
    ours, theirs = _inference(model, points)(), _inference(peer, points)()
    check("logits, float32", float((ours - theirs).abs().max() / theirs.abs().max()), 2e-5)


def check_training(model: nn.Module, peer: nn.Module, points: torch.Tensor, labels: torch.Tensor) -> None:
    """Stop where their gradients or running statistics differ.

    In float64, because in float32 a near-tie in a maximum sends either side's gradient to another row than the truth.
    """
    found: list[dict[str, torch.Tensor]] = []
    for side in (model, peer):
        twin = copy.deepcopy(side).double().train()
        torch.manual_seed(1)  # both draw drop path and dropout in the same order
        F.cross_entropy(twin(points.double()), labels).backward()
        named = twin.state_dict(keep_vars=True)
        found.append({name: value.grad for name, value in named.items() if value.grad is not None})
        found[-1] |= {name: value.detach() for name, value in named.items() if "running" in name}
    ours, theirs = found
    if ours.keys() != theirs.keys():
        raise SystemExit(f"gradients of different parameters: {sorted(ours.keys() ^ theirs.keys())}")
    # A bias before a BatchNorm has no gradient but rounding: measured against the others, not against itself.
    floor = 1e-3 * max(float(value.abs().max()) for value in theirs.values())
    error = max(float((ours[name] - value).abs().max()) / max(float(value.abs().max()), floor) for name, value in theirs.items())
    check(f"gradients and running statistics, float64, {len(ours)} tensors", error, 1e-9)


def _inference(model: nn.Module, points: torch.Tensor) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(points)

    return run


def _training(
    model: nn.Module, points: torch.Tensor, labels: torch.Tensor, sample: Callable[[torch.Tensor, int], torch.Tensor] | None = None
) -> Callable[[], None]:
    """One step; with ``sample``, the official runner's draw of points before it."""
    twin = copy.deepcopy(model).train()
    optimiser = torch.optim.AdamW(twin.parameters(), lr=5e-4, weight_decay=0.05, fused=True)
    drawn = next((number for number, (stored, _) in _RUNNER.items() if stored == points.shape[1]), 0)

    def run() -> None:
        cloud = points
        if sample is not None:
            chosen = sample(points, _RUNNER[drawn][1])[:, torch.randperm(_RUNNER[drawn][1])[:drawn]]
            cloud = gather(points, chosen)
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(twin(cloud), labels).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 10.0)
        optimiser.step()

    return run


def _whole(model: Model, peer: nn.Module, batch: int, labels: torch.Tensor, rounds: int) -> list[Comparison]:
    """The file with its compiled operations replaced by torch loops, as who has no CUDA would run it today."""
    number = model.backbone.points
    points, stored = torch.randn(batch, number, 3) / 3, torch.randn(batch, _RUNNER[number][0], 3) / 3
    ours, theirs = _training(model, stored, labels, farthest_points), _training(peer, stored, labels, _plain.farthest_points)
    return [
        compare("inference, torch loops", _inference(model, points), _inference(peer, points), rounds),
        compare("training step, torch loops", _training(model, points, labels), _training(peer, points, labels), rounds),
        compare("training step with the runner's sampling", ours, theirs, rounds),
    ]


if __name__ == "__main__":
    main()
