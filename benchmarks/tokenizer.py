"""The mini-PointNet alone against its plain form (convolutions, BatchNorm, joining, maximum): needs no checkout.

python -m benchmarks.tokenizer [--threads 2] [--rounds 5] [--keep-memory] [--json FILE]
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from benchmarks._plain import plain_tokenizer
from benchmarks._timing import arguments, check, compare, prepare, report
from wisetune.nets.tokenizer import MiniPointNet

_FULL, _TINY = (32, 64, 32), (2, 4, 8)
"""Clouds, patches of each, points of a patch."""


def main() -> None:
    """Eval and training pass."""
    options = arguments(__doc__ or "").parse_args()
    prepare(options)
    torch.manual_seed(0)
    ours = MiniPointNet(384)
    peer = plain_tokenizer(ours)
    offsets = torch.randn(*(_TINY if options.smoke else _FULL), 3) * 0.1
    outward = torch.randn(*offsets.shape[:2], 384)

    mine, other = _inference(ours, offsets)(), _inference(peer, offsets)()
    check("tokens, float32", float((mine - other).abs().max() / other.abs().max()), 2e-5)
    few, to_few = offsets[:2, :8].double(), outward[:2, :8].double()
    found = [_training(copy.deepcopy(side).double(), few, to_few)() for side in (ours, peer)]
    # A bias before a BatchNorm has no gradient but rounding: measured against the others, not against itself.
    floor = 1e-3 * max(float(value.abs().max()) for value in found[1])
    error = max(float((a - b).abs().max()) / max(float(b.abs().max()), floor) for a, b in zip(*found, strict=True))
    check("gradients, float64", error, 1e-9)

    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {"eval": (_inference(ours, offsets), _inference(peer, offsets))}
    pairs["training, forward and backward"] = (_training(ours, offsets, outward), _training(peer, offsets, outward))
    results = [compare(f"tokenizer, {name}", a, b, options.rounds) for name, (a, b) in pairs.items()]
    report(options, results)


def _inference(net: nn.Module, offsets: torch.Tensor) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return net.eval()(offsets)

    return run


def _training(net: nn.Module, offsets: torch.Tensor, outward: torch.Tensor) -> Callable[[], list[torch.Tensor]]:
    def run() -> list[torch.Tensor]:
        net.train().zero_grad()
        net(offsets).backward(outward)
        return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]

    return run


if __name__ == "__main__":
    main()
