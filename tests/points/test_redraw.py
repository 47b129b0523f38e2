from __future__ import annotations

import pytest
import torch

from wisetune.points.redraw import redraw
from wisetune.points.sampling import farthest_points
from wisetune.runtime import torch_generator

CLOUDS = torch.randn(6, 50, 3, generator=torch_generator("clouds"))


def draw(count: int = 12, pool: int = 20, seed: int = 0, **options) -> torch.Tensor:
    return redraw(CLOUDS, count, pool, torch_generator(seed), **options)


def places(drawn: torch.Tensor) -> list[list[int]]:
    """Of each point of each cloud which of its points it is."""
    return [[int((cloud == point).all(dim=1).nonzero()) for point in points] for cloud, points in zip(CLOUDS, drawn, strict=True)]


@pytest.mark.parametrize("options", [{}, {"shared": False}, {"rule": "pointnet2"}, {"rule": "pointops"}])
def test_points_are_the_clouds_own_each_once_and_follow_from_the_seed(options):
    drawn = draw(**options)
    assert drawn.shape == (6, 12, 3)
    assert all(len(set(found)) == 12 for found in places(drawn))
    assert torch.equal(drawn, draw(**options))
    assert not torch.equal(drawn, draw(seed=1, **options))


def test_they_are_farthest_points_of_the_cloud_in_an_order_of_its_own():
    order = torch.rand(6, 50, generator=torch_generator(0)).argsort(dim=1)
    for cloud, mixed, drawn in zip(CLOUDS, order, draw(), strict=True):
        pool = cloud[mixed][farthest_points(cloud[mixed][None], 20)[0]]
        assert all(bool((pool == point).all(dim=1).any()) for point in drawn)
    assert len(set(order[:, 0].tolist())) > 1


def test_one_choice_for_the_batch_takes_the_same_places_of_each_pool_and_a_choice_a_cloud_does_not():
    same = CLOUDS[:1].expand(6, 50, 3)
    whole = {shared: redraw(same, 1, 50, torch_generator(0), shared=shared) for shared in (True, False)}
    order = torch.rand(6, 50, generator=torch_generator(0)).argsort(dim=1)
    found = {}
    for shared, drawn in whole.items():
        ranks = []
        for row in range(6):
            mixed = same[row][order[row]]
            pool = mixed[farthest_points(mixed[None], 50)[0]]
            ranks.append(int((pool == drawn[row]).all(dim=1).nonzero()))
        found[shared] = set(ranks)
    assert len(found[True]) == 1
    assert len(found[False]) > 1


def test_all_of_a_cloud_is_the_cloud_in_another_order():
    whole = redraw(CLOUDS, 50, 50, torch_generator(0))
    assert [sorted(found) for found in places(whole)] == [list(range(50))] * 6


@pytest.mark.parametrize(("count", "pool"), [(21, 20), (12, 51), (0, 20)])
def test_more_than_there_are_is_refused(count, pool):
    with pytest.raises(ValueError, match=f"{count} of {pool} of 50 points"):
        draw(count, pool)
