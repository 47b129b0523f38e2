"""A model: backbone, readout and head, with the state dict of the family's released classifiers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from wisetune.nets.backbone import Backbone, Groups
from wisetune.nets.readout import READOUTS, readout


class Model(nn.Module):
    """``model(points)`` gives logits, ``model.features(points)`` what the head sees.

    The state dict has the released names: the backbone's keys without prefix, the head's under ``backbone.head_name``.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_state_dict_post_hook(_to_released)
        self.register_load_state_dict_pre_hook(_from_released)

    @property
    def head_prefix(self) -> str:
        """What the head's keys begin with in the state dict."""
        return self.backbone.head_name + "."

    def group(self, points: Float[torch.Tensor, "b n 3"]) -> Groups:
        """What depends on the cloud alone; ``encode`` takes it in place of points."""
        return self.backbone.group(points)

    def encode(self, groups: Groups) -> Float[torch.Tensor, "b f"]:
        """Features of grouped clouds."""
        return readout(self.backbone.readout)(self.backbone.encode(groups))

    def features(self, points: Float[torch.Tensor, "b n 3"]) -> Float[torch.Tensor, "b f"]:
        """The vector that the head sees."""
        return self.encode(self.group(points))

    def forward(self, points: Float[torch.Tensor, "b n 3"]) -> Float[torch.Tensor, "b classes"]:
        """Logits."""
        return self.head(self.features(points))


def feature_width(backbone: Backbone) -> int:
    """Length of the vector that a head on this backbone sees."""
    return READOUTS[backbone.readout][1] * backbone.width


def _to_released(model: Model, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        rest = key.removeprefix(prefix)
        if rest.startswith("backbone."):
            state[prefix + rest.removeprefix("backbone.")] = state.pop(key)
        elif rest.startswith("head."):
            state[prefix + model.head_prefix + rest.removeprefix("head.")] = state.pop(key)


def _from_released(model: Model, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        rest = key.removeprefix(prefix)
        side = "head." + rest.removeprefix(model.head_prefix) if rest.startswith(model.head_prefix) else "backbone." + rest
        state[prefix + side] = state.pop(key)
