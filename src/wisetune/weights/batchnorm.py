"""BatchNorm statistics after a merge.

Mixed weights make other activations than either parent, and while their means may still lie on a line, their variances do not:
var(alpha) = (1-alpha)^2 v0 + alpha^2 v1 + 2 alpha (1-alpha) cov. Averaged running statistics therefore fit nobody, and have to be
measured again (as in SWA: Izmailov et al. 2018, section 3.2).

That is of statistics. A BatchNorm that rested while the weights learnt (a tuning's frozen tokenizer) is a fixed scale and shift, the same at both
ends and between them (``trained_norms``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wisetune.errors import TrainingError, UsageError
from wisetune.nets.backbone import Groups
from wisetune.nets.headed import Headed
from wisetune.nets.segmenter import Segmenter
from wisetune.runtime import generator
from wisetune.weights.merge import State

B = TypeVar("B")
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_UNTOUCHED = -1.0
"""A variance that no batch can have."""
_BATCH = 32


def trained_norms(model: Headed, states: Sequence[State]) -> list[str]:
    """Of the mix of these backbones the BatchNorms whose statistics fit none of its weights, for ``reestimate``.

    Statistics that moved in a training belong to the weights that it ended with: those of the backbone that differ, those of a graft that not all
    have, and those of a head, which is one model's. A BatchNorm that rested is a fixed scale and shift, the same in all and so in the mix, and
    weights have learnt with it as it is: measured again it would take back a part of what they learnt. Where nothing in the backbone moved,
    nothing is to be measured.

    Args:
        model: the mix.
        states: what was mixed, as it was given to the merge.
    """
    everywhere = set(states[-1]).intersection(*states)
    moved = {key for key in everywhere if not all(_equal(states[-1][key], state[key]) for state in states[:-1])}

    def measured(name: str) -> bool:
        side, _, own = name.partition(".")
        keys = [f"{own}.{buffer}" for buffer in ("running_mean", "running_var")]
        return side == "head" or any(key in moved or key not in everywhere for key in keys)

    return [name for name in _norms_of(model) if measured(name)] if moved else []


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other.to(one.device))


def reestimate_on(model: Headed, groups: Groups, category: Tensor | None = None, among: Collection[str] | None = None) -> dict[str, Any]:
    """``reestimate`` on grouped clouds (see ``Headed.group``), as every mix of a study is: in batches that follow from their number alone.

    A part segmentation model needs the ``category`` of each cloud too, one-hot.
    """
    if isinstance(model, Segmenter):
        if category is None:
            raise UsageError("a part segmentation model's statistics are measured on clouds with their categories, and none were given.")
        return reestimate(model, drawn_batches((*groups, category)), lambda part: model.answer(part[:-1], part[-1]), among=among)
    return reestimate(model, drawn_batches(groups), lambda part: model.head(model.encode(part)), among=among)


def drawn_batches(groups: Groups) -> Iterator[Groups]:
    """Batches of nearly equal size in a drawn order: a file's is often sorted by class, and a batch is normalised by its own statistics."""
    order = generator("reestimate", "order").permutation(len(groups[0]))
    for rows in np.array_split(order, math.ceil(len(order) / _BATCH)):
        yield tuple(column[torch.from_numpy(rows).to(column.device)] for column in groups)


def _clouds(batch: object) -> int:
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if isinstance(first, Tensor):
        return len(first)
    raise UsageError(f"reestimate was given batches of {type(batch).__name__}; say with clouds= how many clouds such a batch holds.")


def reestimate(
    model: nn.Module,
    batches: Iterable[B],
    forward: Callable[[B], object] | None = None,
    *,
    clouds: Callable[[B], int] = _clouds,
    rule: Literal["pooled", "torch"] = "pooled",
    among: Collection[str] | None = None,
) -> dict[str, Any]:
    """Replace the running statistics of every BatchNorm in ``model``, or of some, by those of ``batches``, in place.

    Only these modules are in train mode; all else is in eval mode (no dropout, no drop path), without gradients. So each batch is
    normalised by *its own* statistics on the way to later layers, as in training and in SWA; the statistics of a later BatchNorm
    therefore depend a little on how the clouds were batched, those of the first do not.

    The buffers are read after each call (with momentum 1), not the modules' inputs: a network that computes a BatchNorm without calling
    the module is served too, provided that it looks at the *BatchNorm's* ``training`` flag and writes its buffers as torch does, once a batch. One that
    is called several times, as on the further patches of some tunings, gets the statistics of all that entered it.

    Args:
        model: the merged model.
        batches: what ``forward`` takes, for example tensors ``[n, p, 3]`` or a backbone's ``Groups``, which can be computed once for all
            alphas. More than one row must reach each BatchNorm.
        forward: runs the model on one batch; the model itself if None.
        clouds: how many clouds a batch holds (its weight); by itself the first dimension of a tensor, or of the first in a tuple.
        rule: ``pooled`` weights batches by their clouds and adds the variance between batches, in float64: mean and unbiased variance
            over all rows, what one big batch would give. ``torch`` is the plain mean over batches of means and of variances, what torch
            leaves behind with ``momentum=None``.
        among: names of modules to which this is confined, all others being in eval mode; None for all of the model's.

    Returns:
        A JSON-able line for the log: rule, batches, clouds, and the names of the modules ``updated`` and ``unused`` (no batch reached
        them: their statistics are unchanged).

    Raises:
        UsageError: no batches, a batch with a single row, or a BatchNorm that runs twice in one forward pass and is not called.
        TrainingError: statistics that are not finite. Whatever is raised, the model is left as it was.
    """
    if rule not in ("pooled", "torch"):
        raise UsageError(f"rule is '{rule}'; it can be pooled, torch.")
    norms = {name: module for name, module in _norms_of(model).items() if among is None or name in among}
    seen: dict[str, list[_Seen]] = {name: [] for name in norms}
    counts: list[int] = []

    def look(name: str, module: Norm, rows: int | None) -> None:
        found = _look(name, module, counts[-1], rows)
        if found is not None:
            seen[name].append(found)
            _mark(module)

    with _only_norms_train(model, norms, look):
        for batch in batches if norms else ():
            counts.append(clouds(batch))
            for module in norms.values():
                _mark(module)
            _run(model if forward is None else forward, batch, counts[-1])
            for name, module in norms.items():
                look(name, module, None)
    if norms and not counts:
        raise UsageError("reestimate was given no batches; BatchNorm statistics need at least one.")
    updated = {name: batches_seen for name, batches_seen in seen.items() if batches_seen}
    for name, batches_seen in updated.items():
        for buffer, value in zip(_buffers(norms[name]), _torch(batches_seen) if rule == "torch" else _pooled(batches_seen), strict=True):
            buffer.copy_(value)
        tracked = norms[name].num_batches_tracked
        if tracked is not None:
            tracked.fill_(len(batches_seen))
    unused = [name for name in norms if name not in updated]
    return {"batchnorm": rule, "batches": len(counts), "clouds": sum(counts), "updated": list(updated), "unused": unused}


