"""What a head sees of tokens, by a name that says it: a tuning declares one in its own file."""

from __future__ import annotations

import pytest
import torch

from wisetune import create
from wisetune.errors import UsageError
from wisetune.nets.readout import Tokens, grafted_readout, readout

LEADS, WIDTH = 2, 3
RANDOM = torch.Generator().manual_seed(0)
TOKENS = Tokens(*(torch.randn(4, count, WIDTH, generator=RANDOM) for count in (LEADS, 5, 6)))
LEAD, PATCH, EXTRA = TOKENS.lead, TOKENS.patch, TOKENS.extra
PARTS = {
    "lead": LEAD[:, 0],
    "leads": torch.cat([LEAD[:, 0], LEAD[:, 1]], dim=1),
    "leads-max": LEAD.max(dim=1).values,
    "max": PATCH.max(dim=1).values,
    "mean": PATCH.mean(dim=1),
    "total": PATCH.max(dim=1).values + PATCH.mean(dim=1),
    "extra": EXTRA.mean(dim=1),
}


@pytest.mark.parametrize("name", ["extra", "lead+extra+max", "leads+mean+extra", "mean+extra", "extra+lead", "leads-max+total+extra"])
def test_what_looks_at_extra_tokens_is_its_parts_in_turn(name):
    found = grafted_readout(name, LEADS)
    assert torch.equal(found.of(TOKENS), torch.cat([PARTS[part] for part in name.split("+")], dim=1))
    assert (found.fixed + found.each * LEADS) * WIDTH == found.of(TOKENS).shape[1]


@pytest.mark.parametrize("name", ["lead+max", "leads+max", "max+mean", "mean+max", "leads-max+total"])
def test_the_others_are_their_parts_too(name):
    assert torch.equal(readout(name, LEADS).of(TOKENS), torch.cat([PARTS[part] for part in name.split("+")], dim=1))


@pytest.mark.parametrize("tuning", ["dapt:rank=4", "pointlora"])
def test_beside_a_readout_that_takes_no_extra_tokens_it_is_refused(tuning):
    with pytest.raises(UsageError, match="there is no readout 'projected'"):
        create("act", preset="svm", tuning=tuning, classes=3)
