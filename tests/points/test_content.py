from __future__ import annotations

import numpy as np

from wisetune.points.content import content_key


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
