"""Two tunings in one model: each one's gradients, and the backbone's, are those of finite differences, whoever grafted first."""

from __future__ import annotations

import itertools

import cells
import pytest
import torch
import torch.nn.functional as F
from cells import CLOUDS, TUNINGS_HERE, Cell

from wisetune.errors import UsageError
from wisetune.nets.headed import Headed
from wisetune.tune.full import FULL
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

LORA = TUNINGS.parse("lora:rank=2,at=proj+fc2")
"""Behind the very maps that scale and shift compute again."""
SSF, DAPT = TUNINGS.parse("ssf"), TUNINGS.parse("dapt:rank=4")
FEW = [(LORA, SSF), (LORA, DAPT), (SSF, DAPT), (DAPT, SSF), (TUNINGS.parse("ppt:rank=4"), SSF)]
CHOSEN = [
    # As intended its scores learn by a gradient that is none of what it computes.
    TUNINGS.parse(f"{tuning},reading=as_published,penalty=0") if tuning.name == "pointlora" else tuning
    for tuning in (*TUNINGS_HERE, LORA)
    if type(tuning).graft is not Tuning.graft
]
PAIRS = list(dict.fromkeys([*FEW, *itertools.permutations(CHOSEN, 2)]))
DOUBLE = CLOUDS.double()
FAR = 1e-4


def both(first: Tuning, second: Tuning, family: str) -> Headed:
    """Grafted in turn, with values as if trained; all of it trains on."""
    model, random = cells.untuned(Cell(FULL, family, "classes")), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for tuning in (first, second):
            tuning.graft_into(model)
        model = cells.assemble(model.backbone, model.head_spec, model.classes).eval().double()
        for value in model.parameters():
            value += 0.05 * torch.randn(value.shape, generator=random)
        for name, value in model.backbone.named_parameters():
            if name.endswith("adapter.scale.bias"):
                value.fill_(3.0)
    return model


def loss(model: Headed) -> torch.Tensor:
    said = model(DOUBLE)
    return F.cross_entropy(said, torch.arange(len(said)) % 3)


@torch.no_grad()
def along(model: Headed, direction: dict[str, torch.Tensor], far: float) -> float:
    """The loss so far from here; recorded as in training, whatever the way that takes."""
    named = dict(model.named_parameters())
    was = {name: named[name].clone() for name in direction}
    for name, step in direction.items():
        named[name].add_(step, alpha=far)
    with torch.enable_grad():
        found = float(loss(model).detach())
    for name, value in was.items():
        named[name].copy_(value)
    return found


def off(model: Headed, among: dict[str, torch.Tensor], random: torch.Generator) -> float:
    """How far the gradient along a random direction is from the difference of the loss there, in parts of it.

    A maximum or a ReLU may turn inside a step; that a much smaller one meets one too is as unlikely as that is small.
    """
    direction = {name: torch.randn(value.shape, generator=random, dtype=value.dtype) for name, value in among.items()}
    told = sum(float((among[name] * direction[name]).sum()) for name in among)

    def far(step: float) -> float:
        found = (along(model, direction, step) - along(model, direction, -step)) / (2 * step)
        return abs(told - found) / max(abs(told), abs(found), 1e-3)

    return next((small for step in (1e-6, 1e-7, 1e-8) if (small := far(step)) < FAR), far(1e-6))


@pytest.mark.parametrize("family", ["point-mae", pytest.param("point-m2ae", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param(*pair, marks=[] if pair in FEW else [pytest.mark.slow], id=" ".join(map(str, pair))) for pair in PAIRS],
)
def test_gradients_are_those_of_finite_differences(first, second, family):
    try:
        model = both(first, second, family)
    except UsageError as error:
        assert (first, second) not in FEW
        assert "Graft one of them" in str(error) or "Graft once" in str(error)  # noqa: PT017 - which are refused is another test's
        return
    with torch.no_grad():
        once = loss(model)
    assert torch.allclose(loss(model), once, rtol=1e-12), "the same with a gradient and without"
    values = dict(model.named_parameters())
    found = torch.autograd.grad(loss(model), list(values.values()), allow_unused=True)
    gradients = {name: grad for name, grad in zip(values, found, strict=True) if grad is not None}
    random = torch.Generator().manual_seed(0)
    groups = [[name for name in gradients if word in name.split(".")] for word in (first.slot, second.slot)]
    far = {names[0]: off(model, {name: gradients[name] for name in names}, random) for names in (*groups, list(gradients))}
    assert max(far.values()) < FAR, far
