"""Augmentations of a training batch: each cloud draws its own parameters.

Parameters are drawn on the CPU, so that a run's augmentation is the same on every device, and then follow the points.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float

from wisetune.errors import UsageError, did_you_mean

Axis = Literal["x", "y", "z"]
Augmentation: TypeAlias = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
"""From points ``[b, n, 3]`` and a CPU generator to new points of the same shape, dtype and device."""


def scale_and_translate(
    points: Float[torch.Tensor, "b n 3"],
    generator: torch.Generator,
    low: float = 2 / 3,
    high: float = 3 / 2,
    shift: float = 0.2,
) -> Float[torch.Tensor, "b n 3"]:
    """Per cloud and axis, a factor from U(low, high), then a shift from U(-shift, shift) in the points' unit.

    The defaults are those of Point-BERT, Point-MAE and their descendants (``PointcloudScaleAndTranslate``).
    """
    drawn = torch.rand(2, len(points), 1, 3, generator=generator).to(points)
    return points * (low + (high - low) * drawn[0]) + shift * (2 * drawn[1] - 1)


def rotate(points: Float[torch.Tensor, "b n 3"], generator: torch.Generator, axis: Axis = "y") -> Float[torch.Tensor, "b n 3"]:
    """Per cloud, one angle from U(0, 2π) about an axis through the origin.

    About y, row vectors are multiplied by ``[[c, 0, s], [0, 1, 0], [-s, 0, c]]`` as in the official fine-tuning codes
    (``PointcloudRotate``); x and z follow by cyclic exchange.
    """
    angle = 2 * math.pi * torch.rand(len(points), generator=generator)
    at = "xyz".index(axis)
    after, before = (at + 1) % 3, (at + 2) % 3
    matrix = torch.zeros(len(points), 3, 3)
    matrix[:, at, at] = 1
    matrix[:, after, after] = matrix[:, before, before] = angle.cos()
    matrix[:, before, after] = angle.sin()
    matrix[:, after, before] = -angle.sin()
    return points @ matrix.to(points)


def rotate_so3(points: Float[torch.Tensor, "b n 3"], generator: torch.Generator) -> Float[torch.Tensor, "b n 3"]:
    """Per cloud, a rotation uniform over SO(3): the direction of a Gaussian quaternion (Shoemake, Graphics Gems III, 1992)."""
    w, x, y, z = torch.nn.functional.normalize(torch.randn(len(points), 4, generator=generator), dim=1).unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    matrix = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    return points @ matrix.to(points)


def jitter(
    points: Float[torch.Tensor, "b n 3"], generator: torch.Generator, sigma: float = 0.01, clip: float = 0.05
) -> Float[torch.Tensor, "b n 3"]:
    """Gaussian noise on every coordinate, cut at ±clip, in the points' unit; the defaults are PointNet's (Qi et al., CVPR 2017)."""
    noise = sigma * torch.randn(points.shape, generator=generator)
    return points + noise.clamp(-clip, clip).to(points)


def _none(points: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    return points


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": _none,
    "scale-translate": scale_and_translate,
    "scale": functools.partial(scale_and_translate, shift=0.0),
    "rotate-x": functools.partial(rotate, axis="x"),
    "rotate-y": functools.partial(rotate, axis="y"),
    "rotate-z": functools.partial(rotate, axis="z"),
    "rotate-so3": rotate_so3,
    "jitter": jitter,
}

AUGMENTS = f"done to clouds from left to right, joined by +: {', '.join(AUGMENTATIONS)}"
"""What an option says of itself that takes such names."""


def augmentation(name: str) -> Augmentation:
    """One callable from names joined by ``+``, applied from left to right; for example ``rotate-z+scale-translate``.

    Raises:
        UsageError: no such name; the message lists those there are.
    """
    steps = [_step(part.strip(), name) for part in name.split("+")]

    def augment(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        for step in steps:
            points = step(points, generator)
        return points

    return augment


def _step(part: str, name: str) -> Augmentation:
    if part not in AUGMENTATIONS:
        hint = did_you_mean(part, AUGMENTATIONS)
        asked = f"'{part}'" if part == name else f"'{part}' (in '{name}')"
        raise UsageError(f"there is no augmentation {asked}.{hint} There are: {', '.join(AUGMENTATIONS)}; join several with '+'.")
    return AUGMENTATIONS[part]
