"""Clouds as users give them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from net_samples import TINY_OPTIONS, cloud
from wisetune.errors import DataError
from wisetune.nets.create import create
from wisetune.nets.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return create("point-mae", classes=3, **TINY_OPTIONS)


def test_arrays_are_taken_as_tensors_are(model):
    points = cloud(0, 2, 64)
    with torch.no_grad():
        wanted = model(points)
        for array in (points.numpy(), points.numpy().astype(">f4")):
            assert torch.equal(model(array), wanted)
        assert torch.equal(model.features(points.numpy()), model.features(points))
        whole = (100 * points).round()
        assert torch.equal(model(whole.numpy().astype(np.int32)), model(whole.double()))


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([[[0.0, 0.0, 0.0]]], "points are a list; a model takes a tensor or an array of numbers [batch, points, 3]"),
        (None, "points are a NoneType"),
        (np.array([["a"]]), "points are an array of <U1"),
        (torch.zeros(64, 3), "points are [64, 3]; a model takes [batch, points, 3]. Add a batch dimension: points[None]."),
        (torch.zeros(2, 3, 64), "[2, 3, 64]; a model takes [batch, points, 3]. Coordinates come last: points.transpose(1, 2)."),
        (torch.zeros(2, 6, 64), "without colours and normals: points[:, :3].transpose(1, 2)."),
        (torch.zeros(2, 64, 6), "Leave out colours and normals: points[..., :3]."),
        (torch.zeros(2, 64, 2), "The last axis is that of x, y and z."),
        (torch.zeros(64), "points are [64]; a model takes [batch, points, 3]."),
    ],
)
def test_what_is_no_cloud_is_refused_with_what_to_do(model, points, says):
    for ask in (model, model.features, model.backbone.features):
        with pytest.raises(DataError, match=re.escape(says)):
            ask(points)


def test_the_advice_for_clouds_of_another_layout_works(model):
    coloured = torch.cat([cloud(0, 2, 64), torch.rand(2, 64, 3)], dim=2)
    with torch.no_grad():
        wanted = model(coloured[..., :3])
        assert torch.equal(model(coloured.transpose(1, 2)[:, :3].transpose(1, 2)), wanted)
