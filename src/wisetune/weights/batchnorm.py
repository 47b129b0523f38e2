"""BatchNorm statistics after a merge.

Mixed weights make other activations than either parent, and while their means may still lie on a line, their variances do not:
var(alpha) = (1-alpha)^2 v0 + alpha^2 v1 + 2 alpha (1-alpha) cov. Averaged running statistics therefore fit nobody, and have to be
measured again (as in SWA: Izmailov et al. 2018, section 3.2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator
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

B = TypeVar("B")
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_UNTOUCHED = -1.0
"""A variance that no batch can have."""
_BATCH = 32


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
    """Replace the running statistics of every BatchNorm in ``model`` by those of ``batches``, in place.

    Only BatchNorm modules are in train mode; all else is in eval mode (no dropout, no drop path), without gradients. So each batch is
    normalised by *its own* statistics on the way to later layers, as in training and in SWA; the statistics of a later BatchNorm
    therefore depend a little on how the clouds were batched, those of the first do not.

    The buffers are read after each batch (with momentum 1), not the modules' inputs: a network that computes a BatchNorm without calling
    the module is served too, provided that it looks at the *BatchNorm's* ``training`` flag and writes its buffers as torch does.

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
        UsageError: no batches, a batch with a single row, or a BatchNorm that runs twice in one forward pass.
        TrainingError: statistics that are not finite. Whatever is raised, the model is left as it was.
    """
    if rule not in ("pooled", "torch"):
        raise UsageError(f"rule is '{rule}'; it can be pooled, torch.")
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _NORMS) and module.running_mean is not None}
    norms = norms if among is None else {name: module for name, module in norms.items() if name in among}
    seen: dict[str, list[_Seen]] = {name: [] for name in norms}
    counts: list[int] = []
    with _only_norms_train(model, norms) as rows:
        for batch in batches if norms else ():
            counts.append(clouds(batch))
            _mark(norms, rows)
            _run(model if forward is None else forward, batch, counts[-1])
            for name, module in norms.items():
                found = _look(name, module, counts[-1], rows.get(name))
                if found is not None:
                    seen[name].append(found)
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


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What one batch left in one module's buffers; ``rows`` (clouds x points) is None where the module itself was not called."""

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
    weight = torch.tensor([[float(batch.clouds)] for batch in seen], dtype=torch.float64)
    weight = weight / weight.sum()
    means, within = torch.stack([batch.mean for batch in seen]), torch.stack([batch.variance for batch in seen])
    # Rows are proportional to clouds, so clouds are the right weights. Where rows are unknown because the network bypasses the module,
    # only the step between unbiased and biased variance is lost: a relative error of 1 / rows of a batch.
    known = [count for count in rows if count is not None]
    exact = len(known) == len(rows)
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


def _mark(norms: dict[str, Norm], rows: dict[str, int]) -> None:
    """Make it visible afterwards which modules a batch reached, and how often."""
    rows.clear()
    for module in norms.values():
        _buffers(module)[1].fill_(_UNTOUCHED)
        if module.num_batches_tracked is not None:
            module.num_batches_tracked.zero_()


def _buffers(module: Norm) -> tuple[Tensor, Tensor]:
    mean, variance = module.running_mean, module.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance


@contextmanager
def _only_norms_train(model: nn.Module, norms: dict[str, Norm]) -> Iterator[dict[str, int]]:
    """Set modes and momentum; yields the rows that each called module saw; puts flags, momentum and *all* buffers back at the end."""
    rows: dict[str, int] = {}
    training = {module: module.training for module in model.modules()}
    momentum = {name: module.momentum for name, module in norms.items()}
    saved = {name: {key: buffer.clone() for key, buffer in module.named_buffers(recurse=False)} for name, module in norms.items()}

    def count_rows(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows[name] = inputs[0].numel() // inputs[0].shape[1]

        return hook

    hooks = [module.register_forward_pre_hook(count_rows(name)) for name, module in norms.items()]
    try:
        model.eval()
        for module in norms.values():
            module.train()
            module.momentum = 1.0
        yield rows
    finally:
        for handle in hooks:
            handle.remove()
        for module, flag in training.items():
            module.training = flag
        for name, module in norms.items():
            module.momentum = momentum[name]
            for key, buffer in module.named_buffers(recurse=False):
                buffer.copy_(saved[name][key])
