"""Every map that a tuning grafts is counted: a hook sees its module called, or the module that computes with its weight says what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cells
import pytest
from cells import OTHERS, TUNINGS_HERE, Cell
from torch import nn

from wisetune.nets.macs import macs
from wisetune.nets.model import Model
from wisetune.nets.uncalled import Uncalled
from wisetune.tune.tunings import TUNINGS

MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d)
CELLS = [Cell(tuning, family, "classes") for tuning in (*TUNINGS_HERE, *OTHERS) for family in ("point-mae", "point-m2ae")]
CELLS += [
    Cell(TUNINGS.parse(name), family, "parts") for name in ("idpt-parts", "pointgst:rank=4") for family in ("point-mae", "point-m2ae")
]


def maps_of(model: Model) -> Iterator[str]:
    """Linear maps and convolutions that were grafted, by name in the model."""
    grafted = {name for graft in model.backbone.grafts for name in graft.names}
    yield from (f"backbone.{name}" for name, module in model.backbone.named_modules() if name in grafted and isinstance(module, MAPS))


def uncounted(model: Model) -> list[str]:
    """Grafted maps that neither are called, nor are in a module that was called and counts more where their weights are larger."""
    entered = dict[str, Any]()
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda _module, inputs, name=name: entered.update({name: inputs[:1]}))
    cells.logits(model)
    found = []
    for name in maps_of(model):
        part = model.get_submodule(name)
        assert isinstance(part.weight, nn.Parameter)
        before = owners(model, name, entered)
        part.weight = nn.Parameter(part.weight.repeat(2, *[1] * (part.weight.ndim - 1)))
        if name not in entered and owners(model, name, entered) == before:
            found.append(name)
    return found


def owners(model: Model, name: str, entered: dict[str, Any]) -> list[int]:
    """What the modules around one that were called count."""
    above = [name.rsplit(".", up)[0] for up in range(1, name.count(".") + 1)]
    return [part.uncalled_macs(*entered[at]) for at in above if at in entered and isinstance(part := model.get_submodule(at), Uncalled)]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_grafted_map_is_counted_by_a_hook_or_by_its_owner(cell):
    model = cells.grafted(cell)
    assert uncounted(model) == []


def test_what_nobody_counts_is_found():
    model = cells.grafted(Cell(TUNINGS.parse("idpt"), "point-mae", "classes"))
    name = next(name for name in maps_of(model) if name.endswith("idpt.conv"))
    model.get_submodule(name.rpartition(".")[0]).uncalled_macs = lambda _: 0
    assert uncounted(model) == [name]


WIDTH, PATCHES, DEPTH = 16, 8, 2
"""Of the small plain backbone."""


def added(tuning: str) -> int:
    """What a tuning adds to the published count of a small Point-MAE."""
    cell = Cell(TUNINGS.parse(tuning), "point-mae", "classes")
    return macs(cells.grafted(cell)).published - macs(cells.untuned(cell)).published


def test_a_spectral_adapter_is_two_maps_of_tokens_and_one_in_either_spectrum():
    assert added("pointgst:rank=4") == DEPTH * (2 * (1 + PATCHES) * WIDTH * 4 + 2 * PATCHES * 4 * 4)


def test_a_prompt_for_parts_is_a_map_of_each_patch():
    """Of each block behind which a level is read; and a token more in that block, with its twelve maps."""
    cell = Cell(TUNINGS.parse("idpt-parts"), "point-mae", "classes")
    read = dict.fromkeys(cells.start(cell).anatomy.stages[0].read)
    assert added("idpt-parts") == len(read) * (PATCHES + 12) * WIDTH * WIDTH
