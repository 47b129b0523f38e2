from __future__ import annotations

import math

import pytest
import torch

from wisetune.errors import UsageError
from wisetune.points import augment
from wisetune.runtime import torch_generator

MANY = 4000
BASIS = torch.eye(3).expand(MANY, 3, 3)
"""Clouds of the three unit vectors: a linear map's output is its matrix (row vectors)."""


def cloud(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(5, 64, 3, generator=torch_generator("cloud")).to(dtype)


def proper_rotations(matrices: torch.Tensor) -> None:
    torch.testing.assert_close(matrices @ matrices.mT, BASIS.to(matrices), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(len(matrices)), atol=1e-5, rtol=0)


def test_scale_and_translate_draws_a_factor_and_a_shift_per_cloud_and_axis():
    points = torch.stack([torch.zeros(3), torch.ones(3)]).expand(MANY, 2, 3)
    out = augment.scale_and_translate(points, torch_generator(0))
    shift, scale = out[:, 0], out[:, 1] - out[:, 0]
    assert shift.abs().max() <= 0.2 + 1e-6
    assert scale.min() >= 2 / 3 - 1e-6
    assert scale.max() <= 3 / 2 + 1e-6
    for drawn, mean, width in ((shift, 0.0, 0.4), (scale, 13 / 12, 5 / 6)):
        torch.testing.assert_close(drawn.mean(0), torch.full((3,), mean), atol=width / 50, rtol=0)
        torch.testing.assert_close(drawn.std(0), torch.full((3,), width / math.sqrt(12)), atol=width / 50, rtol=0)
    together = torch.corrcoef(torch.cat([shift, scale], dim=1).T)
    torch.testing.assert_close(together, torch.eye(6), atol=0.06, rtol=0)


def test_scale_and_translate_is_one_affine_map_for_all_points_of_a_cloud():
    points = cloud(torch.float64)
    out = augment.scale_and_translate(points, torch_generator(0))
    slope = (out[:, 1:] - out[:, :1]) / (points[:, 1:] - points[:, :1])
    torch.testing.assert_close(slope, slope[:, :1].expand_as(slope))


def test_rotation_about_y_has_the_official_matrix():
    matrices = augment.rotate(BASIS, torch_generator(0), "y")
    c, s = matrices[:, 0, 0], matrices[:, 0, 2]
    zero, one = torch.zeros(MANY), torch.ones(MANY)
    official = torch.stack([torch.stack(row, 1) for row in ((c, zero, s), (zero, one, zero), (-s, zero, c))], 1)
    torch.testing.assert_close(matrices, official)
    proper_rotations(matrices)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_keeps_its_axis_and_fills_the_circle(axis):
    at = "xyz".index(axis)
    matrices = augment.rotate(BASIS, torch_generator(1), axis)
    proper_rotations(matrices)
    torch.testing.assert_close(matrices[:, at], torch.eye(3)[at].expand(MANY, 3))
    a, b = (at + 1) % 3, (at + 2) % 3
    angle = torch.atan2(matrices[:, a, b], matrices[:, a, a])
    counts = torch.histc(angle, 8, -math.pi, math.pi)
    assert ((counts - MANY / 8).abs() < 100).all()  # about 4.8 standard deviations


def test_so3_rotations_are_uniform():
    matrices = augment.rotate_so3(BASIS, torch_generator(0))
    proper_rotations(matrices)
    trace = matrices.diagonal(dim1=1, dim2=2).sum(1)
    # Under the Haar measure: every entry has mean 0 and variance 1/3, and the trace has variance 1 (irreducible characters).
    torch.testing.assert_close(matrices.mean(0), torch.zeros(3, 3), atol=0.04, rtol=0)
    torch.testing.assert_close(matrices.square().mean(0), torch.full((3, 3), 1 / 3), atol=0.03, rtol=0)
    assert abs(trace.square().mean() - 1) < 0.08


def test_jitter_is_gaussian_and_clipped():
    points = torch.zeros(4, 5000, 3)
    noise = augment.jitter(points, torch_generator(0), sigma=0.02, clip=1.0)
    assert abs(noise.std() - 0.02) < 3e-4
    assert noise.abs().max() > 0.07
    assert augment.jitter(points, torch_generator(0), sigma=0.02, clip=0.03).abs().max() == pytest.approx(0.03)


@pytest.mark.parametrize("name", [name for name in augment.AUGMENTATIONS if name != "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_augmentation_is_seeded_differs_between_clouds_and_leaves_its_argument(name, dtype):
    points = cloud(dtype)[:1].expand(5, 64, 3).clone()
    before = points.clone()
    out = augment.augmentation(name)(points, torch_generator(3))
    torch.testing.assert_close(points, before, atol=0, rtol=0)
    assert out.shape == points.shape
    assert out.dtype == dtype
    torch.testing.assert_close(out, augment.augmentation(name)(points, torch_generator(3)), atol=0, rtol=0)
    assert (out - augment.augmentation(name)(points, torch_generator(4))).abs().max() > 1e-3
    for other in out[1:]:
        assert (other - out[0]).abs().max() > 1e-3


def test_none_changes_nothing():
    points = cloud()
    assert augment.augmentation("none")(points, torch_generator(0)) is points


def test_names_joined_by_plus_apply_from_left_to_right():
    random = torch_generator(5)
    expected = augment.scale_and_translate(augment.rotate(cloud(), random, "z"), random)
    torch.testing.assert_close(augment.augmentation("rotate-z + scale-translate")(cloud(), torch_generator(5)), expected, atol=0, rtol=0)
    swapped = augment.augmentation("scale-translate+rotate-z")(cloud(), torch_generator(5))
    assert (swapped - expected).abs().max() > 0.1


@pytest.mark.parametrize("name", ["rotate-w", "", "rotate-z+", "rotate-z+flip"])
def test_an_unknown_name_lists_those_there_are(name):
    with pytest.raises(UsageError, match=r"There are: none, scale-translate, scale, rotate-x, rotate-y, rotate-z, rotate-so3, jitter"):
        augment.augmentation(name)


def test_a_slip_is_answered_with_the_name_meant():
    with pytest.raises(UsageError, match="Did you mean 'scale-translate'"):
        augment.augmentation("scale_translate")
