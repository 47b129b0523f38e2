"""Tuning a model on labelled clouds: which options, which loss, which weights are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import nn

from wisetune.errors import DataError, UsageError, first_of
from wisetune.fit.entered import entered
from wisetune.fit.loop import Course, Progress, Resume, Schedule, Training, decay_groups, require_two, train
from wisetune.nets.backbone import Groups
from wisetune.nets.features import FeatureBank
from wisetune.nets.model import Model
from wisetune.nets.segmenter import refuse_segmenter
from wisetune.nets.transformer import DropPath, set_recompute
from wisetune.points.augment import AUGMENTS, augmentation
from wisetune.points.redraw import redraw
from wisetune.runtime import torch_generator
from wisetune.spec import option
from wisetune.spelling import spell

Select = Literal["last", "best", "best-on-test"]
Term = Callable[[Model, Groups, torch.Tensor], torch.Tensor]
"""What a training step adds to its loss, a penalty for example: of the model that trains, the patches of the step's clouds, and its logits of them."""
OwnTerm = Callable[[Model], torch.Tensor | None]
"""The same of a tuning's own: of the model that has just looked at the clouds of the step, and says None where it adds nothing."""


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


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Clouds with labels, where each came from, and the digest of the points."""

    points: Float32[np.ndarray, "n p 3"]
    labels: Int64[np.ndarray, " n"]
    names: tuple[str, ...]
    digest: str


def tune(
    model: Model,
    parameters: dict[str, nn.Parameter],
    fit: Fit,
    clouds: Labelled,
    val: Labelled | None,
    seed: int,
    *,
    frozen_key: str | None = None,
    in_training: Sequence[nn.Module] | None = None,
    first: int = 0,
    decaying: Collection[str] | None = None,
    bank: FeatureBank,
    term: Term | None = None,
    own: OwnTerm | None = None,
    resume: Resume | None = None,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train ``parameters`` of ``model`` in place, leave it in eval mode, and return one log line an epoch.

    ``val`` is what epochs are selected on: with ``select=best-on-test`` the caller gives the test split.
    ``frozen_key`` names the backbone's weights when training does not change its features: they are then computed once, by the bank, if every
    epoch sees the same clouds. ``in_training`` are the modules in training mode (BatchNorm, dropout), with all that is in them: by default the
    whole model, and the head alone where features do not change.
    So many of the ``first`` blocks, with all before them, give the same of a cloud at every step. If every epoch sees the same clouds, what enters the
    next block is computed once, where it fits into memory (``entered``): on a CPU the steps are the same bits.
    ``decaying`` names the parameters that have weight decay (see ``decay_groups``).
    ``term`` is added to the loss of every step; the log has its mean over an epoch's clouds as ``penalty``. Features are then not kept: a term sees
    patches. So is what ``own`` says of the step, whose mean is ``tuning_term`` in the log.

    Raises:
        UsageError: ``select=best`` without a validation split, a ``pool`` below the backbone's points, a ``group`` that no parameter is of, or a
            part segmentation model.
        DataError: fewer than two clouds, or points that are not finite.
        TrainingError: a loss that is not finite.
    """
    refuse_segmenter(model, "tune")
    require_val(fit, 0 if val is None else len(val.labels))
    require_pool(fit, model.backbone.points)
    require_two(len(clouds.labels), lambda rows: first_of([clouds.names[row] for row in rows]))
    broken = np.flatnonzero(~np.isfinite(clouds.points).all(axis=(1, 2)))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(clouds.names)} clouds to train on {'has' if len(broken) == 1 else 'have'} coordinates that are not finite: "
            f"{first_of([clouds.names[row] for row in broken])}. Remove those points or those clouds first."
        )
    device = next(model.parameters()).device
    drops = {module: module.rate for module in model.modules() if isinstance(module, DropPath)}
    if fit.drop_path is not None:
        set_drop_path(model, fit.drop_path)
    set_recompute(model, fit.recompute)
    if in_training is None:
        in_training = [model] if frozen_key is None else [model.head]
    task = _Tuned(model, in_training, fit, clouds, seed, frozen_key, bank, device, term, own, first)
    keeper = _Best(model, "test_accuracy" if fit.select == "best-on-test" else "val_accuracy") if fit.select != "last" else None
    training = Training(
        modules=nn.ModuleDict({"model": model, **({"best": keeper} if keeper else {})}),
        loss=task.loss,
        count=len(clouds.labels),
        groups=_groups(parameters, fit, decaying),
        name_of=task.words,
        before_epoch=task.to_training_mode,
        after_epoch=lambda _: task.means() | ({} if keeper is None or val is None else keeper.offer(task.accuracy(val))),
    )
    log = train(training, fit.schedule, seed, resume, progress)
    if keeper is not None:
        keeper.restore()
    for module, rate in drops.items():
        module.rate = rate  # the rate belongs to this training: a model loaded from a store has the backbone's
    set_recompute(model, False)
    model.eval()
    return log


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


