"""What a penalty is: a term that every training step adds to its loss, so that the model stays near the one that the training began with.

Each is one file here. It is prepared once, of what the training begins with; the term that this gives is all that a training knows of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from wisetune.nets.backbone import Groups
from wisetune.nets.model import Model
from wisetune.spec import Spec, option

Term = Callable[[Model, Groups, torch.Tensor], torch.Tensor]
"""Of the model that trains, the patches of a step's clouds, and its logits of them: one number that gradients flow through."""
Rows = Int64[np.ndarray, " m"]


@dataclasses.dataclass(frozen=True)
class Begun:
    """What a training begins with: all that a penalty may be prepared of.

    ``model`` is the one that will train, with what was grafted as it begins, ``parent`` that which it was made of, in eval mode: with its head, if it
    has one, and without what this training grafts. ``anchored`` names the parameters of ``model`` that train and have a value to stay near: a
    pre-trained or a trained one, or that with which a graft begins. ``groups`` gives the patches of training
    clouds by their rows, not augmented, ``labels`` are theirs; ``batch`` is how many of them a step sees.
    """

    model: Model
    parent: Model
    anchored: tuple[str, ...]
    groups: Callable[[Rows], Groups]
    labels: Int64[np.ndarray, " n"]
    batch: int
    seed: int

    def parameters(self, penalty: Penalty) -> dict[str, nn.Parameter]:
        """Those of the anchored parameters that a penalty holds, by name."""
        named = dict(self.model.named_parameters())
        return {name: named[name] for name in self.anchored if penalty.holds(name)}


class Prepared(NamedTuple):
    """A term, and what a reader of the log should know of how it was made. None is no term at all."""

    term: Term | None
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Penalty(Spec):
    """Base of every penalty; the fields of a subclass are its options."""

    needs_head: ClassVar[bool] = False
    """Whether it compares answers, so that the training must go on from a trained head."""
    of_weights: ClassVar[bool] = True
    """Whether it compares weights, so that some that have a value at the start must train."""

    weight: float = option(least=0, means="how much it counts beside the loss of the task")

    def holds(self, name: str) -> bool:  # noqa: ARG002 - the answer of most does not depend on it
        """Whether it compares the parameter of this name (``backbone.…`` or ``head.…``) with its value at the start."""
        return self.of_weights

    def cost(self, clouds: int, classes: int) -> int:  # noqa: ARG002 - the contract of every penalty
        """How many clouds it looks at before the first step, each with a gradient."""
        return 0

    def prepare(self, begun: Begun) -> tuple[Term, Mapping[str, Any]]:
        """The term without its weight, and what a reader of the log should know of how it was made.

        The model is in eval mode. Nothing of ``begun`` is changed; what is drawn is a pure function of its seed.
        """
        raise NotImplementedError(f"{type(self).__name__} must define prepare")

    def prepared(self, begun: Begun) -> Prepared:
        """The term with its weight. At weight 0 there is none: the steps are those of a training without a penalty, bit for bit."""
        if self.weight == 0:
            return Prepared(None, {})
        with resting(begun.model):
            term, facts = self.prepare(begun)

        def weighed(model: Model, groups: Groups, logits: torch.Tensor) -> torch.Tensor:
            return self.weight * term(model, groups, logits)

        return Prepared(weighed, facts)


@dataclasses.dataclass(frozen=True)
class OfWeights(Penalty):
    """Base of those that compare weights: a quadratic in how far each value is from where it began."""

    head: bool = option(True, means="whether a head that the training goes on from is held too; a fresh one never is")

    def holds(self, name: str) -> bool:
        """All, or all but the head's."""
        return self.head or not name.startswith("head.")


def away(model: Model, start: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """How far the parameters of these names are from these values."""
    named = dict(model.named_parameters())
    for name, value in start.items():
        yield name, named[name] - value


def begin(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """The values of parameters as they are now."""
    return {name: value.detach().clone() for name, value in parameters.items()}


@contextlib.contextmanager
def resting(model: Model) -> Iterator[None]:
    """Eval mode, in which BatchNorm's statistics do not move; after it each part is in the mode that it was in."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag
