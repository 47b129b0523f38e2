"""What has a backbone and a head: a classifier (``Model``), or a part segmentation model (``Segmenter``)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from wisetune.nets.backbone import Backbone, Groups
from wisetune.spec import Spec


class Headed(nn.Module):
    """Base of both: backbone, head and the names of what it answers, with the state dict of the family's released files.

    ``model.features(points)`` are the backbone's. The state dict has the backbone's keys without prefix, and the head's under the released names.
    ``head_spec`` and ``classes`` say what the head is; a model that is saved needs them. A head that is an ``nn.Identity`` is none.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, head_spec: Spec | None, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.head_spec = head_spec
        self.classes = classes
        self.register_state_dict_post_hook(_to_released)
        self.register_load_state_dict_pre_hook(_from_released)

    @property
    def headless(self) -> bool:
        """Whether there is no head, so that features are all that it can tell."""
        return isinstance(self.head, nn.Identity)

    @property
    def head_prefixes(self) -> tuple[str, ...]:
        """What the head's keys begin with in the state dict."""
        raise NotImplementedError(f"{type(self).__name__} must define head_prefixes")

    def released(self, key: str) -> str:
        """The name in the state dict of one of the head's own keys."""
        raise NotImplementedError(f"{type(self).__name__} must define released")

    def unreleased(self, name: str) -> str | None:
        """The head's own key for a name in a state dict; None for what belongs to the backbone."""
        raise NotImplementedError(f"{type(self).__name__} must define unreleased")

    @property
    def fewest_points(self) -> int:
        """The fewest points of a cloud that there can be an answer for."""
        return self.backbone.fewest_points

    @property
    def grouping(self) -> str:
        """What ``group`` depends on beside the cloud: models that agree in it group every cloud alike."""
        return f"{self.backbone.spec!r} {self.backbone.further!r} {next(self.backbone.parameters()).dtype}"

    # Points come from users: their shape is checked with a message, so these signatures do not promise one.
    def group(self, points: torch.Tensor) -> Groups:
        """What depends on the cloud alone, in the model's precision; ``encode`` takes it in place of points. Errors as ``features``."""
        return self.backbone.looked(points, self.fewest_points)

    def encode(self, groups: Groups) -> Float[torch.Tensor, "b f"]:
        """The backbone's features of grouped clouds."""
        return self.backbone.pool(self.backbone.encode(groups))

    def features(self, points: torch.Tensor) -> Float[torch.Tensor, "b f"]:
        """The vector that a classifier's head sees, of ``points`` ``[batch, number, 3]``, any float type.

        Raises:
            DataError: not ``[batch, points, 3]`` of finite floats, or too few points for the backbone's patches.
        """
        return self.backbone.features(points)


def _to_released(model: Headed, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        side, _, rest = key.removeprefix(prefix).partition(".")
        if side == "backbone":
            state[prefix + rest] = state.pop(key)
        elif side == "head":
            state[prefix + model.released(rest)] = state.pop(key)


def _from_released(model: Headed, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        rest = key.removeprefix(prefix)
        own = model.unreleased(rest)
        state[prefix + ("backbone." + rest if own is None else "head." + own)] = state.pop(key)
