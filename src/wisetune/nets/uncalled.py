"""Modules that compute linear maps without calling one: what a hook cannot see, they say (``wisetune.nets.macs``)."""

from __future__ import annotations

import torch


class Uncalled:
    """Beside ``nn.Module`` a base of modules that compute linear maps without calling a module for each."""

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """What ``published`` counts of these where ``inputs`` enter this module: as if the released code's modules had been called."""
        raise NotImplementedError(f"{type(self).__name__} must define uncalled_macs")
