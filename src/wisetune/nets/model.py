"""A classifier: backbone, readout and head, with the state dict of the family's released classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Backbone, Entered, Groups
from wisetune.nets.headed import Headed
from wisetune.spec import Spec


class Model(Headed):
    """``model(points)`` gives logits, ``model.features(points)`` what the head sees, of ``points`` ``[batch, number, 3]``, any float type.

    In the state dict the head stands under ``backbone.head_name``.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, head_spec: Spec | None = None, classes: Sequence[str] = ()) -> None:
        super().__init__(backbone, head, head_spec, tuple(classes))

    @property
    def head_prefixes(self) -> tuple[str, ...]:
        """What the head's keys begin with in the state dict."""
        return (self.backbone.head_name + ".",)

    def released(self, key: str) -> str:
        """The name in the state dict of one of the head's own keys."""
        return f"{self.backbone.head_name}.{key}"

    def unreleased(self, name: str) -> str | None:
        """The head's own key for a name in a state dict; None for what belongs to the backbone."""
        prefix = self.backbone.head_name + "."
        return name.removeprefix(prefix) if name.startswith(prefix) else None

    def encode(self, groups: Groups, entered: Entered | None = None) -> Float[torch.Tensor, "b f"]:
        """The backbone's features of grouped clouds; where what enters some block is given, all before it is passed over."""
        return super().encode(groups) if entered is None else self.backbone.pool(self.backbone.encode(groups, entered))

    def forward(self, points: torch.Tensor) -> Float[torch.Tensor, "b classes"]:
        """Logits; errors as ``features``.

        Raises:
            UsageError: there is no head.
        """
        if self.headless:
            raise UsageError(
                "this model has no head and gives features alone: model.features(points). For logits give classes= to wisetune.create, or take "
                "a tuned model."
            )
        return self.head(self.encode(self.group(points)))
