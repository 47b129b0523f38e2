from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from wisetune.errors import UsageError
from wisetune.measure.pointcloudc import DGCNN, DGCNN_CLEAN, corruption_error, mce, relative_corruption_error
from wisetune.points.corrupt import KINDS

SELF = {kind: [DGCNN[kind]] * 5 for kind in KINDS}


@pytest.fixture
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "reference/robust/golden/mce_pointcloudc.json").read_text())


@pytest.mark.parametrize(("reading", "key"), [("as_intended", "unrounded"), ("as_published", "official_rounding")])
def test_golden_scores(golden, reading, key):
    example = golden["example"]
    scores = {name.lower(): value for name, value in dataclasses.asdict(mce(example["clean"], example["per_level"], reading)).items()}
    expected = {name.lower(): value for name, value in example[key].items()}
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


def test_the_reference_table_is_the_published_one(golden):
    assert golden["dgcnn"] == {"clean": DGCNN_CLEAN, **DGCNN}


def test_the_documented_example_of_one_corruption(golden):
    example = golden["doc_example"]
    assert corruption_error("scale", example["scale_OA"]) == pytest.approx(example["printed_CE"], abs=1e-12)
    assert relative_corruption_error("scale", example["clean"], example["scale_OA"]) == pytest.approx(example["printed_RCE"], abs=1e-12)


@pytest.mark.parametrize("reading", ["as_intended", "as_published"])
def test_the_reference_scores_one_against_itself(reading):
    scores = mce(DGCNN_CLEAN, SELF, reading)
    assert scores.mce == pytest.approx(1, abs=1e-9)
    assert scores.rmce == pytest.approx(1, abs=1e-9)
    assert list(scores.ce.values()) == pytest.approx([1] * 7)


def test_the_order_of_levels_and_kinds_does_not_count():
    levels = {kind: [0.1, 0.2, 0.3, 0.4, 0.9] for kind in KINDS}
    assert mce(0.95, levels) == mce(0.95, {kind: levels[kind][::-1] for kind in reversed(KINDS)})


def test_a_perfect_model_has_no_error_and_a_blind_one_the_most():
    assert mce(1.0, {kind: [1.0] * 5 for kind in KINDS}).mce == 0
    blind = mce(0.0, {kind: [0.0] * 5 for kind in KINDS})
    assert blind.mce == pytest.approx(sum(1 / (1 - DGCNN[kind]) for kind in KINDS) / 7)
    assert blind.rmce == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fog": [0.5] * 5}, "unknown: fog"),
        ({"scale": [0.5] * 4}, "'scale' has 4"),
        ({"scale": [0.5] * 4 + [93.0]}, "not 93; divide percentages"),
        ({"scale": [0.5] * 4 + [float("nan")]}, "not nan"),
        ({"scale": [0.5] * 4 + [-0.1]}, "not -0.1"),
    ],
)
def test_accuracies_that_do_not_fit_are_refused(changed, said):
    with pytest.raises(UsageError, match=said):
        mce(0.9, {**SELF, **changed})


def test_a_missing_corruption_and_a_clean_percentage_are_refused():
    with pytest.raises(UsageError, match="missing: add_local"):
        mce(0.9, {kind: SELF[kind] for kind in KINDS if kind != "add_local"})
    with pytest.raises(UsageError, match=r"not 92\.6"):
        mce(92.6, SELF)
