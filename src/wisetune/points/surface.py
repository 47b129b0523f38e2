"""From a surface or a cloud of any size to a cloud of the size that a backbone takes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64


def sample_surface(
    vertices: Float64[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"], count: int, generator: np.random.Generator
) -> Float32[np.ndarray, "{count} 3"]:
    """Draw points uniformly by area from a triangle mesh.

    Stratified: the faces, laid end to end by area, are cut into ``count`` equal pieces, and each piece gives one point, so a face holds
    its share of the points to within two. Inside a face: Osada et al., Shape Distributions, ACM TOG 2002, eq. 1. The points come in random
    order, so that a prefix of them is a fair sample too.

    Args:
        vertices: corners, in any unit. The result is float32: move a mesh that lies far from the origin there first.
        faces: rows of ``vertices``; faces without area are never drawn.
        count: points to draw.
        generator: the random stream.

    Raises:
        ValueError: an index out of range, a vertex in use that is not finite or does not fit float32, no face with an area, or a
            negative count.
    """
    if count < 0:
        raise ValueError(f"cannot sample {count} points")
    if faces.size and not (faces.min() >= 0 and faces.max() < len(vertices)):
        raise ValueError(f"the faces name vertices {faces.min()} to {faces.max()}, but there are only 0 to {len(vertices) - 1}")
    corners = vertices[faces]
    if not (np.abs(corners) <= np.finfo(np.float32).max).all():
        raise ValueError("the mesh has vertices that are not finite, or too large for float32")
    edges = corners[:, 1:] - corners[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    solid = np.flatnonzero(areas > 0)
    if len(solid) == 0:
        raise ValueError(f"none of the {len(faces)} faces of the mesh has an area, so there is no surface to sample")
    ends = np.cumsum(areas[solid])
    at = (np.arange(count) + generator.random(count)) / count * ends[-1] if count else np.empty(0)
    # Rounding may carry the last position up to the very end.
    face = solid[np.minimum(np.searchsorted(ends, at, side="right"), len(solid) - 1)]
    root, along = np.sqrt(generator.random((count, 1))), generator.random((count, 1))
    drawn = corners[face, 0] + root * (1 - along) * edges[face, 0] + root * along * edges[face, 1]
    return generator.permutation(drawn).astype(np.float32)


def resample(points: Float[np.ndarray, "n 3"], count: int, generator: np.random.Generator) -> Float[np.ndarray, "{count} 3"]:
    """Bring a cloud to ``count`` points, each taken as often as any other, or once more.

    More points than asked for: a choice without replacement, in the cloud's order. As many: the cloud itself. Fewer: all of them, as many
    times as they fit, and then a choice without replacement for the rest.

    Raises:
        ValueError: a cloud without points, or a negative count.
    """
    if len(points) == 0 or count < 0:
        raise ValueError(f"cannot choose {count} points from a cloud of {len(points)}")
    whole = np.tile(np.arange(len(points)), count // len(points))
    rest = np.sort(generator.choice(len(points), count % len(points), replace=False))
    return points[np.concatenate([whole, rest])]
