"""How many parameters train, at the official sizes: every row of the published table, and every reading of it that is known (METHODS.md, section 2)."""

from __future__ import annotations

import pytest

from tuned_samples import empty

TABLE = {
    "full": (22_093_327, 22_099_752),
    "linear": (267_535, 273_960),
    "linear:class-token=true": (268_303, 274_728),
    "bitfit:preset=dapt-table": (305_167, 311_592),
    "bitfit:biases=all": (307_983, 314_408),
    "adapter:preset=dapt-table": (868_111, 874_536),
    "adapter:preset=dapt-table-one": (863_503, 869_928),
    "prefix:preset=dapt-table": (729_103, 735_528),
    "prefix:length=48": (710_671, 717_096),
    "lora:preset=dapt-table": (858_127, 864_552),
    "lora:at=qkv": (858_127, 864_552),
    "lora:at=qkv+proj+fc1+fc2,rank=8": (858_127, 864_552),
    "lora:preset=imagenet-rib": (415_759, 422_184),
    "vpt:preset=scan-hardest": (360_463, 366_888),
    "vpt:preset=few-shot": (452_623, 459_048),
    "vpt:deep=false": (275_983, 282_408),
    "adaptformer:preset=dapt-table": (863_503, 869_928),
    "ssf:preset=dapt-table": (371_215, 377_640),
    "idpt:preset=scan-hardest": (1_696_783, 1_703_208),
    "idpt:preset=scan-objonly": (1_696_783, 1_703_208),
    "idpt:preset=scan-objbg": (1_500_175, 1_506_600),
    "dapt:preset=scan-hardest": (1_087_771, 1_094_196),
    "dapt:preset=scan-objbg": (1_087_771, 1_094_196),
    "dapt:preset=scan-objonly": (989_467, 995_892),
    "dapt:preset=modelnet40": (1_063_291, 1_069_716),
    "ppt:preset=scan-hardest": (1_042_191, 1_048_616),
    "ppt:preset=modelnet40-8k": (1_042_191, 1_048_616),
    "pointgst:preset=scan-hardest": (622_831, 629_256),
    "pointlora:preset=scan-hardest": (772_752, 779_177),
}
"""As published, for 15 classes and for 40. Of methods whose table and code disagree, or that have no code, each size that gives the table's figure."""


def count(tuning: str, classes: int, reading: str) -> int:
    model, chosen = empty(tuning, classes, reading=reading)
    return sum(value.numel() for value in chosen.freeze(model).values())


@pytest.mark.parametrize("tuning", TABLE)
def test_as_published(tuning):
    assert (count(tuning, 15, "as_published"), count(tuning, 40, "as_published")) == TABLE[tuning]


@pytest.mark.parametrize("tuning", TABLE)
def test_as_intended_trains_the_position_of_idpts_prompt_and_nothing_else_more(tuning):
    assert count(tuning, 15, "as_intended") == TABLE[tuning][0] + 384 * tuning.startswith("idpt")


@pytest.mark.parametrize("tuning", [tuning for tuning in TABLE if tuning not in ("full", "linear")])
def test_without_the_class_token_768_fewer(tuning):
    """Both its value and its position are left out, as in "head only" of the table; of linear probing it is so by itself."""
    without = "linear" if tuning.startswith("linear") else f"{tuning}{',' if ':' in tuning else ':'}class-token=false"
    assert count(without, 15, "as_published") == TABLE[tuning][0] - 768
