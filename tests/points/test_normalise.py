from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisetune.errors import UsageError
from wisetune.points.normalise import normalise


@pytest.fixture
def clouds() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, (1.0, 2.0, 5.0), (4, 100, 3))


def norms(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points.astype(np.float64), axis=-1)


def test_sphere_centres_each_cloud_and_makes_its_largest_norm_one(clouds):
    moved = normalise(clouds, "sphere")
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(norms(moved).max(axis=1), 1, atol=1e-6)


def test_sphere_keeps_proportions(clouds):
    moved = normalise(clouds[0], "sphere")
    centred = clouds[0] - clouds[0].mean(axis=0)
    np.testing.assert_allclose(moved * norms(centred).max(), centred, atol=1e-5)


def test_a_batch_is_its_clouds_one_by_one(clouds):
    for mode in ("sphere", "centre", "none"):
        np.testing.assert_array_equal(normalise(clouds, mode), np.stack([normalise(cloud, mode) for cloud in clouds]))


def test_centre_keeps_the_unit(clouds):
    np.testing.assert_allclose(normalise(clouds, "centre"), clouds - clouds.mean(axis=1, keepdims=True), atol=1e-5)


def test_none_changes_the_dtype_only(clouds):
    np.testing.assert_array_equal(normalise(clouds, "none"), clouds.astype(np.float32))


@pytest.mark.parametrize("mode", ["sphere", "centre"])
def test_a_cloud_far_from_the_origin_keeps_its_shape(mode):
    near = np.random.default_rng(1).integers(-512, 512, (200, 3)) / 256.0  # exact in float64 beside 1e9
    np.testing.assert_allclose(normalise(near + 1e9, mode), normalise(near, mode), atol=1e-6)


@given(scale=st.floats(1e-200, 1e200))
def test_sphere_does_not_depend_on_the_unit(scale):
    points = np.random.default_rng(2).normal(size=(50, 3))
    np.testing.assert_allclose(normalise(points * scale, "sphere"), normalise(points, "sphere"), atol=1e-6)


@given(value=st.floats(-1e30, 1e30), count=st.integers(1, 50))
def test_equal_points_become_the_origin(value, count):
    for mode in ("sphere", "centre"):
        np.testing.assert_array_equal(normalise(np.full((count, 3), value), mode), 0)


def test_one_flat_cloud_in_a_batch_leaves_the_others_alone(clouds):
    mixed = np.concatenate([clouds[:1], np.full((1, 100, 3), 0.1)])
    moved = normalise(mixed, "sphere")
    np.testing.assert_array_equal(moved[0], normalise(clouds[0], "sphere"))
    np.testing.assert_array_equal(moved[1], 0)


def test_the_argument_is_left_alone(clouds):
    before = clouds.copy()
    for mode in ("sphere", "centre", "none"):
        normalise(clouds, mode)[...] = 7
    np.testing.assert_array_equal(clouds, before)


@pytest.mark.parametrize("mode", ["sphere", "centre", "none"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(clouds, mode, bad):
    clouds[1, 5, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        normalise(clouds, mode)


def test_values_too_large_for_float32_are_refused():
    with pytest.raises(ValueError, match="too large for float32"):
        normalise(np.array([[1e39, 0.0, 0.0]]), "none")


def test_a_cloud_without_points_is_refused():
    with pytest.raises(ValueError, match="no points"):
        normalise(np.empty((0, 3)), "sphere")


def test_an_unknown_mode_lists_those_there_are(clouds):
    with pytest.raises(UsageError, match=r"cube.*sphere, centre, none"):
        inspect.unwrap(normalise)(clouds, "cube")  # past the type checks of a test run, as a user calls it
