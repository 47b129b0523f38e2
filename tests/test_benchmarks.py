"""What the benchmarks compare, at a tiny size, and the page made of what they found. That they run as a whole is `make bench`."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
FAMILIES = ("act", "maskpoint", "point-bert", "point-m2ae", "point-mae", "recon")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("family", FAMILIES)
def test_both_sides_of_a_smoke_run_are_one_function(benchmark, family):
    backbones = benchmark("backbones")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = backbones.classifier(family, tiny=True)
        peer, _ = backbones.opposite(model, family, None)
        points, labels = torch.randn(4, model.backbone.points, 3) / 3, torch.arange(4)
        assert {type(part).__name__ for part in peer.modules()} >= {"PlainMiniPointNet", "PlainAttention"}
        assert not {type(part).__name__ for part in peer.modules()} & {"MiniPointNet", "Attention"}
        backbones.check_inference(model, peer, points)
        backbones.check_training(model, peer, points, labels)


def test_every_family_has_a_smoke_run(benchmark):
    assert {tuple(run[1:]) for run in benchmark("smoke")._BENCHMARKS if run[0] == "backbones"} == {(family,) for family in FAMILIES}
