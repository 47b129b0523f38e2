"""What grafts compute is counted, by both counters, though some of their maps are modules that are never called."""

from __future__ import annotations

import functools

import pytest

from wisetune.nets.backbone import build_empty
from wisetune.nets.create import class_names, parse_any_head, parse_backbone
from wisetune.nets.macs import Macs, macs
from wisetune.nets.model import Model
from wisetune.tune.tuned import tuned_model
from wisetune.tune.tunings import TUNINGS

TOKENS, WIDTH, DEPTH = 129, 384, 12


@functools.cache
def counted(tuning: str) -> Macs:
    backbone = build_empty(parse_backbone("point-mae-scanobjectnn"))
    model = tuned_model(backbone, TUNINGS.parse(tuning), parse_any_head("mlp3"), class_names(15))
    assert isinstance(model, Model)
    return macs(model)


@pytest.fixture(scope="module")
def full() -> Macs:
    return counted("full")


@pytest.mark.parametrize(("tuning", "giga"), [("full", 4.760), ("dapt", 4.957), ("idpt", 7.084)])
def test_hooks_on_maps_of_the_official_codes_count_as_much(tuning, giga):
    """Measured on those codes, on 2,048 points in 128 patches, by hooks on linear maps and convolutions."""
    assert round(counted(tuning).published / 1e9, 3) == pytest.approx(giga, abs=0.0011)


@pytest.mark.parametrize(("tuning", "giga"), [("dapt", 5.124 - 4.914), ("vpt", 5.151 - 4.914)])
def test_what_is_added_is_what_the_official_codes_add_where_no_algebra_saves_any(full, tuning, giga):
    """By torch's own counter, which sees attention's products too."""
    assert (counted(tuning).true - full.true) / 1e9 == pytest.approx(giga, abs=0.001)


def test_edge_convolutions_compute_a_fourteenth_of_what_they_are_counted_as(full):
    found = counted("idpt")
    assert found.published - full.published > 13 * (found.true - full.true)
    # Of the map of each edge what is left is two of each token.
    assert (found.published - full.published) // (128 * WIDTH * WIDTH) == 3 * 20 * 2 + 3


@pytest.mark.parametrize(("tuning", "maps", "each"), [("lora", 4, 32), ("adapter", 2, 64), ("adaptformer", 2, 64), ("lora:at=fc1", 5, 32)])
def test_thin_maps_are_counted_by_hand(full, tuning, maps, each):
    """One of queries and one of values, each down and up; one down and one up beside a block, or 384 wide and 1,536."""
    assert counted(tuning).published - full.published == DEPTH * TOKENS * maps * WIDTH * each


@pytest.mark.parametrize("tuning", ["bitfit", "linear", "ssf"])
def test_what_adds_no_map_adds_none(full, tuning):
    assert counted(tuning) == full


def test_keys_and_values_are_attentions_which_only_the_true_count_sees(full):
    found = counted("prefix:length=50")
    assert found.published == full.published
    assert found.true - full.true == DEPTH * TOKENS * 2 * 50 * WIDTH
