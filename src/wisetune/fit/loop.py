"""The one training loop: AdamW, warm-up and cosine, clipping, and a state from which any kill continues (on a CPU with the same bits).

Order, augmentation and dropout of an epoch are a pure function of (seed, epoch), so the state holds only weights, the optimiser's moments, the
epoch's number and, where clipping follows them, the gradients' norms.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from wisetune.errors import DataError, TrainingError, UsageError, first_of
from wisetune.nets.decay import decays
from wisetune.runtime import generator, seed_of
from wisetune.spec import Spec, option

State = dict[str, torch.Tensor]
_NORMS = "norms"
"""In a state: the gradients' norms so far, where clipping looks at them."""


Cosine = Literal["smooth", "timm", "timm-late"]
"""How the rate falls: with every batch, from the end of the warm-up; once an epoch as timm does; or that an epoch late, as published."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how fast: epochs, items a batch, peak and final learning rate, warm-up in epochs, decay, clipping of the gradient's norm.

    ``cosine_epochs`` is where the cosine ends (None: with the training), ``warmup_lr`` where the warm-up begins (None: at the final rate).
    With ``clip_percentile`` the gradient is cut at that percentile of the norms met so far, and not at ``clip``.
    """

    epochs: int
    batch: int
    lr: float
    weight_decay: float = 0.05
    warmup: float = 0.0
    lr_final: float = 1e-6
    clip: float = 10.0
    cosine: Cosine = "smooth"
    cosine_epochs: int | None = None
    warmup_lr: float | None = None
    clip_percentile: float | None = None

    def lr_at(self, epoch: float, times: float = 1.0) -> float:
        """Learning rate after ``epoch`` epochs, a fraction within an epoch included: linear warm-up, then half a cosine.

        ``times`` raises the peak and neither end, as the released codes do for a group of parameters.
        """
        lr, begin = self.lr * times, self.warmup
        if self.cosine != "smooth":
            # timm's cosine begins with the training, and the warm-up takes the place of its first part. Stepped after an epoch with that
            # epoch's number, it gives each epoch the rate of the one before.
            epoch, begin = math.floor(epoch) - (self.cosine == "timm-late"), 0.0
            epoch = max(epoch, 0)
        if epoch < self.warmup:
            start = self.lr_final if self.warmup_lr is None else self.warmup_lr
            return start + (lr - start) * epoch / self.warmup
        end = self.epochs if self.cosine_epochs is None else self.cosine_epochs
        part = min(1.0, (epoch - begin) / max(end - begin, 1e-9))
        return self.lr_final + (lr - self.lr_final) * 0.5 * (1 + math.cos(math.pi * part))


@dataclasses.dataclass(frozen=True)
class Course(Spec):
    """The options that every training has: how long and how fast. ``warmup`` is in epochs, and takes at most half of a short training."""

    epochs: int = option(20, least=1, means="how often every cloud is trained on")
    batch: int = option(32, least=2, means="clouds a training step")
    lr: float = option(5e-4, above=0, means="the learning rate at its highest")
    weight_decay: float = option(0.05, least=0, means="AdamW's, of matrices alone")
    warmup: float = option(1.0, least=0, means="epochs in which the learning rate rises; at most half of all")

    @property
    def schedule(self) -> Schedule:
        """What the loop needs of them."""
        return Schedule(self.epochs, self.batch, self.lr, self.weight_decay, min(self.warmup, self.epochs / 2), min(1e-6, self.lr))


