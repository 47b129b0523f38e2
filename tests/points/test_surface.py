from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisetune.points.surface import resample, sample_surface
from wisetune.runtime import generator

# A right triangle of area 0.5 at z = 0, one of area 1.5 at z = 1, and faces without area: a repeated corner, three corners in line.
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 0, 1], [0, 1, 1], [2, 0, 0]], np.float64)
FACES = np.array([[0, 0, 1], [0, 1, 2], [0, 1, 6], [3, 4, 5], [5, 5, 5]], np.int64)


@pytest.mark.parametrize("count", [1, 7, 100, 1001])
def test_each_face_gets_its_share_to_within_two(count):
    for seed in range(20):
        points = sample_surface(VERTICES, FACES, count, generator(seed))
        assert points.shape == (count, 3)
        assert points.dtype == np.float32
        small, large = (points[:, 2] == 0).sum(), (points[:, 2] == 1).sum()
        assert small + large == count
        assert abs(small - count / 4) < 2


def test_points_are_uniform_inside_a_face():
    points = sample_surface(VERTICES, FACES[1:2], 20_000, generator(0)).astype(np.float64)
    weights = np.stack([points[:, 0], points[:, 1], 1 - points[:, 0] - points[:, 1]])
    assert weights.min() > -1e-6
    # Barycentric weights of a uniform point are Dirichlet(1, 1, 1): means 1/3, variances 1/18, covariances -1/36.
    np.testing.assert_allclose(weights.mean(axis=1), 1 / 3, atol=0.008)
    np.testing.assert_allclose(np.cov(weights), np.full((3, 3), -1 / 36) + np.eye(3) / 12, atol=0.0015)


def test_a_prefix_is_a_fair_sample_too():
    points = sample_surface(VERTICES, FACES, 8000, generator(0))
    assert abs((points[:2000, 2] == 0).mean() - 0.25) < 0.05


def test_the_same_stream_gives_the_same_points():
    first, again, other = (sample_surface(VERTICES, FACES, 50, generator(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_faces_that_differ_by_ten_orders_of_magnitude():
    vertices = np.concatenate([VERTICES[:3] * 1e-5, VERTICES[3:6]])
    points = sample_surface(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 1000, generator(0))
    assert np.isfinite(points).all()
    assert (points[:, 2] == 1).sum() >= 999


def test_no_points_asked_for():
    assert sample_surface(VERTICES, FACES, 0, generator(0)).shape == (0, 3)


@pytest.mark.parametrize("faces", [FACES[[0, 2, 4]], np.empty((0, 3), np.int64)])
def test_a_mesh_without_area_is_refused(faces):
    with pytest.raises(ValueError, match=f"none of the {len(faces)} faces"):
        sample_surface(VERTICES, faces, 10, generator(0))


@pytest.mark.parametrize("index", [7, -1])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match="only 0 to 6"):
        sample_surface(VERTICES, np.array([[0, 1, index]]), 10, generator(0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_a_vertex_that_is_not_finite_is_refused_where_a_face_uses_it(bad):
    vertices = VERTICES.copy()
    vertices[6] = bad
    with pytest.raises(ValueError, match="not finite"):
        sample_surface(vertices, FACES, 10, generator(0))
    assert len(sample_surface(vertices, FACES[[1, 3]], 10, generator(0))) == 10


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="-1"):
        sample_surface(VERTICES, FACES, -1, generator(0))


@given(n=st.integers(1, 40), count=st.integers(0, 100), seed=st.integers(0, 3))
def test_resample_takes_every_point_equally_often_or_once_more(n, count, seed):
    points = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
    out = resample(points, count, generator(seed))
    assert out.shape == (count, 3)
    assert out.dtype == points.dtype
    rows = (out[:, 0] / 3).astype(int)
    np.testing.assert_array_equal(points[rows], out)
    assert set(np.bincount(rows, minlength=n)) <= {count // n, -(-count // n)}
    if count >= n:
        np.testing.assert_array_equal(out[:n], points)
    else:
        assert (np.diff(rows) > 0).all()


def test_resample_chooses_every_point_with_equal_probability():
    points = np.repeat(np.arange(8.0)[:, None], 3, axis=1)
    for count in (3, 11):
        rows = np.concatenate([resample(points, count, generator(seed))[:, 0] for seed in range(2000)]).astype(int)
        np.testing.assert_allclose(np.bincount(rows) / 2000, count / 8, atol=0.05)


def test_resample_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="cloud of 0"):
        resample(np.empty((0, 3)), 5, generator(0))
    with pytest.raises(ValueError, match="-2 points"):
        resample(np.zeros((4, 3)), -2, generator(0))
