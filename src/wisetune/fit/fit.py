"""How a model is tuned on labelled clouds: the options, and what they ask of clouds and parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float32
from torch import nn

from wisetune.errors import UsageError, first_of
from wisetune.fit.loop import Course, Schedule, decay_groups
from wisetune.points.augment import AUGMENTS, augmentation
from wisetune.points.redraw import redraw
from wisetune.runtime import torch_generator
from wisetune.spec import option
from wisetune.spelling import spell

Select = Literal["last", "best", "best-on-test"]


@dataclasses.dataclass(frozen=True)
class Fit(Course):
    """Options of one tuning: AdamW with warm-up and cosine, as the field does it.

    ``augment`` names augmentations joined by +. ``select`` keeps the last epoch's weights, or those best on the *validation* split;
    ``best-on-test`` is what published codes do, and makes the numbers of the test split too good: results say so.
    ``drop_path`` replaces the backbone's rate; None keeps it. ``smoothing`` of labels is spread over ``all`` classes, or as in the released codes
    over the ``others``.

    ``cosine`` is ``smooth`` (the rate moves with every batch, and falls from the end of the warm-up on), ``timm`` (once an epoch; the cosine
    begins with the training, and the warm-up takes the place of its first part) or ``timm-late`` (that an epoch late, as published);
    ``cosine_epochs`` is where it ends, if not with the training. With ``clip_percentile`` a gradient is cut at that percentile of the norms so
    far instead of at ``clip`` (MaskPoint).

    Parameters whose name has a part in ``group`` (joined by +; ``head.`` is the head) learn at ``group_lr`` times the rate; ``group_decay`` is then
    the weight decay of all of them, biases too.

    With ``pool`` each step sees other points: of the ``pool_of`` points that each training cloud is read with (by itself ``pool``) ``pool`` by
    farthest point sampling, and of these as many as the backbone takes, at random; one choice for the batch (``pool_shared``) or one a cloud.

    With ``recompute`` (activation checkpointing) a step holds the input of each transformer block, and computes the rest of it again for the
    gradient: the same weights for less memory (``wisetune memory --recompute`` says how much less) and more time.
    """

    name: ClassVar[str] = "fit"

    clip: float = option(10.0, above=0, means="the longest that a gradient may be")
    smoothing: float = option(0.0, least=0, below=1, means="label smoothing")
    drop_path: float | None = option(None, least=0, below=1, means="drop path of the last block, rising from 0; none keeps the backbone's")
    augment: str = option("scale-translate", means=AUGMENTS)
    select: Select = option(
        "last",
        means="weights kept: the last epoch's, or those best on the validation part; best-on-test makes the results too good, and they say so",
    )
    smoothing_over: Literal["all", "others"] = option(
        "all", absent="all", means="the classes that label smoothing is spread over: all, or as in the released codes the others"
    )
    cosine: Literal["smooth", "timm", "timm-late"] = option(
        "smooth",
        absent="smooth",
        means="the rate falls batch by batch from the end of the warm-up on; or once an epoch as timm has it; or that an epoch late, as published",
    )
    cosine_epochs: int | None = option(None, least=1, absent=None, means="where the cosine ends, if not with the training")
    lr_min: float = option(1e-6, least=0, absent=1e-6, means="the learning rate that the cosine ends at")
    warmup_lr: float = option(1e-6, least=0, absent=1e-6, means="the learning rate that the warm-up begins with")
    clip_percentile: float | None = option(
        None, least=0, most=100, absent=None, means="cut a gradient at this percentile of the norms so far, not at clip (MaskPoint)"
    )
    group: tuple[str, ...] = option(
        (), absent=(), means="parameters whose names have one of these parts learn by group-lr; head. is the head"
    )
    group_lr: float = option(1.0, above=0, absent=1.0, means="how many times the learning rate the group learns at")
    group_decay: float | None = option(None, least=0, absent=None, means="weight decay of the whole group, biases too")
    pool: int | None = option(
        None, least=1, absent=None, means="each step sees other points: as many as the backbone takes, at random of this many farthest ones"
    )
    pool_of: int | None = option(None, least=1, absent=None, means="points that a training cloud is read with, of which the pool is drawn")
    pool_shared: bool = option(True, absent=True, means="whether one choice of points is a batch's, or each cloud has its own")
    pool_rule: Literal["intended", "pointnet2", "pointops"] = option(
        "intended", absent="intended", means="farthest points as intended, or as a released kernel finds them"
    )
    recompute: bool = option(
        False,
        absent=False,
        means="activation checkpointing: each block is computed again for its gradient, not kept; the same weights for less memory and more time",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        augmentation(self.augment)
        if not self.group and (self.group_lr != 1 or self.group_decay is not None):
            raise UsageError(
                f"'{self.name}' was given group-lr or group-decay and no group; name parts of parameters' names, for example group=head."
            )
        if self.pool_of is not None and self.pool_of < (self.pool or self.pool_of + 1):
            raise UsageError(
                f"'{self.name}' was given pool-of={self.pool_of} and pool={spell(self.pool)}; pool must be a number of at most that."
            )

    @property
    def schedule(self) -> Schedule:
        """What the loop needs of it."""
        return dataclasses.replace(
            super().schedule,
            lr_final=min(self.lr_min, self.lr),
            clip=self.clip,
            cosine=self.cosine,
            cosine_epochs=self.cosine_epochs,
            warmup_lr=min(self.warmup_lr, self.lr),
            clip_percentile=self.clip_percentile,
        )

    @property
    def same_clouds(self) -> bool:
        """Whether every epoch sees the clouds as they are: then what a frozen backbone makes of them is computed once."""
        return self.augment == "none" and self.pool is None

    @property
    def points_read(self) -> int | None:
        """How many points training clouds are read with; None where they have those that the backbone takes."""
        return self.pool if self.pool_of is None else self.pool_of


def require_val(fit: Fit, clouds: int) -> None:
    """Refuse to select among epochs without the clouds to select on.

    Raises:
        UsageError: ``select=best`` or ``best-on-test``, and there are none.
    """
    if fit.select == "best" and clouds == 0:
        raise UsageError(
            "select=best keeps the weights best on the validation split, but there is none; hold one out (val=0.2) or use select=last."
        )
    if fit.select == "best-on-test" and clouds == 0:
        raise UsageError("select=best-on-test keeps the weights best on the test split, but there is none; use select=last or select=best.")


def require_pool(fit: Fit, points: int) -> None:
    """Refuse to draw more points than there are to draw from.

    Raises:
        UsageError: ``pool`` is below the number of points that the backbone takes.
    """
    if fit.pool is not None and fit.pool < points:
        raise UsageError(
            f"pool={fit.pool}: the backbone takes clouds of {points} points, drawn from the pool; give at least pool={points}."
        )


def parameter_groups(parameters: dict[str, nn.Parameter], fit: Fit, decaying: Collection[str] | None) -> list[dict[str, Any]]:
    """Parameter groups as the fit says.

    Raises:
        UsageError: a part of ``group`` that no name has, so that nothing would follow it.
    """
    idle = [part for part in fit.group if not any(part in name for name in parameters)]
    if idle:
        there = first_of(list(dict.fromkeys(name.rpartition(".")[0] or name for name in parameters)))
        raise UsageError(f"group={spell(fit.group)}: no parameter that trains has '{idle[0]}' in its name. They begin with: {there}.")
    return decay_groups(parameters, fit.group, fit.group_lr, fit.group_decay, decaying)


def seen(points: Float32[torch.Tensor, "b p 3"], fit: Fit, wanted: int, key: tuple[int | str, ...]) -> Float32[torch.Tensor, "b _ 3"]:
    """Of the points that clouds were read with those of one look at them, before any augmentation: all, or ``wanted`` of the pool, by this key."""
    if fit.pool is None:
        return points
    return redraw(points, wanted, fit.pool, torch_generator(*key), shared=fit.pool_shared, rule=fit.pool_rule)
