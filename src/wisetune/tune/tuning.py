"""What a tuning is: the modules that it grafts into a model, and which parameters train. Each is one file here."""

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

    def graft(self, model: Model) -> None:
        """Add modules to the backbone of a model, in place; by itself none.

        They become submodules of the backbone, so that its keys stay and theirs are new, and are called by hooks that are *bound methods* of a
        module in the model: models are deep-copied, and a closure would go on calling the module of the original. Initial values are torch's:
        whoever grafts seeds it. What is grafted is stored whole; of the rest what training changed.
        """

    def in_training(self, model: Model) -> list[nn.Module]:
        """The modules that are in training mode while this tuning trains, with all that is in them: the others' dropout and BatchNorm rest.

        By itself the whole model, or the head alone where the features do not change.
        """
        return [model] if self.moves_features else [model.head]

    def parameters(self, model: Model) -> dict[str, nn.Parameter]:
        """The parameters that train, by name; all others are frozen in place."""
        chosen = {}
        for name, value in model.named_parameters():
            value.requires_grad_(self.trains(name))
            if value.requires_grad:
                chosen[name] = value
        return chosen
