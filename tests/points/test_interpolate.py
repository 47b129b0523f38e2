from __future__ import annotations

import torch

from wisetune.points.interpolate import spread_to


def test_by_hand():
    known = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [0, 4, 0], [9, 9, 9]]])
    values = torch.tensor([[[1.0], [2], [4], [1000]]])
    places = torch.tensor([[[1.0, 0, 0], [2, 0, 0]]])
    weights = torch.tensor([1.0, 1.0, 1 / 17])
    found = spread_to(places, known).of(values)[0, :, 0]
    torch.testing.assert_close(found, torch.stack([(weights * values[0, :3, 0]).sum() / weights.sum(), torch.tensor(2.0)]))
    torch.testing.assert_close(spread_to(places, known[:, :1]).of(values[:, :1]), torch.ones(1, 2, 1))
