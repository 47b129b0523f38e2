from __future__ import annotations

import numpy as np

from wisetune.points.content import alike, content_key, distinct, signature


def test_equal_values_have_one_key_however_they_are_held():
    cloud = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    key = content_key(cloud)
    assert len(key) == 16
    assert content_key(cloud.astype(np.float64)) == key
    assert content_key(np.array([[float(str(value)) for value in point] for point in cloud])) == key
    assert content_key(np.asfortranarray(cloud)) == key
    assert content_key(np.concatenate([cloud, cloud])[:20]) == key
    assert content_key(np.zeros((2, 3))) == content_key(-np.zeros((2, 3)))


def test_other_values_order_or_shape_have_another():
    cloud = np.arange(12.0).reshape(4, 3)
    moved = cloud.copy()
    moved[0, 0] = np.nextafter(np.float32(moved[0, 0]), np.float32(1))
    keys = [content_key(array) for array in (cloud, cloud[::-1], moved, cloud.reshape(3, 4), cloud[:3], cloud[:0])]
    assert len({*keys, content_key(cloud, cloud), content_key()}) == len(keys) + 2


def test_distinct_points_are_kept_once_in_their_order():
    points = np.array([[1, 2, 3], [0.0, 5, 6], [1, 2, 3], [3, 2, 1], [-0.0, 5, 6], [1, 2, 3]], np.float32)
    np.testing.assert_array_equal(distinct(points), points[[0, 1, 3]])
    plain = np.random.default_rng(0).integers(-9, 9, (400, 3)).astype(np.float32)  # coordinates that end in many zero bits
    assert sorted(map(tuple, distinct(plain))) == sorted(set(map(tuple, plain)))
    assert len(distinct(np.asfortranarray(plain))) == len(distinct(plain)) < 400
    without = np.unique(plain, axis=0)
    assert distinct(without) is without


def test_a_padded_cloud_is_the_same_shape():
    points = np.random.default_rng(0).normal(size=(200, 3))
    others = {
        "one point again": np.concatenate([points, np.repeat(points[:1], 56, axis=0)]),
        "some again, elsewhere": np.random.default_rng(1).permutation(np.concatenate([points, points[50:106]]) * 3 + 7).astype(np.float32),
        "another": np.concatenate([points[:150], points[:50]]),
    }
    marks = np.stack([signature(cloud) for cloud in (points, *others.values())])
    assert alike(marks) == [[0, 1, 2]]
