"""Farthest points and nearest neighbours against the torch code that is pasted everywhere.

python -m benchmarks.sampling [--threads 2] [--rounds 5] [--keep-memory] [--json FILE]
"""

from __future__ import annotations

import torch

from benchmarks import _plain
from benchmarks._timing import arguments, check, compare, prepare, report, times
from wisetune.points.neighbours import gather, nearest_neighbours
from wisetune.points.sampling import farthest_points

# clouds, points of each, how many are chosen, how often it is run for one measurement
_SAMPLING = ((32, 1024, 64, 20), (32, 2048, 128, 5), (32, 8192, 512, 1), (32, 8192, 1200, 1))
# clouds, points, queries, neighbours of each
_NEIGHBOURS = ((32, 1024, 64, 32, 20), (32, 2048, 128, 32, 5), (8, 8192, 512, 32, 2))
_TINY_SAMPLING, _TINY_NEIGHBOURS = ((4, 128, 16, 1),), ((4, 128, 16, 8, 1),)


def main() -> None:
    """Run every size."""
    options = arguments(__doc__ or "").parse_args()
    prepare(options)
    torch.manual_seed(0)
    results = []
    for b, n, count, repeats in _TINY_SAMPLING if options.smoke else _SAMPLING:
        points = torch.randn(b, n, 3)
        different = (farthest_points(points, count) != _plain.farthest_points(points, count)).float().mean()
        check("share of farthest points that are others", float(different), 0.0)

        def ours(points: torch.Tensor = points, count: int = count) -> object:
            return farthest_points(points, count)

        def peer(points: torch.Tensor = points, count: int = count) -> object:
            return _plain.farthest_points(points, count)

        results.append(compare(f"{count} farthest of {b} x {n}", times(ours, repeats), times(peer, repeats), options.rounds))
    for b, n, queries, count, repeats in _TINY_NEIGHBOURS if options.smoke else _NEIGHBOURS:
        points = torch.randn(b, n, 3)
        centres = gather(points, farthest_points(points, queries))
        # cdist multiplies matrices: its rounding swaps neighbours that are equally far but for the last digits, so distances are compared.
        found = [_distances(points, centres, near(points, centres, count)) for near in (nearest_neighbours, _plain.neighbours)]
        check("distances to the neighbours", float((found[0] - found[1]).abs().max() / found[1].max()), 1e-4)

        def near_ours(points: torch.Tensor = points, centres: torch.Tensor = centres, count: int = count) -> object:
            return nearest_neighbours(points, centres, count)

        def near_peer(points: torch.Tensor = points, centres: torch.Tensor = centres, count: int = count) -> object:
            return _plain.neighbours(points, centres, count)

        name = f"{count} nearest to {queries} of {b} x {n}"
        results.append(compare(name, times(near_ours, repeats), times(near_peer, repeats), options.rounds))
    report(options, results)


def _distances(points: torch.Tensor, centres: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    return (gather(points, members) - centres[:, :, None]).norm(dim=-1).sort(dim=-1).values


if __name__ == "__main__":
    main()
