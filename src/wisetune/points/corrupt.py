"""The seven corruptions of PointCloud-C at five levels, seeded per cloud.

Ren, Pan, Liu: Benchmarking and Analyzing Point Cloud Classification under Corruptions, ICML 2022. This is written from a description of the
protocol, not from its code, so clouds are alike in distribution and not bit by bit; to compare with published tables, use the published
files. Lengths are those of a cloud in the unit sphere (``normalise``). Where the description is silent, the choice is stated below.

Counts are published for 1024 points. For other sizes they keep their share of the cloud, rounded, at least one point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from wisetune.errors import UsageError
from wisetune.points.content import content_key
from wisetune.points.normalise import normalise
from wisetune.points.surface import resample
from wisetune.runtime import generator as stream

Kind = Literal["scale", "jitter", "rotate", "dropout_global", "dropout_local", "add_global", "add_local"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEVELS = (1, 2, 3, 4, 5)

_SCALES = (1.6, 1.7, 1.8, 1.9, 2.0)
_DROPPED = (0.25, 0.375, 0.5, 0.625, 0.75)
_PUBLISHED_SIZE = 1024
_MOST_CLUSTERS = 7
_ROUNDING = 1e-4


def corrupt(points: Float[np.ndarray, "b n 3"], kind: Kind, level: int, seed: int, size: int) -> Float32[np.ndarray, "b {size} 3"]:
    """Corrupt every cloud and bring it back to ``size`` points.

    The published clouds vary in size (dropping leaves 256 of 1024, adding makes 1524). Our backbones take a fixed number, so surplus points
    are dropped by a random choice without replacement, and missing ones are made up by repeating points, evenly (``resample``). Sampling
    is thus part of this measure. What becomes of a cloud follows from its points and ``runtime.generator(seed, kind, level,
    content_key(cloud))`` only, so it is the same wherever the cloud stands and whatever stands beside it.

    A cloud in another frame is brought to the unit sphere about its mean, corrupted there, and put back: noise, turns and clusters are as
    large for a cloud in metres as for the same cloud in millimetres.

    Args:
        points: clouds in any frame.
        kind: one of ``KINDS``.
        level: 1 (mild) to 5 (strong).
        seed: the first part of the key of each cloud's draws.
        size: points of every cloud in the result.

    Raises:
        UsageError: no such kind or level, a size below 1, or clouds without points.
    """
    if size < 1:
        raise UsageError(f"corrupted clouds cannot have {size} points; ask for at least 1.")
    _check(points, kind, level)
    out = np.empty((len(points), size, 3), np.float32)
    for index, cloud in enumerate(points):
        random = stream(seed, kind, level, content_key(cloud))
        mean, radius = _frame(cloud)
        spoilt = resample(corrupt_cloud((cloud - mean) / radius, kind, level, random), size, random)
        out[index] = spoilt * radius + mean
    return out


def _frame(points: Float[np.ndarray, "n 3"]) -> tuple[Float64[np.ndarray, "3"], float]:
    """Mean and largest distance from it; of a cloud that is in the unit sphere already exactly 0 and 1, so that nothing is rounded."""
    mean = points.mean(axis=0, dtype=np.float64)
    radius = float(np.linalg.norm(points - mean, axis=1).max())
    if np.abs(mean).max() < _ROUNDING and abs(radius - 1) < _ROUNDING:
        return np.zeros(3), 1.0
    return mean, radius or 1.0


def corrupt_cloud(points: Float[np.ndarray, "n 3"], kind: Kind, level: int, generator: np.random.Generator) -> Float32[np.ndarray, "m 3"]:
    """Corrupt one cloud in the unit sphere; ``m`` follows from ``n``, kind and level, and is at least 1.

    Added points stand behind the cloud's own, which keep their order.

    Raises:
        UsageError: no such kind or level, or a cloud without points.
    """
    _check(points, kind, level)
    return _CORRUPTIONS[kind](points.astype(np.float64), level, generator).astype(np.float32)


def _check(points: Float[np.ndarray, "*b n 3"], kind: str, level: int) -> None:
    if kind not in KINDS:
        raise UsageError(f"there is no corruption '{kind}'. There are: {', '.join(KINDS)}.")
    if level not in LEVELS:
        raise UsageError(f"there is no level {level} of corruption '{kind}'. Levels are 1 (mild) to 5 (strong).")
    if points.shape[-2] == 0:
        raise UsageError("a cloud without points cannot be corrupted.")


Cloud: TypeAlias = Float64[np.ndarray, "n 3"]


def _scale(points: Cloud, level: int, generator: np.random.Generator) -> Float[np.ndarray, "n 3"]:
    """Per-axis factors from U(1/s, s), then back into the unit sphere."""
    most = _SCALES[level - 1]
    return normalise(points * generator.uniform(1 / most, most, 3), "sphere")


def _jitter(points: Cloud, level: int, generator: np.random.Generator) -> Cloud:
    """Gaussian noise without a clip."""
    return points + generator.normal(0.0, 0.01 * level, points.shape)


def _rotate(points: Cloud, level: int, generator: np.random.Generator) -> Cloud:
    """Three Euler angles, about x, then y, then z."""
    limit = np.pi / 30 * level
    for axis, angle in enumerate(generator.uniform(-limit, limit, 3)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i] = np.sin(angle)
        turn[i, j] = -turn[j, i]
        points = points @ turn.T
    return points


def _dropout_global(points: Cloud, level: int, generator: np.random.Generator) -> Float64[np.ndarray, "m 3"]:
    """A random share of the points goes."""
    kept = max(1, len(points) - round(_DROPPED[level - 1] * len(points)))
    return resample(points, kept, generator)


def _dropout_local(points: Cloud, level: int, generator: np.random.Generator) -> Float64[np.ndarray, "m 3"]:
    """Clusters go one after the other: a random point among those left, and its nearest neighbours among those left."""
    total = min(_scaled(100 * level, len(points)), len(points) - 1)
    for size in _clusters(total, generator):
        centre = points[generator.integers(len(points))]
        distance = ((points - centre) ** 2).sum(axis=1)
        points = points[np.sort(np.argpartition(distance, size)[size:])]
    return points


def _add_global(points: Cloud, level: int, generator: np.random.Generator) -> Float64[np.ndarray, "m 3"]:
    """Points uniform in the unit ball: a uniform direction at the cube root of a uniform radius."""
    count = _scaled(10 * level, len(points))
    direction = generator.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return np.concatenate([points, direction * np.cbrt(generator.random((count, 1)))])


def _add_local(points: Cloud, level: int, generator: np.random.Generator) -> Float64[np.ndarray, "m 3"]:
    """Gaussian clusters about random points of the cloud, each with its own width; points outside the unit sphere are inverted into it."""
    sizes = _clusters(_scaled(100 * level, len(points)), generator)
    centres = points[generator.integers(len(points), size=len(sizes))]
    widths = generator.uniform(0.075, 0.125, (len(sizes), 1))
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    added = centres[cluster] + widths[cluster] * generator.standard_normal((len(cluster), 3))
    added /= np.maximum(1.0, (added**2).sum(axis=1, keepdims=True))
    return np.concatenate([points, added])


def _scaled(count: int, size: int) -> int:
    return max(1, round(count * size / _PUBLISHED_SIZE))


def _clusters(total: int, generator: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """Sizes of 1 to 7 clusters that share ``total`` points: each point falls into any of them with equal probability."""
    k = generator.integers(1, _MOST_CLUSTERS + 1)
    return generator.multinomial(total, np.full(k, 1 / k))


_CORRUPTIONS: dict[Kind, Callable[[Cloud, int, np.random.Generator], Float[np.ndarray, "m 3"]]] = {
    "scale": _scale,
    "jitter": _jitter,
    "rotate": _rotate,
    "dropout_global": _dropout_global,
    "dropout_local": _dropout_local,
    "add_global": _add_global,
    "add_local": _add_local,
}
