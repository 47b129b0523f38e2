"""The invariant of the method: at equal alpha WiSE-FT and WiSE-FT-LP have one backbone, so one robustness."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import pico
from wisetune.measure.subject import Subject
from wisetune.measure.svm import Svm
from wisetune.recipe import Start, digest
from wisetune.results import Variant
from wisetune.stories.wise_ft_lp import WiseFtLp


def robustness(root, spec, story: WiseFtLp, method: Variant) -> list[dict[str, Any]]:
    """By a builder, a store and a bank of its own, under a key of its own, so that nothing can be shared."""
    data, probe = pico.data(), pico.probe()
    builder = pico.builder(root, data, spec=spec)
    fit = dataclasses.replace(pico.FIT, epochs=1)
    start = Start(spec, "random:0")
    setting = pico.setting(start=start, task=data.training_digest, complete=not spec.class_token, fit=fit, head_fit=fit)
    recipe = story.recipes(setting)[method]
    subject = Subject(builder.model(recipe), digest(recipe), digest(recipe), builder.bank)
    records = list(Svm("others", "0.01").of(subject, data, {"others": probe}.__getitem__))
    return [{**record.to_json(), "weights": None} for record in records]


@pytest.mark.parametrize(
    ("alpha", "statistics"),
    [(0.3, "reestimated"), (0.3, "mixed"), (0.0, "mixed"), (1.0, "mixed")]
    + [pytest.param(alpha, "reestimated", marks=pytest.mark.slow) for alpha in (0.0, 1.0)],
)
def test_robustness_does_not_depend_on_the_head(tmp_path, pico_spec, alpha, statistics):
    story = WiseFtLp((alpha,), statistics)
    kept = robustness(tmp_path / "kept", pico_spec, story, Variant("wise-ft", alpha))
    probed = robustness(tmp_path / "probed", pico_spec, story, Variant("wise-ft-lp", alpha))
    assert kept == probed


def test_robustness_does_depend_on_alpha(tmp_path):
    story = WiseFtLp((0.0, 0.3))
    found = [robustness(tmp_path / str(alpha), pico.SPEC, story, Variant("wise-ft", alpha)) for alpha in (0.0, 0.3, 1.0)]
    assert len({tuple(record["detail"].get("right", "") for record in records) for records in found}) == 3


def test_a_warm_head_has_the_same_robustness_too(tmp_path):
    story = dataclasses.replace(WiseFtLp((0.3,)), head="warm")
    kept, warm = (robustness(tmp_path / name, pico.SPEC, story, Variant(name, 0.3)) for name in ("wise-ft", "wise-ft-lp"))
    assert kept == warm
