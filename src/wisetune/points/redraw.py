"""Other points of the same clouds at every step of a training, as the released fine-tuning codes draw them."""

from __future__ import annotations

import torch
from jaxtyping import Float

from wisetune.points.neighbours import gather
from wisetune.points.sampling import SamplingRule, farthest_points


def redraw(
    points: Float[torch.Tensor, "b n 3"],
    count: int,
    pool: int,
    generator: torch.Generator,
    *,
    shared: bool = True,
    rule: SamplingRule = "intended",
) -> Float[torch.Tensor, "b {count} 3"]:
    """``count`` points of each cloud: by farthest point sampling ``pool`` of it, of these some at random.

    Each cloud is put in an order of its own first, since that sampling begins with the first point. ``shared`` makes one random choice among
    the places of the pool for all clouds, as the released codes do; else each cloud has its own.

    Raises:
        ValueError: more points wanted than there are to choose from.
    """
    n = points.shape[1]
    if not 1 <= count <= pool <= n:
        raise ValueError(f"{count} of {pool} of {n} points were asked for; each must be at most the next.")
    mixed = shuffled(points, generator)
    farthest = gather(mixed, farthest_points(mixed, pool, rule))
    places = torch.rand(1 if shared else len(points), pool, generator=generator).argsort(dim=1)[:, :count]
    return gather(farthest, places.expand(len(points), -1).to(points.device))


def shuffled(points: Float[torch.Tensor, "b n 3"], generator: torch.Generator) -> Float[torch.Tensor, "b n 3"]:
    """The points of each cloud in a random order of its own."""
    return gather(points, torch.rand(points.shape[:2], generator=generator).argsort(dim=1).to(points.device))
