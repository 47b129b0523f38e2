"""Tuning a model on labelled clouds: which options, which loss, which weights are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import nn

from wisetune.errors import DataError, UsageError
from wisetune.fit.loop import Course, Progress, Resume, Schedule, Training, decay_groups, few, require_two, train
from wisetune.nets.features import FeatureBank
from wisetune.nets.model import Model
from wisetune.nets.transformer import DropPath
from wisetune.points.augment import augmentation
from wisetune.runtime import torch_generator
from wisetune.spec import option

Select = Literal["last", "best"]


@dataclasses.dataclass(frozen=True)
class Fit(Course):
    """Options of one tuning: AdamW with warm-up and cosine, as the field does it.

    ``augment`` names augmentations joined by +. ``select`` keeps the last epoch's weights, or those best on the *validation* split.
    ``drop_path`` replaces the backbone's rate; None keeps it.
    """

    name: ClassVar[str] = "fit"

    clip: float = option(10.0, above=0)
    smoothing: float = option(0.0, least=0, below=1)
    drop_path: float | None = option(None, least=0, below=1)
    augment: str = "scale-translate"
    select: Select = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        augmentation(self.augment)

    @property
    def schedule(self) -> Schedule:
        """What the loop needs of it."""
        return dataclasses.replace(super().schedule, clip=self.clip)


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
    bank: FeatureBank,
    resume: Resume | None = None,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train ``parameters`` of ``model`` in place, leave it in eval mode, and return one log line an epoch.

    ``frozen_key`` names the backbone's weights when training does not change its features: without augmentation they are then computed once,
    by the bank. ``in_training`` are the modules in training mode (BatchNorm, dropout), with all that is in them: by default the whole model,
    and the head alone where features do not change.

    Raises:
        UsageError: ``select=best`` without a validation split.
        DataError: fewer than two clouds, or points that are not finite.
        TrainingError: a loss that is not finite.
    """
    require_val(fit, 0 if val is None else len(val.labels))
    require_two(len(clouds.labels), lambda rows: few([clouds.names[row] for row in rows]))
    broken = np.flatnonzero(~np.isfinite(clouds.points).all(axis=(1, 2)))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(clouds.names)} clouds to train on have coordinates that are not finite: "
            f"{few([clouds.names[row] for row in broken])}. Remove those points or those clouds first."
        )
    device = next(model.parameters()).device
    drops = {module: module.rate for module in model.modules() if isinstance(module, DropPath)}
    if fit.drop_path is not None:
        set_drop_path(model, fit.drop_path)
    if in_training is None:
        in_training = [model] if frozen_key is None else [model.head]
    task = _Tuned(model, in_training, fit, clouds, seed, frozen_key, bank, device)
    keeper = _Best(model) if fit.select == "best" else None
    training = Training(
        modules=nn.ModuleDict({"model": model, **({"best": keeper} if keeper else {})}),
        loss=task.loss,
        count=len(clouds.labels),
        groups=decay_groups(parameters),
        name_of=task.words,
        before_epoch=task.to_training_mode,
        after_epoch=None if keeper is None or val is None else lambda _: keeper.offer(task.accuracy(val)),
    )
    log = train(training, fit.schedule, seed, resume, progress)
    if keeper is not None:
        keeper.restore()
    for module, rate in drops.items():
        module.rate = rate  # the rate belongs to this training: a model loaded from a store has the backbone's
    model.eval()
    return log


def require_val(fit: Fit, clouds: int) -> None:
    """Refuse to select among epochs without validation clouds.

    Raises:
        UsageError: ``select=best``, and there are none.
    """
    if fit.select == "best" and clouds == 0:
        raise UsageError(
            "select=best keeps the weights best on the validation split, but there is none; hold one out (val=0.2) or use select=last."
        )


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Drop-path rates that rise linearly from 0 to ``rate`` over the blocks."""
    drops = [module for module in model.modules() if isinstance(module, DropPath)]
    for i, module in enumerate(drops):
        module.rate = rate * i / max(len(drops) - 1, 1)


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
    ) -> None:
        self.in_training = in_training
        self.model, self.fit, self.seed, self.frozen_key, self.bank, self.device = model, fit, seed, frozen_key, bank, device
        self.names = clouds.names
        self.labels = torch.from_numpy(clouds.labels).to(device)
        self.points = torch.from_numpy(clouds.points)
        self.augment = None if fit.augment == "none" else augmentation(fit.augment)
        self.features = self.groups = None
        if self.augment is None and frozen_key is not None:
            self.features = torch.from_numpy(bank.features(model, frozen_key, clouds.points, clouds.digest)).to(device)
        elif self.augment is None:
            self.groups = bank.groups(model, clouds.points, clouds.digest)

    def words(self, rows: Int64[np.ndarray, " m"]) -> str:
        """Which clouds these are, and whether what came in was finite (their points are: they were looked at before)."""
        inputs = "their points are finite"
        if self.features is not None:
            kept = self.features[torch.from_numpy(rows).to(self.device)]
            inputs += ", their features too" if bool(torch.isfinite(kept).all()) else ", their features from the frozen backbone are not"
        return f"{few([self.names[row] for row in rows])}; {inputs}"

    def to_training_mode(self) -> None:
        self.model.eval()
        for module in self.in_training:
            module.train()

    def loss(self, rows: Int64[np.ndarray, " m"], epoch: int) -> torch.Tensor:
        index = torch.from_numpy(rows)
        target = self.labels[index.to(self.device)]
        return F.cross_entropy(self._logits(rows, index, epoch), target, label_smoothing=self.fit.smoothing)

    def _logits(self, rows: Int64[np.ndarray, " m"], index: torch.Tensor, epoch: int) -> torch.Tensor:
        if self.features is not None:
            return self.model.head(self.features[index.to(self.device)])
        if self.groups is not None:
            groups = tuple(column[index.to(column.device)] for column in self.groups)
        else:
            assert self.augment is not None
            draw = torch_generator(self.seed, "augment", epoch, *map(int, rows))
            groups = self.model.group(self.augment(self.points[index], draw).to(self.device))
        if self.frozen_key is None:
            return self.model.head(self.model.encode(groups))
        with torch.no_grad():
            features = self.model.encode(groups)
        return self.model.head(features)

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
    """Keeps the weights that were best on validation as buffers, so that they travel in the training's state. Of equals the later stay."""

    def __init__(self, model: Model) -> None:
        super().__init__()
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
        return {"val_accuracy": accuracy}

    def restore(self) -> None:
        """Put the best weights into the model."""
        state = self._model[0].state_dict()
        self._model[0].load_state_dict({name: getattr(self, f"kept_{i}") for i, name in enumerate(state)})
