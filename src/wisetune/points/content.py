"""A name for coordinates, by which random draws can follow from what a cloud is and not from what it is called or where it stands."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Shaped


def content_key(*arrays: Shaped[np.ndarray, "..."]) -> str:
    """Sixteen hex digits of numbers in their order. Equal values have equal keys in every float type and memory layout."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.shape}".encode())
        # In one type; adding 0.0 takes the sign from a negative zero.
        state.update(np.ascontiguousarray(array.astype("<f8") + 0.0).tobytes())
    return state.hexdigest()[:16]
