from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisetune.errors import UsageError
from wisetune.points.content import content_key
from wisetune.points.corrupt import KINDS, LEVELS, corrupt, corrupt_cloud
from wisetune.points.normalise import normalise
from wisetune.runtime import generator

PUBLISHED_COUNTS = {
    "scale": [1024] * 5,
    "jitter": [1024] * 5,
    "rotate": [1024] * 5,
    "dropout_global": [768, 640, 512, 384, 256],
    "dropout_local": [924, 824, 724, 624, 524],
    "add_global": [1034, 1044, 1054, 1064, 1074],
    "add_local": [1124, 1224, 1324, 1424, 1524],
}


def cloud(n: int = 1024) -> np.ndarray:
    return normalise(generator("cloud", n).normal(size=(n, 3)) * (1.0, 0.7, 0.4), "sphere")


def linear_map(points: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The matrix M with out = points @ M.T, up to a common shift."""
    centred = [side.astype(np.float64) - side.mean(axis=0, dtype=np.float64) for side in (points, out)]
    matrix, *_ = np.linalg.lstsq(*centred, rcond=None)
    np.testing.assert_allclose(centred[0] @ matrix, centred[1], atol=1e-5)
    return matrix.T


def rows_of(part: np.ndarray, whole: np.ndarray) -> list[int]:
    """The rows of ``whole`` that ``part`` is made of; every point of ``whole`` must be different."""
    where = {point.tobytes(): row for row, point in enumerate(whole)}
    return [where[point.tobytes()] for point in part]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cloud_of_1024_has_the_published_counts(kind):
    assert [len(corrupt_cloud(cloud(), kind, level, generator(level))) for level in LEVELS] == PUBLISHED_COUNTS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_counts_keep_their_share_in_a_cloud_of_2048(kind):
    counts = [len(corrupt_cloud(cloud(2048), kind, level, generator(level))) for level in LEVELS]
    assert counts == [2 * count for count in PUBLISHED_COUNTS[kind]]


@pytest.mark.parametrize(("level", "most"), [(1, 1.6), (2, 1.7), (3, 1.8), (4, 1.9), (5, 2.0)])
def test_scale_stretches_the_axes_and_returns_to_the_unit_sphere(level, most):
    points, ratios = cloud(64), []
    for seed in range(400):
        out = corrupt_cloud(points, "scale", level, generator(seed))
        assert np.linalg.norm(out, axis=1).max() == pytest.approx(1, abs=1e-6)
        matrix = linear_map(points, out)
        np.testing.assert_allclose(matrix, np.diag(np.diag(matrix)), atol=1e-5)
        ratios.append(np.diag(matrix).max() / np.diag(matrix).min())
    assert max(ratios) <= most**2 + 1e-4
    assert max(ratios) > 0.95 * most**2


@pytest.mark.parametrize("level", LEVELS)
def test_jitter_is_gaussian_without_a_clip(level):
    noise = corrupt_cloud(cloud(20_000), "jitter", level, generator(0)) - cloud(20_000)
    assert noise.std() == pytest.approx(0.01 * level, rel=0.02)
    assert 4 < np.abs(noise).max() / (0.01 * level) < 6


@pytest.mark.parametrize("level", LEVELS)
def test_rotate_stays_within_its_euler_angles(level):
    angles = []
    for seed in range(200):
        turn = linear_map(cloud(64), corrupt_cloud(cloud(64), "rotate", level, generator(seed)))
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(turn) > 0
        angles.append((np.arctan2(turn[2, 1], turn[2, 2]), np.arcsin(-turn[2, 0]), np.arctan2(turn[1, 0], turn[0, 0])))
    limit = np.pi / 30 * level
    assert np.abs(angles).max() <= limit + 1e-5
    assert (np.max(angles, axis=0) > 0.95 * limit).all()
    assert (np.min(angles, axis=0) < -0.95 * limit).all()
    assert np.abs(np.corrcoef(np.transpose(angles)) - np.eye(3)).max() < 0.25


@pytest.mark.parametrize("kind", ["dropout_global", "dropout_local"])
def test_dropping_keeps_the_other_points_in_order(kind):
    rows = rows_of(corrupt_cloud(cloud(), kind, 3, generator(0)), cloud())
    assert (np.diff(rows) > 0).all()


def test_dropout_global_drops_every_point_with_equal_probability():
    points = cloud(16)
    kept = np.concatenate([rows_of(corrupt_cloud(points, "dropout_global", 5, generator(seed)), points) for seed in range(1500)])
    np.testing.assert_allclose(np.bincount(kept) / 1500, 0.25, atol=0.05)


def test_dropout_local_drops_one_to_seven_clusters_of_neighbours():
    # On a line with growing gaps (so that no two distances tie), a cluster of nearest neighbours among those left is one run.
    line = np.cumsum(np.linspace(1.0, 1.1, 1024))[:, None] * (1e-4, 0.0, 0.0)
    holes = []
    for seed in range(60):
        gone = np.setdiff1d(np.arange(1024), rows_of(corrupt_cloud(line, "dropout_local", 2, generator(seed)), line.astype(np.float32)))
        holes.append(1 + (np.diff(gone) > 1).sum())
    assert min(holes) == 1
    assert 4 <= max(holes) <= 7


def test_dropout_local_drops_nearest_neighbours_in_space():
    points = cloud()
    found_one_cluster = False
    for seed in range(30):
        kept = rows_of(corrupt_cloud(points, "dropout_local", 1, generator(seed)), points)
        gone, left = np.delete(points, kept, axis=0), points[kept]
        # One cluster is a ball about one of its points that holds none of those left.
        distance = np.linalg.norm(gone[:, None] - gone[None], axis=2).max(axis=1)
        outside = np.linalg.norm(gone[:, None] - left[None], axis=2).min(axis=1)
        found_one_cluster |= bool((distance <= outside).any())
    assert found_one_cluster


def test_add_global_adds_points_uniform_in_the_ball():
    out = corrupt_cloud(cloud(100_000), "add_global", 5, generator(0))
    np.testing.assert_array_equal(out[:100_000], cloud(100_000))
    added = out[100_000:].astype(np.float64)
    radius = np.linalg.norm(added, axis=1)
    assert radius.max() <= 1 + 1e-6
    np.testing.assert_allclose(np.histogram(radius**3, 5, (0, 1))[0] / len(added), 0.2, atol=0.025)
    np.testing.assert_allclose(np.cov((added / radius[:, None]).T), np.eye(3) / 3, atol=0.03)


def test_add_local_adds_clusters_of_the_stated_width_about_points_of_the_cloud():
    centre = np.tile([[0.1, -0.2, 0.3]], (8192, 1))
    widths = []
    for seed in range(40):
        out = corrupt_cloud(centre, "add_local", 5, generator(seed))
        np.testing.assert_array_equal(out[:8192], centre.astype(np.float32))
        widths.append((out[8192:] - centre[:1]).std())
    assert min(widths) > 0.073  # 4000 points give a width to within 0.7 %
    assert max(widths) < 0.128
    assert max(widths) - min(widths) > 0.02


def test_add_local_makes_one_or_more_clusters():
    # Three places far further apart than a cluster is wide: x tells to which of them an added point belongs.
    places = np.linspace(-0.9, 0.9, 3)
    centres = np.array([[x, 0.0, 0.0] for x in places]).repeat(400, axis=0)
    shares = []
    for seed in range(60):
        added = corrupt_cloud(centres, "add_local", 1, generator(seed))[len(centres) :]
        nearest = np.abs(added[:, :1] - places).argmin(axis=1)
        shares.append(np.bincount(nearest, minlength=3) > 5)
    hit = np.sum(shares, axis=1)
    assert hit.min() == 1
    assert hit.max() == 3


def test_add_local_inverts_what_falls_outside_the_unit_sphere():
    edge = np.tile([[1.0, 0.0, 0.0]], (1024, 1))
    radius = np.linalg.norm(corrupt_cloud(edge, "add_local", 5, generator(0))[1024:], axis=1)
    assert radius.max() <= 1 + 1e-6
    assert (radius > 1 - 1e-4).mean() < 0.05
    # The inverse of a radius that is about as often above 1 as below: most of the mass is close to 1, none is projected onto it.
    assert radius.mean() == pytest.approx(0.93, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_each_cloud_depends_on_its_seed_kind_level_and_points_only(kind):
    clouds = np.stack([cloud(128), cloud(128)[::-1], normalise(cloud(128) ** 3)])
    out = corrupt(clouds, kind, 2, seed=5, size=128)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(corrupt(clouds[1:], kind, 2, seed=5, size=128), out[1:])  # in another row
    np.testing.assert_array_equal(corrupt(clouds[::-1], kind, 2, seed=5, size=128), out[::-1])
    assert (corrupt(clouds, kind, 3, seed=5, size=128) != out).any(axis=(1, 2)).all()
    assert (corrupt(clouds, kind, 2, seed=6, size=128) != out).any(axis=(1, 2)).all()
    alone = corrupt_cloud(clouds[1], kind, 2, generator(5, kind, 2, content_key(clouds[1])))
    assert set(rows_of(out[1], alone)) <= set(range(len(alone)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.01, 250.0])
def test_a_cloud_in_another_frame_is_corrupted_as_much(kind, size, monkeypatch):
    # The same draws, so that the clouds can be compared point by point.
    monkeypatch.setattr("wisetune.points.corrupt.content_key", lambda _: "one")
    place = size * np.array([3.0, -2.0, 1.0])
    there, here = (corrupt(points[None], kind, 4, seed=0, size=256)[0] for points in (cloud(256) * size + place, cloud(256)))
    np.testing.assert_allclose((there - place) / size, here, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_surplus_points_are_dropped_and_missing_ones_repeated_evenly(kind):
    alone = corrupt_cloud(cloud(), kind, 5, generator(0, kind, 5, content_key(cloud())))
    times = np.bincount(rows_of(corrupt(cloud()[None], kind, 5, seed=0, size=1024)[0], alone), minlength=len(alone))
    assert times.sum() == 1024
    assert times.max() - times.min() <= 1
    assert (times.min() == 0) == (len(alone) > 1024)


@given(
    n=st.integers(1, 40),
    size=st.integers(1, 60),
    kind=st.sampled_from(KINDS),
    level=st.sampled_from(LEVELS),
    equal=st.booleans(),
)
def test_any_cloud_gives_finite_clouds_of_the_size_asked(n, size, kind, level, equal):
    points = np.full((2, n, 3), 0.25) if equal else np.stack([cloud(n), cloud(n)[::-1]])
    out = corrupt(points, kind, level, seed=0, size=size)
    assert out.shape == (2, size, 3)
    assert np.isfinite(out).all()


def test_the_argument_is_left_alone():
    points, before = cloud(64), cloud(64)
    for kind in KINDS:
        corrupt_cloud(points, kind, 5, generator(0))
    np.testing.assert_array_equal(points, before)


def test_no_clouds_give_no_clouds():
    assert corrupt(np.empty((0, 16, 3)), "jitter", 1, seed=0, size=8).shape == (0, 8, 3)


def test_what_is_not_there_is_named():
    points = cloud(8)[None]
    with pytest.raises(UsageError, match=r"no corruption 'fog'.*scale, jitter, rotate"):
        inspect.unwrap(corrupt)(points, "fog", 1, seed=0, size=8)  # past the type checks of a test run, as a user calls it
    for level in (0, 6):
        with pytest.raises(UsageError, match=f"no level {level} .*1 .*to 5"):
            corrupt(points, "jitter", level, seed=0, size=8)
    with pytest.raises(UsageError, match="0 points"):
        corrupt(points, "jitter", 1, seed=0, size=0)
    with pytest.raises(UsageError, match="without points"):
        corrupt(points[:, :0], "jitter", 1, seed=0, size=8)
