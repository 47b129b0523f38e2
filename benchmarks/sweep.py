"""Features of the same clouds under the weights of a sweep along alpha: patches found once for all of them, and found again for each.

python -m benchmarks.sweep [--threads 2] [--rounds 5] [--keep-memory] [--json FILE]
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from benchmarks._timing import arguments, check, compare, prepare, report
from wisetune.nets.create import create
from wisetune.nets.features import FeatureBank
from wisetune.nets.headed import Headed

_ALPHAS = tuple(step / 10 for step in range(11))
_MINI = "point-mae:width=128,depth=6,heads=4,tokenizer=32+64+128,class-token=false,readout=max+mean,initial=fan-in"
# name, backbone, clouds, points of each
_FULL = (
    ("mini", f"{_MINI},groups=32", 64, 1024),
    ("mini, 512 patches", f"{_MINI},groups=512,points=8192", 8, 8192),
    ("official size", "point-mae", 8, 1024),
)
_TINY = (("tiny", "point-mae:width=16,depth=1,heads=2,groups=8,group-size=8", 4, 128),)


def main() -> None:
    """Run every size."""
    options = arguments(__doc__ or "").parse_args()
    prepare(options)
    results = []
    for name, backbone, clouds, number in _TINY if options.smoke else _FULL:
        start, tuned = (create(backbone, classes=2, seed=seed) for seed in (0, 1))
        points = np.random.default_rng(0).standard_normal((clouds, number, 3), dtype=np.float32)
        models = [_mixed(start, tuned, alpha) for alpha in _ALPHAS]

        def sweep(again: bool, models: list[Headed] = models, points: np.ndarray = points) -> np.ndarray:
            bank = FeatureBank(torch.device("cpu"))
            found = []
            for alpha, model in zip(_ALPHAS, models, strict=True):
                found.append(bank.features(model, str(alpha), points, "clouds"))
                if again:
                    bank.forget_points("clouds")
            return np.stack(found)

        check(f"features of {name}", float(np.abs(sweep(False) - sweep(True)).max()), 0.0)
        title = f"{len(_ALPHAS)} alphas, {name}, {clouds} x {number}"
        results.append(compare(title, lambda sweep=sweep: sweep(False), lambda sweep=sweep: sweep(True), options.rounds))
    report(options, results)


@torch.no_grad()
def _mixed(start: Headed, tuned: Headed, alpha: float) -> Headed:
    mixed = copy.deepcopy(start)
    for mine, theirs in zip(mixed.parameters(), tuned.parameters(), strict=True):
        mine.lerp_(theirs, alpha)
    return mixed


if __name__ == "__main__":
    main()
