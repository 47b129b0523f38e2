"""A training step by each tuning beside one of full fine-tuning, an epoch of linear probing on features that were kept, and one of IDPT on tokens.

python -m benchmarks.tunings [--backbone point-mae-modelnet-1k] [--batch 8] [--threads 2] [--rounds 5] [--keep-memory] [--json FILE]

A step is the forward pass from patches that were found before, the backward pass, and AdamW. The ratio is how many times less than full fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks._timing import Comparison, arguments, compare, prepare, report
from wisetune.fit.entered import entered
from wisetune.nets.backbone import Groups
from wisetune.nets.create import class_names, parse_backbone, parse_head
from wisetune.nets.model import Model
from wisetune.tune.full import FULL
from wisetune.tune.idpt import IDPT
from wisetune.tune.linear import Linear
from wisetune.tune.tuned import tuned_model
from wisetune.tune.tuning import Tuning, resting
from wisetune.tune.tunings import TUNINGS

_TINY = "point-mae:width=64,depth=2,heads=2,groups=24,group-size=8,points=128"
_CLASSES = 40


def main() -> None:
    """Run every tuning of the catalog."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--backbone", default="point-mae-modelnet-1k", help="by itself the official size at 1024 points")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=TUNINGS.names(), help="tunings, by itself all")
    options = parser.parse_args()
    prepare(options)
    backbone, batch = (_TINY, 4) if options.smoke else (options.backbone, options.batch)
    torch.manual_seed(0)
    points = torch.randn(batch, parse_backbone(backbone).build().points, 3)
    full, results = _step(FULL, backbone, points), list[Comparison]()
    for name in options.only:
        tuning = TUNINGS.parse(name)
        if tuning != FULL:
            results.append(compare(f"step by {tuning}", _step(tuning, backbone, points), full, options.rounds))
    results.append(_probing(backbone, points, options.rounds))
    results.append(_late(backbone, points, options.rounds))
    report(options, results)


def _model(tuning: Tuning, backbone: str) -> Model:
    torch.manual_seed(0)
    model = tuned_model(parse_backbone(backbone).build(), tuning, parse_head("mlp3"), class_names(_CLASSES)).eval()
    assert isinstance(model, Model)
    return model


def _step(tuning: Tuning, backbone: str, points: torch.Tensor) -> Callable[[], float]:
    """A step of a model of its own; its loss, of which a benchmark makes sure that it is a number."""
    model = _model(tuning, backbone)
    optimiser = torch.optim.AdamW(tuning.freeze(model).values(), lr=1e-4)
    for module in tuning.in_training(model):
        module.train()
    groups, labels = model.group(points), torch.arange(len(points)) % _CLASSES
    return lambda: _train(model, optimiser, lambda: _features(model, groups, moves=tuning.moves_features), labels)


def _features(model: Model, groups: Groups, *, moves: bool) -> torch.Tensor:
    with torch.set_grad_enabled(moves):
        return model.encode(groups)


def _train(model: Model, optimiser: torch.optim.Optimizer, features: Callable[[], torch.Tensor], labels: torch.Tensor) -> float:
    loss = F.cross_entropy(model.head(features()), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    return float(loss.detach())


def _probing(backbone: str, points: torch.Tensor, rounds: int) -> Comparison:
    """Linear probing of these clouds, once over all: from features that were kept, and computed again."""
    model = _model(Linear(), backbone)
    optimiser = torch.optim.AdamW(Linear().freeze(model).values(), lr=1e-4)
    model.head.train()
    groups, labels = model.group(points), torch.arange(len(points)) % _CLASSES
    features = _features(model, groups, moves=False)

    def kept() -> float:
        return _train(model, optimiser, lambda: features, labels)

    def computed_again() -> float:
        return _train(model, optimiser, lambda: _features(model, groups, moves=False), labels)

    return compare("probing, features kept", kept, computed_again, rounds)


def _late(backbone: str, points: torch.Tensor, rounds: int) -> Comparison:
    """IDPT of these clouds, once over all: from what enters its block, which was kept, and from their patches."""
    tuning = IDPT(class_token=False)
    model = _model(tuning, backbone)
    optimiser = torch.optim.AdamW(tuning.freeze(model).values(), lr=1e-4)
    groups, labels = model.group(points), torch.arange(len(points)) % _CLASSES
    first = resting(tuning, model)
    kept = entered(model, groups, first, len(points))
    assert kept is not None
    rows, device = torch.arange(len(points)).flip(0), points.device
    groups = tuple(column[rows] for column in groups)
    assert torch.equal(model.encode(groups, kept.of(rows, device)), model.encode(groups)), "not the same bits"
    for module in tuning.in_training(model):
        module.train()

    of = kept.of

    def from_kept() -> float:
        return _train(model, optimiser, lambda: model.encode(groups, of(rows, device)), labels)

    def computed_again() -> float:
        return _train(model, optimiser, lambda: model.encode(groups), labels)

    return compare(f"idpt, what enters block {first} kept", from_kept, computed_again, rounds)


if __name__ == "__main__":
    main()
