from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wisetune.points import neighbours as module
from wisetune.points.neighbours import gather, nearest_neighbours, nearest_neighbours_torch, patches
from wisetune.points.sampling import farthest_points

CASES = ("random", "near_origin", "full_permutation", "grid_ties", "duplicates", "all_inside")
BOTH = pytest.mark.parametrize("function", [nearest_neighbours, nearest_neighbours_torch], ids=["numba", "torch"])


def clouds(seed: int, b: int, n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((b, n, 3))).float()


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_golden(shared, function, case):
    with np.load(shared / "reference/backbones/golden/ops.npz") as golden:
        points = torch.from_numpy(golden[f"{case}/points"])
        centres = gather(points, torch.from_numpy(golden[f"{case}/fps_pointnet2"]).long())
        np.testing.assert_array_equal(function(points, centres, 16).numpy(), golden[f"{case}/knn16_sorted_by_distance"])


@BOTH
def test_equal_distances_fall_to_the_lower_index(function):
    points = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [-1, 0, 0], [0, 0, 0]]])
    assert function(points, torch.zeros(1, 1, 3), 5).tolist() == [[[2, 4, 0, 1, 3]]]


@BOTH
def test_equals_sorting_all_distances(function):
    points, queries = clouds(0, 3, 50), clouds(1, 3, 7)
    distances = (points[:, None].double() - queries[:, :, None].double()).square().sum(-1)
    assert torch.equal(function(points, queries, 9), distances.argsort(dim=-1)[..., :9])


@pytest.mark.parametrize("count", [1, 5, 64])
@pytest.mark.parametrize("kind", ["random", "grid", "same"])
def test_numba_and_torch_agree(kind, count):
    points = clouds(2, 3, 64)
    points = {"random": points, "grid": (points * 2).round(), "same": torch.ones_like(points)}[kind]
    queries = points[:, :10]
    assert torch.equal(nearest_neighbours(points, queries, count), nearest_neighbours_torch(points, queries, count))


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made inside."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            self.elements = max(self.elements, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return made


@pytest.mark.parametrize("kind", ["random", "grid", "same"])
def test_memory_does_not_grow_with_the_queries(monkeypatch, kind):
    points = clouds(2, 2, 100)
    points = {"random": points, "grid": (points * 2).round(), "same": torch.ones_like(points)}[kind]
    wanted = nearest_neighbours_torch(points, points, 4)
    monkeypatch.setattr(module, "_BYTES", 32 * 2 * 100 * 7)  # seven queries at a time
    with Largest() as largest:
        found = nearest_neighbours_torch(points, points, 4)
    assert torch.equal(found, wanted)
    assert largest.elements <= 2 * 100 * 7 * 3
    assert torch.equal(found, nearest_neighbours(points, points, 4))


@BOTH
def test_float64_and_strides_see_the_same(function):
    points = clouds(3, 2, 40)
    wanted = function(points, points[:, :4], 6)
    assert torch.equal(function(points.double(), points[:, :4].double(), 6), wanted)
    turned = points.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(function(turned, turned[:, :4], 6), wanted)


@BOTH
@pytest.mark.parametrize("count", [0, 11])
def test_counts_that_cannot_be(function, count):
    with pytest.raises(ValueError, match=f"{count} neighbours were asked for in clouds of 10 points"):
        function(clouds(0, 1, 10), clouds(0, 1, 2), count)


def test_patches_hold_their_centre_first_and_cover_near_points():
    points = clouds(4, 2, 100)
    found = patches(points, 12, 8)
    assert torch.equal(found.centres, farthest_points(points, 12))
    assert torch.equal(found.members[..., 0], found.centres)
    offsets = gather(points, found.members) - gather(points, found.centres)[:, :, None]
    reach = offsets.norm(dim=-1)
    assert (reach.diff(dim=-1) >= 0).all()  # ascending
    assert all(len(set(patch)) == 8 for patch in found.members.flatten(0, 1).tolist())


def test_gather_takes_rows_of_each_cloud():
    points = torch.arange(24.0).view(2, 4, 3)
    index = torch.tensor([[[3, 0], [1, 1]], [[2, 2], [0, 3]]])
    found = gather(points, index)
    assert found.shape == (2, 2, 2, 3)
    assert torch.equal(found[1, 0, 0], points[1, 2])
    assert torch.equal(found[0, 1, 1], points[0, 1])


def test_no_coordinate_makes_the_kernel_leave_its_memory():
    points = clouds(5, 1, 30)
    points[0, ::4] = float("nan")
    found = nearest_neighbours(points, points[:, :9], 12)
    assert ((found >= 0) & (found < 30)).all()
