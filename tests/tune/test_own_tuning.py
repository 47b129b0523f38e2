"""The worked example of the docs keeps what every tuning promises."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cells
import pytest
import test_tuning_contracts as contracts
from cells import Cell

from wisetune.tune.tunings import TUNINGS

_PAGE = Path(__file__).parents[2] / "docs" / "tunings-own.md"


@pytest.fixture(scope="module")
def gains(tmp_path_factory):
    (code,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) < 40
    folder = tmp_path_factory.mktemp("lab")
    (folder / "my_lab").mkdir()
    (folder / "my_lab/gains.py").write_text(code, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield TUNINGS.parse("my_lab.gains:Gains")
    for name in ("my_lab", "my_lab.gains"):
        del sys.modules[name]


@pytest.mark.parametrize(("family", "kind"), [("point-mae", "classes"), ("point-m2ae", "parts"), ("recon", "parts")])
def test_the_example_keeps_every_promise(gains, family, kind, tmp_path):
    cell = Cell(gains, family, kind)
    contracts.test_the_backbone_has_what_it_had_and_a_note_of_what_came(cell)
    contracts.test_what_is_declared_trains_and_nothing_else_moves(cell)
    contracts.test_blocks_that_are_computed_again_give_the_same_gradients(cell)
    contracts.test_it_begins_as_it_says(cell)
    contracts.test_of_a_graft_a_share_counts(cell)
    contracts.test_it_folds_or_says_why_not(cell)
    contracts.test_copies_of_it_and_files(cell, tmp_path)
    contracts.test_any_batch_and_precision_and_no_values_at_all(cell)
    assert str(gains) == "my_lab.gains:Gains"
    assert {name.rpartition(".")[2] for name in cells.grafted(cell).backbone.state_dict() if ".gains." in name} == {"more", "share"}
