"""A part segmentation model: backbone and a head that answers for every point, with the state dict of the family's released ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int64

from wisetune.errors import UsageError
from wisetune.nets.backbone import Backbone, Groups
from wisetune.nets.categories import Categories, Category, one_hot, part_names, part_numbers
from wisetune.nets.clouds import clouds_of
from wisetune.nets.headed import Headed
from wisetune.nets.parts import PartsHead, PartsModule


class Segmenter(Headed):
    """``model(points, category)`` gives logits of every point, of clouds ``[batch, number, 3]`` and the category of each.

    ``classes`` are the names of the parts; from a table of categories, with the names of each one's parts, ``segment`` knows which belong to
    which (``categories``). ``features`` are the backbone's, as of any model. The state dict has the released names: the backbone's and the head's,
    neither with a prefix.

    Raises:
        UsageError: a table of another number of categories than the head knows.
    """

    def __init__(self, backbone: Backbone, head: PartsModule, head_spec: PartsHead, classes: Sequence[str] | Categories = ()) -> None:
        self.categories: dict[str, tuple[str, ...]] = {}
        if isinstance(classes, Mapping):
            self.categories = {category: tuple(parts) for category, parts in classes.items()}
            if len(self.categories) != head_spec.categories:
                raise UsageError(
                    f"classes name {len(self.categories)} categories, and the head '{head_spec}' knows {head_spec.categories}. Give it "
                    f"categories={len(self.categories)}."
                )
            classes = part_names(self.categories)
        super().__init__(backbone, head, head_spec, tuple(classes))
        self._parts = head_spec

    @property
    def parts(self) -> dict[str, range]:
        """Of each category, by name, the numbers of its parts; empty where that is not known."""
        return part_numbers(self.categories)

    @property
    def head_prefixes(self) -> tuple[str, ...]:
        """What the head's keys begin with in the state dict."""
        return self._parts.prefixes(self.backbone.for_parts.suffix)

    def released(self, key: str) -> str:
        """The name in the state dict of one of the head's own keys."""
        root, _, rest = key.partition(".")
        return f"{root}{self.backbone.for_parts.suffix}.{rest}"

    def unreleased(self, name: str) -> str | None:
        """The head's own key for a name in a state dict, also in older files without a suffix; None for what belongs to the backbone."""
        root, _, rest = name.partition(".")
        root = root.removesuffix(self.backbone.for_parts.suffix)
        return f"{root}.{rest}" if root in self._parts.layers else None

    @property
    def fewest_points(self) -> int:
        """Those of the backbone's patches, and of the head's own centres."""
        return max(super().fewest_points, cast(PartsModule, self.head).fewest_points)

    @property
    def grouping(self) -> str:
        """The head derives something from the cloud too."""
        return f"{super().grouping} {self._parts!r}"

    def group(self, points: torch.Tensor) -> Groups:
        """What depends on the cloud alone: the backbone's, then the head's; errors as ``features``."""
        points = clouds_of(points, self.fewest_points, next(self.parameters()))
        groups = super().group(points)
        centres = self.backbone.level_centres(groups)
        geometry = cast(PartsModule, self.head).geometry(points.to(centres[0].dtype), centres)
        return *groups, *geometry

    def encode(self, groups: Groups) -> Float[torch.Tensor, "b f"]:
        """The backbone's features of grouped clouds."""
        return super().encode(groups[: self.backbone.grouped])

    def answer(self, groups: Groups, category: Category) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point of grouped clouds.

        Args:
            groups: from ``group``.
            category: of each cloud its number or name ``[b]``, or one-hot ``[b, categories]``; or one for all of them.

        Raises:
            UsageError: a name of a category that there is not.
            DataError: a number of one that there is not, or not one a cloud.
        """
        own, geometry = groups[: self.backbone.grouped], groups[self.backbone.grouped :]
        return self.head(self.backbone.levels(own), geometry, self.one_hot(category, len(groups[0])).to(groups[0]))

    def one_hot(self, category: Category, clouds: int) -> torch.Tensor:
        """Categories, as ``answer`` takes them, one-hot ``[clouds, categories]``; errors as there."""
        return one_hot(category, clouds, self._parts.categories, self.categories)

    def forward(self, points: torch.Tensor, category: Category | None = None) -> Float[torch.Tensor, "b n parts"]:
        """Logits of every point; ``category`` as in ``answer``, and it has to be given.

        Raises:
            UsageError: no category, as of a classifier.
        """
        if category is None:
            raise UsageError("a part segmentation model was given clouds alone; it needs the category of each: model(points, category).")
        return self.answer(self.group(points), category)

    @torch.no_grad()
    def segment(self, points: torch.Tensor, category: Category) -> Int64[torch.Tensor, "b n"]:
        """The part of every point, a number of ``classes``: of the parts of its cloud's category the one with the highest logit.

        So the published numbers are made; of all 50 parts the highest logit may be another category's.

        Raises:
            UsageError: the model does not know which parts are of which category; the rest as of ``answer``.
        """
        if not self.categories:
            raise UsageError(
                "this model does not know which parts are of which category, and the highest logit of all may be another category's. Give their "
                "names: wisetune.create(..., classes={'chair': ['seat', 'leg'], 'table': ['top', 'leg']})."
            )
        groups = self.group(points)
        hot = self.one_hot(category, len(groups[0])).to(groups[0])
        theirs = torch.zeros(len(self.categories), len(self.classes), dtype=torch.bool, device=hot.device)
        for row, parts in enumerate(self.parts.values()):
            theirs[row, parts.start : parts.stop] = True
        return self.answer(groups, hot).masked_fill(~theirs[hot.argmax(dim=1)][:, None], -torch.inf).argmax(dim=-1)


def refuse_segmenter(model: Headed, what: str) -> None:
    """Raise UsageError where a model answers for every point and ``what`` takes one that answers for clouds."""
    if isinstance(model, Segmenter):
        raise UsageError(
            f"{what} takes a classifier, and this is a part segmentation model, which answers for every point of a cloud whose category is known: "
            "model(points, category)."
        )
