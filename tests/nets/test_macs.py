"""Counted work against sums by hand."""

from __future__ import annotations

from net_samples import TINY_OPTIONS
from wisetune.nets.create import create
from wisetune.nets.macs import macs


def test_published_is_every_linear_map_and_convolution():
    model = create("point-mae", classes=3, head="linear", **TINY_OPTIONS)
    a, b, c, width, tokens = 6, 8, 10, 16, 9
    tokenizer = 8 * 8 * (3 * a + a * b + 2 * b * c + c * width)
    position = 8 * (3 * 128 + 128 * width)
    blocks = 2 * tokens * (3 * width * width + width * width + 8 * width * width)
    assert macs(model).published == tokenizer + position + blocks + 2 * width * 3


def test_true_counts_attention_and_what_the_algebra_saves():
    model = create("point-mae", classes=3, head="linear", **TINY_OPTIONS)
    a, b, c, width, tokens = 6, 8, 10, 16, 9
    # The first map has a column of ones for its bias; the second and the point half of the third are one, made anew: b * c * a.
    tokenizer = 8 * 8 * ((3 + 1) * a + a * b + a * c + c * width) + 8 * b * c + b * c * a + b * c
    position = 8 * (3 * 128 + 128 * width)
    blocks = 2 * tokens * (12 * width * width + 2 * tokens * width)
    found = macs(model)
    assert abs(found.true - (tokenizer + position + blocks + 2 * width * 3)) <= 8 * 8 * a
    assert macs(create("point-mae", preset="scanobjectnn")).true < macs(create("point-mae", preset="scanobjectnn")).published


def test_official_sizes_have_the_figures_of_the_papers():
    """4.8 G of Point-MAE and 5.3 G of ReCon on ScanObjectNN."""
    for family, figure in (("point-mae", 4.8), ("recon", 5.3)):
        assert abs(macs(create(family, preset="scanobjectnn")).published / 1e9 - figure) < 0.06


def head_alone(family: str, head: str, **options: int) -> tuple[int, int]:
    """What a part segmentation head adds to its backbone, by both conventions."""
    known = TINY_OPTIONS | options | ({"class_token": False, "readout": "max+mean"} if family == "point-mae" else {})
    whole, features = (macs(create(family, **more, **known)) for more in ({"classes": 5, "head": head}, {}))
    return whole.published - features.published, whole.true - features.true


def test_parts_are_counted_for_every_point():
    points, patches, width, joined, hidden = 64, 8, 16, 3 * 16, 4 * 16
    said, rest = 3 * 64, hidden * 1024 + 512 * 256 + 256 * 5
    published, true = head_alone("point-mae", "parts:categories=3")
    assert published == said + points * ((3 + joined) * hidden + (1024 + 2 * joined + 64) * 512 + rest)
    # Tokens pass the first map before they are spread, and what is said of the whole cloud its map once.
    once = patches * joined * hidden + (2 * joined + 64) * 512
    assert true == said + once + points * (3 * hidden + 1024 * 512 + rest)
    assert width * 3 == joined


def test_edges_of_a_part_segmentation_head_are_counted_as_they_are_published():
    width, near, inside = 16, 4, 512
    climbs = 2 * width * inside + 2 * inside * width
    spread = (3 + width) * 4 * width + 4 * width * width
    published, true = head_alone("point-bert", "parts-graph:categories=3,fine=20,middle=12")
    of_points = 64 * (spread + 3 * 4 * width + width * 128 + 128 * 5)
    assert published == (12 + 20) * (spread + near * climbs) + of_points
    assert true < published / 2
