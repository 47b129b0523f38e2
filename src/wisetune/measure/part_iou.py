"""How part segmentation is measured on ShapeNetPart: the mean over a shape's parts of intersection over union, then over shapes and categories."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

from wisetune.errors import DataError

Numbers: TypeAlias = Tensor | np.ndarray | Sequence[Sequence[int]] | Sequence[np.ndarray] | Sequence[Tensor]
"""Of each cloud the parts of its points, by number."""


@dataclasses.dataclass(frozen=True)
class PartIoU:
    """Shares from 0 to 1.

    ``instance`` is the mean over all shapes (instance mIoU), ``category`` that over categories of the mean over each one's shapes (class mIoU), and
    ``categories`` has the latter for each category that there are shapes of.
    """

    instance: float
    category: float
    categories: dict[str, float]


def part_iou(answers: Numbers, truth: Numbers, category: Sequence[str], parts: Mapping[str, Sequence[int]]) -> PartIoU:
    """Intersection over union of the parts of shapes, as the published codes compute it.

    A shape's is the mean over *all* parts of its category; a part that neither its points nor the answers have counts 1. Answers are to be
    parts of the shape's category, as ``Segmenter.segment`` gives them; any other is just wrong.

    Args:
        answers: the part of every point of every shape, by number.
        truth: the same as annotated.
        category: each shape's, by name.
        parts: of each category the numbers of its parts (``Segmenter.parts``).

    Raises:
        DataError: not as many answers, or points, as in the truth, a category that ``parts`` lacks, or a true part that is none of its category's.
    """
    if not len(answers) == len(truth) == len(category) > 0:
        raise DataError(
            f"there are answers for {len(answers)} shapes, the truth of {len(truth)} and the category of {len(category)}; each shape needs one of "
            "each, and there has to be one."
        )
    found: dict[str, list[float]] = {}
    for row, name in enumerate(category):
        if name not in parts:
            raise DataError(f"shape {row} is of the category {name!r}, which parts= does not name. There are: {', '.join(parts)}.")
        mine, true = np.asarray(answers[row]), np.asarray(truth[row])
        if mine.shape != true.shape or true.ndim != 1:
            raise DataError(f"shape {row} has answers {list(mine.shape)} and truth {list(true.shape)}; both take one number a point.")
        if strange := sorted(set(true.tolist()) - set(parts[name])):
            raise DataError(
                f"shape {row} is of the category '{name}' and has points of the part {strange[0]}, which is none of its: {list(parts[name])}."
            )
        found.setdefault(name, []).append(float(np.mean([_iou(mine == part, true == part) for part in parts[name]])))
    means = {name: float(np.mean(found[name])) for name in parts if name in found}
    every = [value for values in found.values() for value in values]
    return PartIoU(float(np.mean(every)), float(np.mean(list(means.values()))), means)


def _iou(mine: np.ndarray, true: np.ndarray) -> float:
    union = int((mine | true).sum())
    return int((mine & true).sum()) / union if union else 1.0
