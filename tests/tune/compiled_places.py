"""A model with a tuning's grafts, compiled, against itself: in a process of its own, without the checks of shapes, which no compiler sees through."""

from __future__ import annotations

import dataclasses
import sys

import torch

import restated
from wisetune.tune.tunings import TUNINGS


def main(text: str) -> None:
    tuning = TUNINGS.parse(text)
    for kind in (restated.KINDS["recon"], restated.KINDS["pyramid"]):
        model = restated.tuned(tuning, dataclasses.replace(kind, drop_path=0.0))
        tuning.freeze(model)
        model.backbone.get_submodule(model.backbone.anatomy.stages[0].blocks).get_submodule(tuning.slot).train()
        groups, found = model.group(restated.clouds()), []
        torch.compiler.reset()
        for encode in (torch.compile(model.encode, fullgraph=True, backend="eager"), model.encode):
            model.zero_grad()
            features = encode(groups)
            features.square().sum().backward()
            found.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None} | {"": features})
        for name in {*found[0], *found[1]}:
            torch.testing.assert_close(
                found[0][name], found[1][name], rtol=1e-8, atol=1e-8, msg=lambda said, at=(kind.name, name): f"{at}: {said}"
            )


if __name__ == "__main__":
    main(sys.argv[1])
