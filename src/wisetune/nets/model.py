"""A model: backbone, readout and head, with the state dict of the family's released classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import DataError
from wisetune.nets.backbone import Backbone, Groups
from wisetune.spec import Spec


class Model(nn.Module):
    """``model(points)`` gives logits, ``model.features(points)`` what the head sees, of ``points`` ``[batch, number, 3]``, any float type.

    The state dict has the released names: the backbone's keys without prefix, the head's under ``backbone.head_name``.
    ``head_spec`` and ``classes`` (their names) say what the head is; a model that is saved needs them.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, head_spec: Spec | None = None, classes: Sequence[str] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.head_spec = head_spec
        self.classes = tuple(classes)
        self.register_state_dict_post_hook(_to_released)
        self.register_load_state_dict_pre_hook(_from_released)

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

    @property
    def fewest_points(self) -> int:
        """The fewest points of a cloud that there can be an answer for."""
        return self.backbone.fewest_points

    # Points come from users: their shape is checked here with a message, so these signatures do not promise one.
    def group(self, points: torch.Tensor) -> Groups:
        """What depends on the cloud alone, in the model's precision; ``encode`` takes it in place of points.

        Raises:
            DataError: not ``[batch, points, 3]`` of finite floats, or too few points for the backbone's patches.
        """
        check_clouds(points, self.fewest_points)
        dtype = next(self.backbone.parameters()).dtype
        # Offsets are differences of nearly equal numbers: they are taken in the wider of the two precisions.
        groups = self.backbone.group(points.to(torch.promote_types(points.dtype, dtype)))
        return tuple(part.to(dtype) if part.is_floating_point() else part for part in groups)

    def encode(self, groups: Groups) -> Float[torch.Tensor, "b f"]:
        """Features of grouped clouds."""
        return self.backbone.pool(self.backbone.encode(groups))

    def features(self, points: torch.Tensor) -> Float[torch.Tensor, "b f"]:
        """The vector that the head sees."""
        return self.encode(self.group(points))

    def forward(self, points: torch.Tensor) -> Float[torch.Tensor, "b classes"]:
        """Logits."""
        return self.head(self.features(points))


def check_clouds(points: torch.Tensor, fewest: int) -> None:
    """Refuse what no model can take, before anything is computed of it.

    Raises:
        DataError: not ``[batch, points, 3]`` of finite floats, or fewer points than these.
    """
    if points.dim() != 3 or points.shape[-1] != 3:
        hint = " Add a batch dimension: points[None]." if points.dim() == 2 else " Leave out colours and normals: points[..., :3]."
        raise DataError(f"points are {list(points.shape)}; a model takes [batch, points, 3].{hint if points.dim() in (2, 3) else ''}")
    if not points.is_floating_point():
        raise DataError(f"points are {points.dtype}; a model takes floating point coordinates: points.float().")
    if points.shape[1] < fewest:
        raise DataError(f"clouds have {points.shape[1]} points; this model needs at least {fewest}.")
    # The search for farthest points would return anything at all for a coordinate that is no number. Meta tensors hold none.
    if not points.is_meta and not bool(torch.isfinite(points).all()):
        row = int((~torch.isfinite(points)).flatten(1).any(dim=1).nonzero()[0])
        raise DataError(f"cloud {row} of the batch has coordinates that are not finite; remove those points first.")


def _to_released(model: Model, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        side, _, rest = key.removeprefix(prefix).partition(".")
        if side == "backbone":
            state[prefix + rest] = state.pop(key)
        elif side == "head":
            state[prefix + model.released(rest)] = state.pop(key)


def _from_released(model: Model, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        rest = key.removeprefix(prefix)
        own = model.unreleased(rest)
        state[prefix + ("backbone." + rest if own is None else "head." + own)] = state.pop(key)
