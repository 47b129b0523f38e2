from __future__ import annotations

import numpy as np
import pytest
import torch

from wisetune.points.sampling import farthest_points, farthest_points_torch, preference

CASES = ("random", "near_origin", "full_permutation", "grid_ties", "duplicates", "all_inside")
RULES = ("intended", "pointnet2", "pointops")
BOTH = pytest.mark.parametrize("function", [farthest_points, farthest_points_torch], ids=["numba", "torch"])


def clouds(seed: int, b: int, n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((b, n, 3))).to(dtype)


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "reference/backbones/golden/ops.npz") as file:
        return dict(file)


@BOTH
@pytest.mark.parametrize("rule", ["pointnet2", "pointops"])
@pytest.mark.parametrize("case", CASES)
def test_golden(golden, function, case, rule):
    wanted = golden[f"{case}/fps_{rule}"]
    found = function(torch.from_numpy(golden[f"{case}/points"]), wanted.shape[1], rule)
    np.testing.assert_array_equal(found.numpy(), wanted)


def by_hand(cloud: np.ndarray, count: int) -> list[int]:
    """The intended rule, in float32 and as slowly as it is said: of the points not yet chosen the farthest, the first of equals."""
    chosen = [0]
    while len(chosen) < count:
        best, at = -1.0, -1
        for i in range(len(cloud)):
            if i not in chosen:
                d = cloud[chosen] - cloud[i]
                near = min(d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1] + d[:, 2] * d[:, 2])
                if near > best:
                    best, at = near, i
        chosen.append(at)
    return chosen


@BOTH
def test_intended_is_what_it_says(function):
    points = clouds(0, 3, 40)
    found = function(points, 12)
    assert found.tolist() == [by_hand(cloud.numpy(), 12) for cloud in points]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["random", "grid", "same", "line", "far"])
@pytest.mark.parametrize("n", [1, 2, 31, 512, 700])
def test_numba_and_torch_agree(rule, kind, n):
    points = clouds(n, 2, n)
    if kind == "grid":
        points = (points * 2).round() / 2
    elif kind == "same":
        points = torch.ones_like(points)
    elif kind == "line":
        points[..., 1:] = 0
    elif kind == "far":
        points = points * 1e7
    count = min(n, 40)
    assert torch.equal(farthest_points(points, count, rule), farthest_points_torch(points, count, rule))


@BOTH
@pytest.mark.parametrize("kind", ["random", "same"])
def test_sampling_all_is_a_permutation(function, kind):
    points = clouds(3, 2, 60) if kind == "random" else torch.zeros(2, 60, 3)
    assert torch.equal(function(points, 60).sort(dim=1).values, torch.arange(60).expand(2, 60))


@BOTH
def test_far_clouds_are_covered_like_near_ones(function):
    points = clouds(4, 2, 100)
    near = function(points, 20)
    assert torch.equal(function(points * 2.0**20, 20), near)  # squared distances beyond the kernels' 1e10
    assert not torch.equal(function(points * 2.0**20, 20, "pointops"), near)


@BOTH
def test_the_intended_rule_does_not_skip_the_origin(function):
    points = clouds(5, 1, 20) * 0.001
    assert len(set(function(points, 10)[0].tolist())) == 10
    assert set(function(points, 10, "pointnet2")[0].tolist()) == {0}


@BOTH
def test_float64_sees_the_same_groups(function):
    points = clouds(6, 2, 100)
    assert torch.equal(function(points.double(), 30), function(points, 30))


def test_clouds_do_not_depend_on_each_other_nor_on_threads():
    points = clouds(7, 5, 80)
    alone = torch.cat([farthest_points(cloud[None], 16) for cloud in points])
    assert torch.equal(farthest_points(points, 16), alone)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(farthest_points(points, 16), alone)
    finally:
        torch.set_num_threads(before)


@BOTH
@pytest.mark.parametrize("count", [0, -1, 11])
def test_counts_that_cannot_be(function, count):
    with pytest.raises(ValueError, match=f"asked for {count} of 10 points"):
        function(clouds(0, 1, 10), count)


@BOTH
def test_no_points_and_no_clouds(function):
    with pytest.raises(ValueError, match="of 0 points"):
        function(torch.zeros(2, 0, 3), 1)
    assert function(torch.zeros(0, 5, 3), 2).shape == (0, 2)


@pytest.mark.parametrize("rule", RULES)
def test_no_coordinate_makes_the_kernel_leave_its_memory(rule):
    for bad in (float("nan"), float("inf")):
        points = clouds(8, 1, 50)
        points[0, ::3] = bad
        found = farthest_points(points, 20, rule)
        assert ((found >= 0) & (found < 50)).all()


def test_preference_is_a_permutation_that_begins_with_the_first_thread():
    for rule in RULES:
        for n in (1, 2, 3, 511, 512, 513, 1500):
            order = preference(n, rule)
            assert sorted(order.tolist()) == list(range(n))
    assert preference(8, "pointnet2").tolist() == [0, 4, 2, 6, 1, 5, 3, 7]  # bit reversal
    assert preference(10, "pointnet2").tolist()[:3] == [0, 8, 4]  # thread 0 holds 0 and 8
