"""Tuning a model on labelled clouds, as a fit says: the loss of each step, and which epoch's weights are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import nn

from wisetune.errors import DataError, first_of
from wisetune.fit.entered import entered
from wisetune.fit.fit import Fit, parameter_groups, require_pool, require_val, seen
from wisetune.fit.loop import Progress, Resume, Training, require_two, train
from wisetune.nets.backbone import Groups
from wisetune.nets.features import FeatureBank
from wisetune.nets.model import Model
from wisetune.nets.segmenter import refuse_segmenter
from wisetune.nets.transformer import DropPath, set_drop_path, set_recompute
from wisetune.points.augment import augmentation
from wisetune.runtime import torch_generator

Term = Callable[[Model, Groups, torch.Tensor], torch.Tensor]
"""What a training step adds to its loss, a penalty for example: of the model that trains, the patches of the step's clouds, and its logits of them."""
OwnTerm = Callable[[Model], torch.Tensor | None]
"""The same of a tuning's own: of the model that has just looked at the clouds of the step, and says None where it adds nothing."""


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
        groups=parameter_groups(parameters, fit, decaying),
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