@runtime_checkable
class Resume(Protocol):
    """Where a training keeps its state between kills."""

    def load(self) -> tuple[State, dict[str, Any]] | None:
        """The newest valid state, or None."""

    def save(self, tensors: State, meta: dict[str, Any]) -> None:
        """Keep a state atomically."""


Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called after each epoch with epochs done, epochs in all, and the newest numbers."""


@dataclasses.dataclass
class Training:
    """What a training needs beside its schedule.

    ``loss(rows, epoch)`` is the mean loss of these items; ``modules`` is everything whose state belongs to the training; ``before_epoch`` puts it into
    training mode; ``after_epoch`` may return numbers for the log and is told the epochs done.
    """

    modules: nn.Module
    loss: Callable[[Int64[np.ndarray, " m"], int], torch.Tensor]
    count: int
    groups: list[dict[str, Any]]
    name_of: Callable[[Int64[np.ndarray, " m"]], str] = lambda rows: f"items {first_of(rows.tolist())}"
    before_epoch: Callable[[], object] | None = None
    after_epoch: Callable[[int], Mapping[str, float]] | None = None


def train(
    training: Training,
    schedule: Schedule,
    seed: int,
    resume: Resume | None = None,
    progress: Progress | None = None,
    save_every: float = 20.0,
) -> list[dict[str, float]]:
    """Train in place and return one log line an epoch.

    The state is saved at the end of an epoch when ``save_every`` seconds have passed since the last one; how often is saved does not change the
    result.

    Raises:
        UsageError: batches of one item, which BatchNorm cannot train on.
        DataError: fewer than two items, for the same reason.
        TrainingError: a loss or gradient that is not finite; the message names the batch.
    """
    if schedule.batch < 2:
        raise UsageError(f"training was asked for with batch={schedule.batch}; BatchNorm compares the items of a batch: take at least 2.")
    require_two(training.count, training.name_of)
    optimiser = torch.optim.AdamW(training.groups, lr=schedule.lr, weight_decay=schedule.weight_decay)
    first, log = 0, list[dict[str, float]]()
    kept = resume.load() if resume else None
    if kept is not None:
        first, log = _restore(kept, training.modules, optimiser)
    parameters = [p for group in training.groups for p in group["params"]]
    norms = list[float]() if kept is None else kept[0].get(_NORMS, torch.empty(0)).tolist()
    saved = time.monotonic()
    for epoch in range(first, schedule.epochs):
        with _own_randomness(seed, epoch):
            if training.before_epoch is not None:
                training.before_epoch()
            line = _epoch(training, schedule, optimiser, parameters, norms, seed, epoch)
            if training.after_epoch is not None:
                line.update(training.after_epoch(epoch + 1))
        log.append(line)
        if resume and (time.monotonic() - saved >= save_every or epoch + 1 == schedule.epochs):
            resume.save(*_capture(training.modules, optimiser, norms, epoch + 1, log))
            saved = time.monotonic()
        if progress:
            progress(epoch + 1, schedule.epochs, line)
    return log


def batches(count: int, size: int, seed: int, epoch: int) -> Iterator[Int64[np.ndarray, " m"]]:
    """Rows of each batch of an epoch in seeded order; a last batch that is not full is left out when a full one went before (BatchNorm)."""
    order = generator(seed, "order", epoch).permutation(count)
    for start in range(0, count, size):
        rows = order[start : start + size]
        if len(rows) == size or start == 0:
            yield rows


def require_two(count: int, name_of: Callable[[Int64[np.ndarray, " m"]], str]) -> None:
    """Refuse what BatchNorm cannot train on: it compares the items of a batch.

    Raises:
        DataError: there are fewer than two.
    """
    if count < 2:
        raise DataError(
            f"training needs at least 2 clouds, and there is {count} ({name_of(np.arange(count)) if count else 'none'}): BatchNorm compares "
            "the clouds of a batch. Add clouds to the train part, or hold fewer out of it (val=, test=)."
        )


def decay_groups(
    named: Mapping[str, nn.Parameter],
    own: Sequence[str] = (),
    times: float = 1.0,
    decay: float | None = None,
    decaying: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Two parameter groups, with weight decay and without: ``decaying`` names those that have it; by itself the released codes' rule says it.

    Parameters whose name has one of ``own`` in it are a group of their own: at ``times`` the rate, and with ``decay`` as the weight decay of
    all of them; where that is None they too follow that rule.
    """
    without = {name for name, value in named.items() if not (decays(name, value) if decaying is None else name in decaying)}
    apart = {name for name in named if any(part in name for part in own)}

    def group(names: Set[str], **options: float) -> dict[str, Any]:
        return {"params": [value for name, value in named.items() if name in names], **options}

    rest = named.keys() - apart
    found = [group(rest - without), group(rest & without, weight_decay=0.0)]
    if decay is None:
        found += [group(apart - without, times=times), group(apart & without, times=times, weight_decay=0.0)]
    else:
        found.append(group(apart, times=times, weight_decay=decay))
    return [one for one in found if one["params"]]


def _epoch(
    training: Training,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    norms: list[float],
    seed: int,
    epoch: int,
) -> dict[str, float]:
    order = list(batches(training.count, schedule.batch, seed, epoch))
    total, seen, rate = 0.0, 0, 0.0
    for step, rows in enumerate(order):
        at = epoch + step / len(order)
        rate = schedule.lr_at(at)
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr_at(at, group.get("times", 1.0))
        optimiser.zero_grad(set_to_none=True)
        loss = training.loss(rows, epoch)
        loss.backward()
        norm = _clip(parameters, schedule, norms)
        value = loss.item()
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise TrainingError(
                f"the loss is {value} and the gradient's norm {norm.item()} at epoch {epoch + 1}, batch {step + 1} ({training.name_of(rows)}). "
                "Nothing of this step was kept. Lower the learning rate, or check these files with: wisetune data check DIR"
            )
        optimiser.step()
        total, seen = total + value * len(rows), seen + len(rows)
    return {"epoch": epoch + 1, "loss": total / max(seen, 1), "lr": rate}


def _clip(parameters: list[nn.Parameter], schedule: Schedule, norms: list[float]) -> torch.Tensor:
    """Cut the gradient and return its norm as it was; ``norms`` are those so far, in rising order, where they decide."""
    if schedule.clip_percentile is None:
        return nn.utils.clip_grad_norm_(parameters, schedule.clip)
    gradients = [value.grad for value in parameters if value.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if math.isfinite(norm.item()):
        nn.utils.clip_grads_with_norm_(parameters, percentile(norms, schedule.clip_percentile, norm.item()), norm)
    return norm


def percentile(norms: list[float], percent: float, norm: float) -> float:
    """Put a norm among those so far, which rise, and return the limit at that percentile: MaskPoint's running percentile.

    Of n norms before it is the k-th smallest, this one among them, k being ``percent`` of n, rounded down, and at least 1.
    """
    before = len(norms)
    bisect.insort(norms, norm)
    return norms[max(int(percent / 100 * before), 1) - 1]


@contextlib.contextmanager
def _own_randomness(seed: int, epoch: int) -> Iterator[None]:
    """Dropout and drop path draw from torch's default generators: give them this epoch's stream and put the caller's back after."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed_of(seed, "noise", epoch))
        yield


def _capture(
    modules: nn.Module, optimiser: torch.optim.Optimizer, norms: list[float], epoch: int, log: list[dict[str, float]]
) -> tuple[State, dict[str, Any]]:
    tensors = {f"model/{name}": value.detach() for name, value in modules.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser/{index}/{name}": value.detach() for name, value in moments.items()})
    if norms:
        tensors[_NORMS] = torch.tensor(norms, dtype=torch.float64)
    return tensors, {"epoch": epoch, "log": log}


def _restore(
    kept: tuple[State, dict[str, Any]], modules: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, list[dict[str, float]]]:
    tensors, meta = kept
    modules.load_state_dict({key.removeprefix("model/"): value for key, value in tensors.items() if key.startswith("model/")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(meta["epoch"]), list(meta["log"])
