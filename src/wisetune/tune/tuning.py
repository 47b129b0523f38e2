"""What a tuning is: which parameters of a model train. Grafts of parameter-efficient tunings come here too, one file each."""

from __future__ import annotations

import dataclasses

from torch import nn

from wisetune.nets.model import Model
from wisetune.spec import Spec


@dataclasses.dataclass(frozen=True)
class Tuning(Spec):
    """Base of every tuning; the fields of a subclass are its options."""

    def trains(self, name: str) -> bool:
        """Whether the parameter of this name (``backbone.…`` or ``head.…``) trains."""
        raise NotImplementedError(f"{type(self).__name__} must define trains")

    @property
    def moves_features(self) -> bool:
        """Whether training changes what the head sees. Where it does not, features are computed once and the backbone stays in eval mode."""
        return True

    def parameters(self, model: Model) -> dict[str, nn.Parameter]:
        """The parameters that train, by name; all others are frozen in place."""
        chosen = {}
        for name, value in model.named_parameters():
            value.requires_grad_(self.trains(name))
            if value.requires_grad:
                chosen[name] = value
        return chosen
