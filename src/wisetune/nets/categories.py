"""Categories of shapes and the parts of each: names, and the numbers that a part segmentation model and its data call them by.

Parts are numbered through, category after category, so a table of names says the numbers too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from wisetune.errors import DataError, UsageError, did_you_mean

Categories: TypeAlias = Mapping[str, Sequence[str]]
"""Of each category, by name and in order, the names of its parts."""
Category: TypeAlias = Tensor | np.ndarray | str | int | Sequence[str | int]
"""Of clouds what they are: one name or number for all, or one for each, or rows that are one-hot."""

SHAPENETPART: Categories = {
    "Airplane": ("body", "wing", "tail", "engine"),
    "Bag": ("handle", "body"),
    "Cap": ("crown", "peak"),
    "Car": ("roof", "hood", "wheel", "body"),
    "Chair": ("back", "seat", "leg", "arm"),
    "Earphone": ("earcup", "headband", "wire"),
    "Guitar": ("head", "neck", "body"),
    "Knife": ("blade", "handle"),
    "Lamp": ("base", "shade", "canopy", "pole"),
    "Laptop": ("keyboard", "screen"),
    "Motorbike": ("tank", "seat", "wheel", "handlebar", "light", "frame"),
    "Mug": ("handle", "cup"),
    "Pistol": ("barrel", "handle", "trigger"),
    "Rocket": ("body", "fin", "nose"),
    "Skateboard": ("wheel", "deck", "belt"),
    "Table": ("top", "leg", "drawer"),
}
"""ShapeNetPart's 16 categories and 50 parts in the order of the released labels. These are numbers alone; the words for parts are the field's."""


def part_names(categories: Categories) -> tuple[str, ...]:
    """Of every part a name that no other has: ``Chair seat``."""
    return tuple(f"{category} {part}" for category, parts in categories.items() for part in parts)


def part_numbers(categories: Categories) -> dict[str, range]:
    """Of each category the numbers of its parts."""
    found: dict[str, range] = {}
    at = 0
    for category, parts in categories.items():
        found[category] = range(at, at + len(parts))
        at += len(parts)
    return found


def named(word: str, categories: Categories) -> str:
    """The category that a word means, whatever its capitals.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    if word in categories:
        return word
    found = [name for name in categories if name.casefold() == word.casefold()]
    if len(found) == 1:
        return found[0]
    if not categories:
        raise UsageError(f"a category is '{word}', and this model knows no names of categories. Give their numbers, counted from 0.")
    raise UsageError(f"there is no category '{word}'.{did_you_mean(word, categories)} There are: {', '.join(categories)}.")


def one_hot(category: Category, clouds: int, count: int, categories: Categories) -> Tensor:
    """Categories as rows ``[clouds, count]`` with a single 1.

    Raises:
        UsageError: a name that there is not.
        DataError: a number that there is not, or not one category a cloud.
    """
    given = _tensor(category, clouds, categories)
    if given.shape == (clouds, count):
        if not given.is_meta and not bool((((given == 0) | (given == 1)).all(dim=1) & (given.sum(dim=1) == 1)).all()):
            raise DataError("categories are rows that are not one-hot; each takes a single 1, and 0 elsewhere. Their numbers will do too.")
        return given
    if given.shape != (clouds,) or given.is_floating_point():
        raise DataError(
            f"categories are {given.dtype} of shape {list(given.shape)} for {clouds} clouds; give the name or number of each, [{clouds}] of "
            f"integers, or one-hot, [{clouds}, {count}]."
        )
    if not given.is_meta and clouds and not 0 <= int(given.min()) <= int(given.max()) < count:
        raise DataError(f"categories are {int(given.min())} to {int(given.max())}; this model knows {count}, counted from 0.")
    return nn.functional.one_hot(given.long(), count)


def _tensor(category: Category, clouds: int, categories: Categories) -> Tensor:
    if isinstance(category, Tensor):
        return category
    if isinstance(category, np.ndarray) and category.dtype.kind in "fiub":
        return torch.from_numpy(category)
    given: object = category.tolist() if isinstance(category, np.ndarray) else category
    if isinstance(given, (str, int, np.integer)):
        given = [given] * clouds
    if isinstance(given, Sequence):
        order = list(categories)
        each = [order.index(named(one, categories)) if isinstance(one, str) else one for one in given]
        if all(isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in each):
            return torch.tensor([int(one) for one in each], dtype=torch.long)
    raise DataError(
        f"categories are given as a {type(category).__name__}; give the name or number of each cloud's category, or one for all: "
        "model(points, [4, 0])."
    )