def _norms_of(model: nn.Module) -> dict[str, Norm]:
    return {name: module for name, module in model.named_modules() if isinstance(module, NORMS) and module.running_mean is not None}


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What one call left in one module's buffers; ``rows`` (clouds x points) is None where the module itself was not called."""

    clouds: int
    rows: int | None
    mean: Tensor
    variance: Tensor


def _look(name: str, module: Norm, clouds: int, rows: int | None) -> _Seen | None:
    mean, variance = (buffer.detach().to("cpu", torch.float64, copy=True) for buffer in _buffers(module))
    if bool((variance == _UNTOUCHED).all()):
        return None
    if module.num_batches_tracked is not None and int(module.num_batches_tracked) > 1:
        raise UsageError(f"BatchNorm '{name}' runs more than once in a forward pass; the statistics of its inputs cannot be told apart.")
    if not bool(torch.isfinite(mean).all() and torch.isfinite(variance).all()):
        raise TrainingError(f"the inputs of BatchNorm '{name}' are not finite on the data given; the merged weights cannot be used.")
    return _Seen(clouds, rows, mean, variance)


def _pooled(seen: list[_Seen]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance over all rows: variance within batches plus variance between their means."""
    rows = [batch.rows for batch in seen]
    # Rows of one call a batch are proportional to clouds, so where they are unknown, because the network bypasses the module, clouds are the right
    # weights; only the step between unbiased and biased variance is lost then: a relative error of 1 / rows of a batch.
    known = [count for count in rows if count is not None]
    exact = len(known) == len(rows)
    weight = torch.tensor([[float(count)] for count in (known if exact else [batch.clouds for batch in seen])], dtype=torch.float64)
    weight = weight / weight.sum()
    means, within = torch.stack([batch.mean for batch in seen]), torch.stack([batch.variance for batch in seen])
    if exact:
        count = torch.tensor([[float(count)] for count in known], dtype=torch.float64)
        within = within * (count - 1) / count
    mean = (weight * means).sum(0)
    variance = (weight * (within + (means - mean) ** 2)).sum(0)
    return mean, variance * (sum(known) / (sum(known) - 1)) if exact else variance


def _torch(seen: list[_Seen]) -> tuple[Tensor, Tensor]:
    """The plain mean over batches, whatever their size."""
    return torch.stack([batch.mean for batch in seen]).mean(0), torch.stack([batch.variance for batch in seen]).mean(0)


def _run(forward: Callable[[B], object], batch: B, count: int) -> None:
    try:
        with torch.no_grad():
            forward(batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(f"a batch of {count} clouds is too small for BatchNorm statistics; drop it or join it to another.") from error


def _mark(module: Norm) -> None:
    """Make it visible afterwards whether a batch reached it, and how often."""
    _buffers(module)[1].fill_(_UNTOUCHED)
    if module.num_batches_tracked is not None:
        module.num_batches_tracked.zero_()


def _buffers(module: Norm) -> tuple[Tensor, Tensor]:
    mean, variance = module.running_mean, module.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


@contextmanager
def _only_norms_train(model: nn.Module, norms: dict[str, Norm], look: Callable[[str, Norm, int | None], None]) -> Iterator[None]:
    """Set modes and momentum, and look after each call of a module, told its rows; put flags, momentum and *all* buffers back at the end."""
    training = {module: module.training for module in model.modules()}
    momentum = {name: module.momentum for name, module in norms.items()}
    saved = {name: {key: buffer.clone() for key, buffer in module.named_buffers(recurse=False)} for name, module in norms.items()}

    def after(name: str) -> Callable[[Norm, tuple[Tensor, ...], object], None]:
        return lambda module, inputs, _: look(name, module, inputs[0].numel() // inputs[0].shape[1])

    hooks = [module.register_forward_hook(after(name)) for name, module in norms.items()]
    try:
        model.eval()
        for module in norms.values():
            module.train()
            module.momentum = 1.0
        yield
    finally:
        for handle in hooks:
            handle.remove()
        for module, flag in training.items():
            module.training = flag
        for name, module in norms.items():
            module.momentum = momentum[name]
            for key, buffer in module.named_buffers(recurse=False):
                buffer.copy_(saved[name][key])
