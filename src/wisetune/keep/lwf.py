"""LwF: answers stay near those of the model that the training began with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float

from wisetune.keep.penalty import Begun, Penalty, Term
from wisetune.nets.backbone import Groups
from wisetune.nets.model import Model
from wisetune.spec import option

Divergence = Literal["kl", "soft-ce"]


@dataclasses.dataclass(frozen=True)
class Lwf(Penalty):
    """Learning without forgetting (Li & Hoiem, ECCV 2016): on the training clouds, as augmented, answer as the frozen start does.

    The term is weight x the mean over clouds of KL(softened answer of the start || softened answer of the model), both softened by ``temperature``;
    ``divergence=soft-ce`` is the paper's cross-entropy, which has the same gradient and is larger by the entropy of the start's answer.
    ``scaled`` multiplies by temperature² (Hinton et al. 2015); the paper, Avalanche and ImageNet-RIB do not.

    It needs answers of the start. A pre-trained point-cloud backbone has no head, for old classes or new ones, so this is for a training that goes on
    from a trained head: LP-FT, where the start is the probed model, the pre-trained features read out for the task's classes. That is the setting of
    ImageNet-RIB, where start and model share one head; the paper's old-task head has no counterpart here. With a fresh head it is refused. It goes with
    every tuning: of one that begins changed the probed model has its grafts, as they begin.
    """

    name: ClassVar[str] = "lwf"
    needs_head: ClassVar[bool] = True
    of_weights: ClassVar[bool] = False

    weight: float = option(1.0, least=0, means="how much it counts beside the loss of the task")
    temperature: float = option(2.0, above=0, means="by which logits are divided before they are compared")
    scaled: bool = option(False, means="whether it is multiplied by temperature² (Hinton)")
    divergence: Divergence = option("kl", means="what compares answers: KL, or the cross-entropy, which is larger by the start's entropy")

    def prepare(self, begun: Begun) -> tuple[Term, Mapping[str, Any]]:
        """The teacher is the parent itself, in eval mode."""
        teacher = begun.parent

        def term(model: Model, groups: Groups, logits: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - a term's
            with torch.no_grad():
                said = teacher.head(teacher.encode(groups))
            return distance(logits, said, self.temperature, self.divergence, scaled=self.scaled)

        return term, {}


def distance(
    student: Float[torch.Tensor, "b c"],
    teacher: Float[torch.Tensor, "b c"],
    temperature: float = 2.0,
    divergence: Divergence = "kl",
    *,
    scaled: bool = False,
) -> Float[torch.Tensor, ""]:
    """How far the student's answers are from the teacher's, a cloud: KL(teacher || student), or the cross-entropy of these, at a temperature."""
    mine, theirs = ((logits / temperature).log_softmax(dim=1) for logits in (student, teacher))
    times = temperature**2 if scaled else 1.0
    if divergence == "kl":
        return times * F.kl_div(mine, theirs, log_target=True, reduction="batchmean")
    return times * -(theirs.exp() * mine).sum(dim=1).mean()
