from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pico
from wisetune.build.predict import Predictor
from wisetune.data.formats import write
from wisetune.errors import BadFile, WeightsError
from wisetune.nets.files.save import save_model
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.nets.parts import Parts
from wisetune.nets.segmenter import Segmenter


def model_file(folder: Path, about: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    model = Model(pico.backbone(), LinearHead().build(32, 3), LinearHead(), ("ball", "box", "egg"))
    save_model(folder / "model.safetensors", model, about)
    return folder / "model.safetensors"


@pytest.fixture
def scan(tmp_path) -> Path:
    """More points than the model takes, so that they are drawn."""
    points = np.random.default_rng(0).normal(size=(500, 3)) * (1, 0.5, 0.2) + (0, 0, 5)
    write(tmp_path / "scan.ply", points)
    return tmp_path / "scan.ply"


def test_a_file_may_be_renamed_and_moved(tmp_path, scan):
    predictor = Predictor(model_file(tmp_path, {}), pico.CPU)
    found = predictor.probabilities(scan)
    assert list(found) == ["ball", "box", "egg"]
    assert sum(found.values()) == pytest.approx(1)
    (tmp_path / "elsewhere").mkdir()
    assert predictor.probabilities(Path(shutil.copy(scan, tmp_path / "elsewhere/other.ply"))) == found


def test_a_part_segmentation_model_is_refused(tmp_path):
    torch.manual_seed(0)
    backbone, head = pico.backbone(), Parts(categories=2)
    save_model(tmp_path / "parts.safetensors", Segmenter(backbone, head.build(backbone, 3), head, ("leg", "seat", "back")))
    with pytest.raises(WeightsError, match=r"parts\.safetensors is a part segmentation model.*wisetune predict takes a classifier"):
        Predictor(tmp_path / "parts.safetensors", pico.CPU)


def test_the_same_cloud_in_another_format_is_the_same_cloud(tmp_path):
    predictor = Predictor(model_file(tmp_path, {}), pico.CPU)
    points = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    for suffix in (".npy", ".ply", ".xyz"):
        write(tmp_path / f"same{suffix}", points)
    first, *others = (predictor.probabilities(tmp_path / f"same{suffix}") for suffix in (".npy", ".ply", ".xyz"))
    for other in others:  # text is read in float64
        assert other == pytest.approx(first, abs=1e-5)


def test_the_frame_is_the_one_in_the_file(tmp_path, scan):
    upright = Predictor(model_file(tmp_path, {"up": "z"}), pico.CPU).probabilities(scan)
    assert Predictor(model_file(tmp_path, {"up": "y"}), pico.CPU).probabilities(scan) != upright
    assert Predictor(model_file(tmp_path, {"normalise": "centre"}), pico.CPU).probabilities(scan) != upright
    assert Predictor(model_file(tmp_path, {"normalise": "sphere", "start": "x"}), pico.CPU).probabilities(scan) == upright


@pytest.mark.parametrize(
    ("about", "word"),
    [({"up": "w"}, "'w'"), ({"up": "z,skip-bad=true"}, "z,skip-bad=true"), ({"normalise": ["sphere"]}, "sphere"), ({"normalise": 3}, "3")],
)
def test_a_file_that_says_nonsense_is_refused(tmp_path, about, word):
    with pytest.raises(WeightsError, match=r"model\.safetensors does not say how its clouds .*it can be") as refusal:
        Predictor(model_file(tmp_path, about), pico.CPU)
    assert word in str(refusal.value)


def test_what_training_would_refuse_is_not_classified(tmp_path):
    predictor = Predictor(model_file(tmp_path, {}), pico.CPU)
    write(tmp_path / "few.xyz", np.eye(3))
    with pytest.raises(BadFile, match=r"few\.xyz: holds 3 points; a shape needs at least 16"):
        predictor.probabilities(tmp_path / "few.xyz")


def test_points_that_are_not_finite_are_dropped_as_in_training(tmp_path):
    points = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    write(tmp_path / "whole.ply", points[7:])
    points[:7] = np.nan
    write(tmp_path / "holed.ply", points)
    with pytest.raises(BadFile, match=r"7 of 90 points are not finite") as refusal:
        Predictor(model_file(tmp_path, {}), pico.CPU).probabilities(tmp_path / "holed.ply")
    assert "nonfinite=" not in str(refusal.value), "predict has no such option"
    dropping = Predictor(model_file(tmp_path, {"nonfinite": "drop"}), pico.CPU)
    assert dropping.probabilities(tmp_path / "holed.ply") == dropping.probabilities(tmp_path / "whole.ply")
