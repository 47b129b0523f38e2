"""Many tunings beside one another: the same trees as of a story of each."""

from __future__ import annotations

import dataclasses

import pytest

import pico
from wisetune.errors import UsageError
from wisetune.results import Variant
from wisetune.stories.compare import Compare
from wisetune.stories.ft import Ft
from wisetune.stories.lp import Lp
from wisetune.stories.stories import STORIES
from wisetune.tune.tunings import TUNINGS

SETTING = pico.setting()


def test_each_is_the_tree_of_a_run_with_that_tuning():
    """So the model of any is made by wisetune run ft --tuning, in the same store without training."""
    trees = Compare(("lora:rank=4", "bitfit")).recipes(SETTING)
    assert list(trees) == [Variant("ft"), Variant("lp"), Variant("lora:rank=4"), Variant("bitfit")]
    assert {Variant("lp"): trees[Variant("lp")]} == Lp().recipes(SETTING)
    for method, tuning in (("ft", "full"), ("lora:rank=4", "lora:rank=4"), ("bitfit", "bitfit")):
        assert Ft().recipes(dataclasses.replace(SETTING, tuning=TUNINGS.parse(tuning))) == {Variant("ft"): trees[Variant(method)]}


@pytest.mark.parametrize(
    "tunings", [("bitfit", "ssf"), ("lora:rank=4",), ("lora:at=q+k,rank=2", "bitfit"), ("full", "linear"), ("all", "vpt")]
)
def test_its_spelling_reads_back(tunings):
    assert STORIES.parse(str(Compare(tunings))) == Compare(tunings)


def test_each_stands_once_however_often_and_however_it_is_spelled():
    assert Compare(("lora:rank=4", "lora:rank=4,at=q+v", "full", "lora:rank=4", "linear")).values == (TUNINGS.parse("lora:rank=4"),)
    assert Compare(("all", "bitfit", "all")).values == Compare().values


def test_what_the_backbone_refuses_is_left_out_of_all_and_refused_by_name():
    wide, narrow = {str(value) for value in Compare().values}, {variant.method for variant in Compare().recipes(SETTING)}
    left_out = Compare().left_out(SETTING)
    assert narrow == {"ft", "lp"} | (wide - left_out.keys())
    assert left_out["lora"].startswith("'lora' has rank=32, and blocks.blocks.0.attn.qkv is 16 wide")
    assert "bitfit" not in left_out
    for both in (("all", "lora"), ("lora", "all")):
        assert "lora" not in Compare(both).left_out(SETTING)


def test_nothing_to_compare_is_refused():
    with pytest.raises(UsageError, match=r"there is nothing to compare: give all, or some of adapter, "):
        Compare(())
