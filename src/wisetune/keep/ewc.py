"""EWC: the distance to the starting point, each value weighed by how much the model's answers depend on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import nn

from wisetune.errors import TrainingError, UsageError
from wisetune.keep.penalty import Begun, OfWeights, Rows, Term, away, begin
from wisetune.nets.backbone import Groups
from wisetune.nets.model import Model
from wisetune.runtime import generator, torch_generator
from wisetune.spec import option

Answer = Callable[[Rows], Float[torch.Tensor, "m c"]]
"""The logits of clouds, by their rows."""
Squares = list[torch.Tensor]
"""One tensor a parameter."""


@dataclasses.dataclass(frozen=True)
class Ewc(OfWeights):
    """Elastic weight consolidation (Kirkpatrick et al., PNAS 2017, eq. 3): weight/2 x sum of F (value - value at the start)².

    F is the diagonal of the Fisher information at the start, of single clouds: ``true`` is the expectation over the model's own answer,
    ``empirical`` takes the true labels. ``batch`` is what Avalanche computes: the gradient of a batch's mean loss, squared, and the mean of that over
    batches; it equals ``empirical`` for batches of one cloud only. ``half=false`` leaves out the paper's 1/2, as Avalanche does.

    The paper's F is of the old data. A pre-trained backbone comes without them, so here it is of the training clouds of the *new* task (not
    augmented, in eval mode), with the head that the training begins with. A fresh head has answered nothing yet, and F then says how much of the
    features' change a random readout would see; from a probed head (lp-ft) it says what the answers depend on. The log says which it was.
    F is small: mean and largest value stand in the log, by which a weight can be chosen.

    Parameters that train and have a value in the start are held, and grafts near the values that they begin with; a fresh head and a fresh class token
    are not, nor are BatchNorm's statistics. F of a graft is that at its beginning, on the same clouds. It may be exactly 0: of LoRA's ``down`` and of
    an adapter's, while the map after it is 0, and of a gate that no token opens. Such a value is free to move. The log says how many there are.
    """

    name: ClassVar[str] = "ewc"

    fisher: Literal["true", "empirical", "batch"] = option(
        "true", means="over the model's own answers, with the true labels, or of batches with the true labels (Avalanche)"
    )
    items: int = option(300, least=0, means="training clouds that F is the mean over, drawn at random; 0 takes all")
    labels: int = option(0, least=0, means="answers drawn a cloud, of fisher=true; 0 sums over all classes, exactly")
    fisher_batch: int | None = option(None, least=1, means="clouds a batch, of fisher=batch; none: as many as a training step's")
    half: bool = option(True, means="the paper's 1/2; Avalanche has none")

    def __post_init__(self) -> None:
        super().__post_init__()
        for word, kind, given in (("labels", "true", self.labels), ("fisher-batch", "batch", self.fisher_batch)):
            if given and self.fisher != kind:
                raise UsageError(
                    f"'ewc' was given {word}={given} and fisher={self.fisher}; {word} is of fisher={kind} alone. Leave it out."
                )

    def cost(self, clouds: int, classes: int) -> int:
        """A gradient for every answer that is looked at."""
        return self._count(clouds) * ((self.labels or classes) if self.fisher == "true" else 1)

    def _count(self, clouds: int) -> int:
        return min(self.items or clouds, clouds)

    def prepare(self, begun: Begun) -> tuple[Term, Mapping[str, Any]]:
        """Remembers the values, and how much the answers depend on each.

        Raises:
            TrainingError: F is not finite.
        """
        parameters = begun.parameters(self)
        rows = generator(begun.seed, "fisher").permutation(len(begun.labels))[: self._count(len(begun.labels))]

        def answer(some: Rows) -> torch.Tensor:
            logits = begun.model.head(begun.model.encode(begun.groups(some)))
            return self._finite(logits, logits.detach().sum())

        with torch.enable_grad():
            squares = self._squares(answer, list(parameters.values()), rows, begun)
        found = dict(zip(parameters, squares, strict=True))
        largest = float(torch.stack([self._finite(values, values.sum()).max() for values in squares]).max())
        start, factor = begin(parameters), 0.5 if self.half else 1.0

        def term(model: Model, groups: Groups, logits: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - a term's
            return factor * torch.stack([(found[name] * difference.square()).sum() for name, difference in away(model, start)]).sum()

        zero = sum(int((values == 0).sum()) for values in squares)
        mean = sum(float(values.sum()) for values in squares) / sum(values.numel() for values in squares)
        return term, {"fisher": self.fisher, "fisher_clouds": len(rows), "fisher_mean": mean, "fisher_max": largest, "fisher_zero": zero}

    def _finite(self, values: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        if math.isfinite(total):
            return values
        raise TrainingError(
            f"'{self}': the Fisher information at the start is not finite. Look at the clouds (wisetune data check DIR), or at the weights that "
            "the training begins with."
        )

    def _squares(self, answer: Answer, parameters: Sequence[nn.Parameter], rows: Rows, begun: Begun) -> Squares:
        if self.fisher == "true":
            return true_fisher(answer, parameters, rows, self.labels, begun.seed)
        if self.fisher == "empirical":
            return batch_fisher(answer, parameters, rows, begun.labels, 1)
        return batch_fisher(answer, parameters, rows, begun.labels, self.fisher_batch or begun.batch)


def true_fisher(answer: Answer, parameters: Sequence[nn.Parameter], rows: Rows, labels: int = 0, seed: int = 0) -> Squares:
    """The mean over clouds of the expected square of the gradient of log p(class), the class being the model's own answer.

    ``labels`` answers are drawn a cloud, by ``seed`` and its row; 0 takes the expectation over all classes.
    """
    total = _zeros(parameters)
    for row in rows:
        logs = answer(np.array([row]))[0].log_softmax(dim=0)
        chances = logs.detach().exp()
        if labels:
            draw = torch_generator(seed, "fisher labels", int(row))
            drawn = torch.multinomial(chances.cpu(), labels, replacement=True, generator=draw)
            chances = drawn.bincount(minlength=len(chances)).to(chances) / labels
        some = chances.nonzero()[:, 0].tolist()
        for index in some:
            _add(total, logs[index], parameters, float(chances[index]), again=index != some[-1])
    return _over(total, len(rows))


def batch_fisher(answer: Answer, parameters: Sequence[nn.Parameter], rows: Rows, classes: Int64[np.ndarray, " n"], size: int) -> Squares:
    """The mean over batches of the square of the gradient of the batch's mean loss (Avalanche); with batches of 1 the empirical Fisher.

    The last batch counts as the others do, though it may be smaller, as in Avalanche.
    """
    total, parts = _zeros(parameters), [rows[at : at + size] for at in range(0, len(rows), size)]
    for part in parts:
        logits = answer(part)
        _add(total, F.cross_entropy(logits, torch.from_numpy(classes[part]).to(logits.device)), parameters)
    return _over(total, len(parts))


def _zeros(parameters: Iterable[nn.Parameter]) -> Squares:
    return [torch.zeros_like(value, requires_grad=False) for value in parameters]


def _add(total: Squares, value: torch.Tensor, parameters: Sequence[nn.Parameter], times: float = 1.0, again: bool = False) -> None:
    """Add the squares of a value's gradients; ``again`` keeps the graph for a further value of it."""
    gradients = torch.autograd.grad(value, parameters, retain_graph=again, allow_unused=True)
    for one, gradient in zip(total, gradients, strict=True):
        if gradient is not None:
            one.addcmul_(gradient, gradient, value=times)


def _over(total: Squares, count: int) -> Squares:
    return [one / max(count, 1) for one in total]