def _groups(parameters: dict[str, nn.Parameter], fit: Fit, decaying: Collection[str] | None) -> list[dict[str, Any]]:
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


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Drop-path rates that rise linearly from 0 to ``rate`` over the blocks."""
    drops = [module for module in model.modules() if isinstance(module, DropPath)]
    for i, module in enumerate(drops):
        module.rate = rate * i / max(len(drops) - 1, 1)


def smoothed(logits: Float[torch.Tensor, "b c"], target: Int64[torch.Tensor, " b"], smoothing: float) -> Float[torch.Tensor, ""]:
    """Cross-entropy with labels of 1 - ``smoothing`` for the class and the rest in equal parts for the others, as in the released codes.

    Torch's ``label_smoothing`` gives the class its part of the rest too.
    """
    logs, others = logits.log_softmax(dim=1), max(logits.shape[1] - 1, 1)
    mine = logs.gather(1, target[:, None])[:, 0]
    return -((1 - smoothing) * mine + smoothing / others * (logs.sum(dim=1) - mine)).mean()


class _Tuned:
    """The loss and the accuracy of a model that is being tuned."""

    def __init__(
        self,
        model: Model,
        in_training: Sequence[nn.Module],
        fit: Fit,
        clouds: Labelled,
        seed: int,
        frozen_key: str | None,
        bank: FeatureBank,
        device: torch.device,
        term: Term | None,
        own: OwnTerm | None,
        first: int,
    ) -> None:
        self.in_training, self.term, self.own, self.first = in_training, term, own, first
        self.added: dict[str, list[tuple[torch.Tensor, int]]] = {}
        self.model, self.fit, self.seed, self.frozen_key, self.bank, self.device = model, fit, seed, frozen_key, bank, device
        self.names = clouds.names
        self.labels = torch.from_numpy(clouds.labels).to(device)
        self.points = torch.from_numpy(clouds.points)
        self.augment = None if fit.same_clouds else augmentation(fit.augment)
        self.features = self.groups = self.entered = None
        if self.augment is None and frozen_key is not None and term is None:
            self.features = torch.from_numpy(bank.features(model, frozen_key, clouds.points, clouds.digest)).to(device)
        elif self.augment is None:
            self.groups = bank.groups(model, clouds.points, clouds.digest)
            self.entered = entered(model.eval(), self.groups, first, min(fit.batch, len(clouds.labels)))

    def words(self, rows: Int64[np.ndarray, " m"]) -> str:
        """Which clouds these are, and whether what came in was finite (their points are: they were looked at before)."""
        inputs = "their points are finite"
        if self.features is not None:
            kept = self.features[torch.from_numpy(rows).to(self.device)]
            inputs += ", their features too" if bool(torch.isfinite(kept).all()) else ", their features from the frozen backbone are not"
        return f"{first_of([self.names[row] for row in rows])}; {inputs}"

    def to_training_mode(self) -> None:
        self.added.clear()
        self.model.eval()
        for module in self.in_training:
            module.train()

    def loss(self, rows: Int64[np.ndarray, " m"], epoch: int) -> torch.Tensor:
        index = torch.from_numpy(rows)
        target = self.labels[index.to(self.device)]
        if self.features is not None:
            return self._cost(self.model.head(self.features[index.to(self.device)]), target)
        groups = self._groups(rows, index, epoch)
        with torch.set_grad_enabled(self.frozen_key is None):
            features = self.model.encode(groups) if self.entered is None else self.model.encode(groups, self.entered.of(index, self.device))
        logits = self.model.head(features)
        loss = self._cost(logits, target)
        terms = {
            "tuning_term": None if self.own is None else self.own(self.model),
            "penalty": None if self.term is None else self.term(self.model, groups, logits),
        }
        for name, value in terms.items():
            if value is not None:
                self.added.setdefault(name, []).append((value.detach(), len(rows)))
                loss = loss + value
        return loss

    def means(self) -> dict[str, float]:
        """For the log: the mean of each term over the clouds of the epoch."""
        return {
            name: sum(value.item() * clouds for value, clouds in values) / sum(clouds for _, clouds in values)
            for name, values in self.added.items()
        }

    def _cost(self, logits: Float[torch.Tensor, "b c"], target: Int64[torch.Tensor, " b"]) -> Float[torch.Tensor, ""]:
        if self.fit.smoothing_over == "others":
            return smoothed(logits, target, self.fit.smoothing)
        return F.cross_entropy(logits, target, label_smoothing=self.fit.smoothing)

    def _groups(self, rows: Int64[np.ndarray, " m"], index: torch.Tensor, epoch: int) -> Groups:
        if self.groups is not None:
            return tuple(column[index.to(column.device)] for column in self.groups)
        assert self.augment is not None
        draw = torch_generator(self.seed, "augment", epoch, *map(int, rows))
        drawn = seen(self.points[index], self.fit, self.model.backbone.points, (self.seed, "pool", epoch, *map(int, rows)))
        return self.model.group(self.augment(drawn, draw).to(self.device))

    def accuracy(self, val: Labelled) -> float:
        self.model.eval()
        groups = self.bank.groups(self.model, val.points, val.digest)
        right = 0
        with torch.inference_mode():
            for at in range(0, len(val.labels), self.bank.batch):
                if self.frozen_key is not None:
                    features = torch.from_numpy(
                        self.bank.features(self.model, self.frozen_key, val.points, val.digest)[at : at + self.bank.batch]
                    )
                    logits = self.model.head(features.to(self.device))
                else:
                    logits = self.model.head(self.model.encode(tuple(column[at : at + self.bank.batch] for column in groups)))
                right += int((logits.argmax(dim=1).cpu().numpy() == val.labels[at : at + self.bank.batch]).sum())
        return right / len(val.labels)


class _Best(nn.Module):
    """Keeps the weights that were best on validation as buffers, so that they travel in the training's state. Of equals the later stay.

    ``called`` is what the log calls the accuracy that decides.
    """

    def __init__(self, model: Model, called: str) -> None:
        super().__init__()
        self._called = called
        self._model = [model]  # in a list: its parameters belong to the training already
        self.register_buffer("score", torch.full((), -1.0, dtype=torch.float64))
        for i, value in enumerate(model.state_dict().values()):
            self.register_buffer(f"kept_{i}", value.detach().clone())

    def offer(self, accuracy: float) -> dict[str, float]:
        """Keep the model's weights if they are at least as good."""
        if accuracy >= float(self.score):
            self.score.fill_(accuracy)
            for i, value in enumerate(self._model[0].state_dict().values()):
                getattr(self, f"kept_{i}").copy_(value)
        return {self._called: accuracy}

    def restore(self) -> None:
        """Put the best weights into the model."""
        state = self._model[0].state_dict()
        self._model[0].load_state_dict({name: getattr(self, f"kept_{i}") for i, name in enumerate(state)})
