"""Features of tuned models by torch's compiler, which must find one graph.

A program, since the compiler cannot look into what checks shapes in tests.

python one_graph.py eager adapter:rank=4-point-mae-classes ...
"""

from __future__ import annotations

import contextlib
import sys

import cells
import torch
from torch import nn

from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter


class Features(nn.Module):
    """What follows from patches, which are found before: the tokens that a head reads."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, *groups: torch.Tensor) -> list[torch.Tensor]:
        """Of all depths that are read."""
        backbone = self.model.backbone
        if isinstance(self.model, Segmenter):
            return [level.tokens.patch for level in backbone.levels(groups[: backbone.grouped])]
        return [self.model.encode(groups)]


def check(cell: cells.Cell, backend: str) -> None:
    """Compile, compare, and with another backend than ``eager`` differentiate."""
    features = Features(cells.tuned(cell))
    cell.tuning.freeze(features.model)
    groups = features.model.group(cells.CLOUDS)
    torch.compiler.reset()
    with torch.no_grad() if backend == "eager" else contextlib.nullcontext():
        mine = torch.compile(features, fullgraph=True, backend=backend)(*groups)
        theirs = features(*groups)
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    if any(part.requires_grad for part in mine):
        inputs = [value for value in features.parameters() if value.requires_grad]
        both = (torch.autograd.grad(sum(p.square().sum() for p in found), inputs, allow_unused=True) for found in (mine, theirs))
        for ours, wanted in zip(*both, strict=True):
            wanted = torch.zeros_like(ours) if wanted is None and ours is not None else wanted
            torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    backend, *wanted = sys.argv[1:]
    known = {str(cell): cell for cell in cells.EVERY}
    for name in wanted or known:
        print(name, flush=True)
        check(known[name], backend)
