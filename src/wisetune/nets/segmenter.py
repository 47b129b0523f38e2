"""A part segmentation model: backbone and a head that answers for every point, with the state dict of the family's released ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import DataError, UsageError
from wisetune.nets.backbone import Backbone, Groups
from wisetune.nets.model import Model
from wisetune.nets.parts import PartsHead, PartsModule


class Segmenter(Model):
    """``model(points, category)`` gives logits of every point, of clouds ``[batch, number, 3]`` and the category of each ``[batch]``.

    ``classes`` are the names of the parts. ``features`` are the backbone's, as of any model. The state dict has the released names: the
    backbone's and the head's, neither with a prefix.
    """

    def __init__(self, backbone: Backbone, head: PartsModule, head_spec: PartsHead, classes: Sequence[str] = ()) -> None:
        super().__init__(backbone, head, head_spec, classes)
        self.categories = head_spec.categories
        self._parts = head_spec

    @property
    def head_prefixes(self) -> tuple[str, ...]:
        """What the head's keys begin with in the state dict."""
        return self._parts.prefixes(self.backbone.parts_suffix)

    def released(self, key: str) -> str:
        """The name in the state dict of one of the head's own keys."""
        root, _, rest = key.partition(".")
        return f"{root}{self.backbone.parts_suffix}.{rest}"

    def unreleased(self, name: str) -> str | None:
        """The head's own key for a name in a state dict, also in older files without a suffix; None for what belongs to the backbone."""
        root, _, rest = name.partition(".")
        root = root.removesuffix(self.backbone.parts_suffix)
        return f"{root}.{rest}" if root in self._parts.layers else None

    @property
    def fewest_points(self) -> int:
        """Those of the backbone's patches, and of the head's own centres."""
        return max(super().fewest_points, cast(PartsModule, self.head).fewest_points)

    def group(self, points: torch.Tensor) -> Groups:
        """What depends on the cloud alone: the backbone's, then the head's; errors as ``Model.group``."""
        groups = super().group(points)
        centres = self.backbone.level_centres(groups)
        geometry = cast(PartsModule, self.head).geometry(points.to(centres[0].dtype), centres)
        return *groups, *geometry

    def encode(self, groups: Groups) -> Float[torch.Tensor, "b f"]:
        """The backbone's features of grouped clouds."""
        return super().encode(groups[: self.backbone.grouped])

    def answer(self, groups: Groups, category: torch.Tensor) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point of grouped clouds.

        Args:
            groups: from ``group``.
            category: of each cloud its number ``[b]``, or one-hot ``[b, categories]``.

        Raises:
            DataError: a category that there is not, or not one a cloud.
        """
        own, geometry = groups[: self.backbone.grouped], groups[self.backbone.grouped :]
        hot = _one_hot(category, len(groups[0]), self.categories)
        return self.head(self.backbone.levels(own), geometry, hot.to(groups[0]))

    def forward(self, points: torch.Tensor, category: torch.Tensor | None = None) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point; ``category`` as in ``answer``, and it has to be given.

        Raises:
            UsageError: no category, as of a classifier.
        """
        if category is None:
            raise UsageError("a part segmentation model was given clouds alone; it needs the category of each: model(points, category).")
        return self.answer(self.group(points), category)


def _one_hot(category: torch.Tensor, clouds: int, categories: int) -> torch.Tensor:
    if category.shape == (clouds, categories):
        if not category.is_meta and not bool((((category == 0) | (category == 1)).all(dim=1) & (category.sum(dim=1) == 1)).all()):
            raise DataError("categories are rows that are not one-hot; each takes a single 1, and 0 elsewhere. Their numbers will do too.")
        return category
    if category.shape != (clouds,) or category.is_floating_point():
        raise DataError(
            f"categories are {category.dtype} of shape {list(category.shape)} for {clouds} clouds; give the number of each, [{clouds}] of "
            f"integers, or one-hot, [{clouds}, {categories}]."
        )
    if not category.is_meta and clouds and not 0 <= int(category.min()) <= int(category.max()) < categories:
        raise DataError(f"categories are {int(category.min())} to {int(category.max())}; this model knows {categories}, counted from 0.")
    return nn.functional.one_hot(category.long(), categories)


def refuse_segmenter(model: Model, what: str) -> None:
    """Raise UsageError where a model answers for every point and ``what`` takes one that answers for clouds."""
    if isinstance(model, Segmenter):
        raise UsageError(
            f"{what} takes a classifier, and this is a part segmentation model, which answers for every point of a cloud whose category is known: "
            "model(points, category)."
        )
