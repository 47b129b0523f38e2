"""Features of clouds under many weights: patches are found once per cloud, features once per backbone."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32

from wisetune.nets.backbone import Groups
from wisetune.nets.headed import Headed
from wisetune.nets.model import Model
from wisetune.nets.segmenter import refuse_segmenter

_GROUPS_BUDGET = 2 << 30
"""Bytes of patches kept in memory; beyond it those used longest ago are forgotten and found again."""
_FEATURES_BUDGET = 1 << 30
"""The same of features."""
_GROUPED_AT_ONCE = 256


class FeatureBank:
    """Computes and keeps features. Keys are content digests given by the caller: of the clouds, and of the backbone's weights."""

    def __init__(self, device: torch.device, batch: int = 32) -> None:
        self.device, self.batch = device, batch
        self._groups: OrderedDict[tuple[str, str], Groups] = OrderedDict()
        self._features: OrderedDict[tuple[str, str], Float32[np.ndarray, "n f"]] = OrderedDict()

    def groups(self, model: Headed, points: Float32[np.ndarray, "n p 3"], points_key: str) -> Groups:
        """What models derive from clouds without weights, shared by all that do so alike."""
        key = (model.grouping, points_key)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        # Not in inference mode, whoever asks: a training may use them later.
        with torch.inference_mode(False), torch.no_grad():
            parts = [
                model.group(torch.from_numpy(points[at : at + _GROUPED_AT_ONCE]).to(self.device))
                for at in range(0, len(points), _GROUPED_AT_ONCE)
            ]
            groups = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        self._groups[key] = groups
        while len(self._groups) > 1 and sum(_bytes(kept) for kept in self._groups.values()) > _GROUPS_BUDGET:
            self._groups.popitem(last=False)
        return groups

    def features(
        self, model: Headed, weights_key: str, points: Float32[np.ndarray, "n p 3"], points_key: str
    ) -> Float32[np.ndarray, "n f"]:
        """What the head sees of these clouds, in eval mode."""
        key = (weights_key, points_key)
        if key in self._features:
            self._features.move_to_end(key)
            return self._features[key]
        groups = self.groups(model, points, points_key)
        with _looking(model):
            parts = [model.encode(tuple(column[at : at + self.batch] for column in groups)) for at in range(0, len(points), self.batch)]
        features = torch.cat(parts).cpu().numpy()
        self.keep(weights_key, points_key, features)
        return features

    def logits(self, model: Model, weights_key: str, points: Float32[np.ndarray, "n p 3"], points_key: str) -> Float[np.ndarray, "n c"]:
        """The head's answer, from features computed once.

        Raises:
            UsageError: a head that answers for points.
        """
        refuse_segmenter(model, "FeatureBank.logits")
        features = torch.from_numpy(self.features(model, weights_key, points, points_key)).to(self.device)
        with _looking(model):
            return model.head(features).cpu().numpy()

    def keep(self, weights_key: str, points_key: str, features: Float32[np.ndarray, "n f"]) -> None:
        """Features that are known already, such as those of a part of clouds that were looked at."""
        self._features[weights_key, points_key] = features
        self._features.move_to_end((weights_key, points_key))
        while len(self._features) > 1 and sum(kept.nbytes for kept in self._features.values()) > _FEATURES_BUDGET:
            self._features.popitem(last=False)

    def forget(self, weights_key: str) -> None:
        """Drop the features of one backbone."""
        for key in [key for key in self._features if key[0] == weights_key]:
            del self._features[key]

    def forget_points(self, points_key: str) -> None:
        """Drop everything about clouds that will not come again."""
        self._groups = OrderedDict((key, value) for key, value in self._groups.items() if key[1] != points_key)
        self._features = OrderedDict((key, value) for key, value in self._features.items() if key[1] != points_key)


@contextlib.contextmanager
def _looking(model: Headed) -> Iterator[None]:
    """Eval mode without gradients; after it each part is in the mode that it was in, which need not be that of the whole."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, flag in training.items():
            module.training = flag


def _bytes(groups: Groups) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in groups)
