from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pico
from wisetune.build.predict import PartsPredictor, Predictor
from wisetune.data.formats import read, write
from wisetune.errors import BadFile, WeightsError
from wisetune.nets.create import assemble
from wisetune.nets.files.save import save_model
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.nets.parts import Parts
from wisetune.nets.segmenter import Segmenter
from wisetune.points.content import content_key


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
    with pytest.raises(WeightsError, match=r"parts\.safetensors is a part segmentation model.*A classifier is needed here"):
        Predictor(tmp_path / "parts.safetensors", pico.CPU)
    with pytest.raises(WeightsError, match=r"parts\.safetensors does not say which parts are of which category"):
        PartsPredictor(tmp_path / "parts.safetensors", "Chair", pico.CPU)
    with pytest.raises(WeightsError, match=r"is a classifier, which answers for whole clouds"):
        PartsPredictor(model_file(tmp_path, {}), "Chair", pico.CPU)


@pytest.fixture
def parts_file(tmp_path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = assemble(pico.backbone(), Parts(categories=2), {"Chair": ["leg", "seat", "back"], "Mug": ["cup", "handle"]}).eval()
        clouds = torch.randn(8, pico.POINTS, 3) / 3
        with torch.no_grad():  # as after training, and no part is the likeliest of all points
            for norm in model.head.modules():
                norm.momentum = 1.0
            model.train()(clouds, "Mug")
            model.head.convs3.bias -= model.eval()(clouds, "Mug").mean(dim=(0, 1))
    save_model(tmp_path / "parts.safetensors", model)
    return tmp_path / "parts.safetensors"


def test_every_point_of_a_scan_has_a_part_of_its_category(parts_file, scan, tmp_path):
    predictor = PartsPredictor(parts_file, "mug", pico.CPU)
    found = predictor.parts(scan)
    assert (predictor.category, predictor.names, predictor.numbers) == ("Mug", ("cup", "handle"), range(3, 5))
    assert np.array_equal(found.points, read(scan).points), "all points, as in the file"
    assert not found.drawn
    assert set(found.labels.tolist()) == {3, 4}
    # The model saw 64 of them: those have its own answers, and the others that of the nearest.
    seen = predictor.frame.drawn(read(scan), pico.POINTS, content_key(found.points))
    own = predictor.model.segment(torch.from_numpy(predictor.frame.placed(seen))[None], "Mug")[0].numpy()
    distance = ((found.points[:, None] - seen) ** 2).sum(axis=2)
    assert np.array_equal(found.labels, own[distance.argmin(axis=1)])
    assert np.array_equal(found.labels[distance.argmin(axis=0)], own)
    shutil.copy(scan, tmp_path / "other.ply")
    assert np.array_equal(predictor.parts(tmp_path / "other.ply").labels, found.labels)


def test_of_a_mesh_points_are_drawn(parts_file, tmp_path):
    (tmp_path / "block.obj").write_text("v 0 0 0\nv 4 0 0\nv 0 9 0\nv 0 0 2\nf 1 2 3\nf 1 2 4\nf 1 3 4\n")
    found = PartsPredictor(parts_file, "Chair", pico.CPU).parts(tmp_path / "block.obj")
    assert found.drawn
    assert (found.points.shape, found.labels.shape) == ((pico.POINTS, 3), (pico.POINTS,))
    assert found.points.max() > 3, "where they are in the file"
    assert set(found.labels.tolist()) <= {0, 1, 2}


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
