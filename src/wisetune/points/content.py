"""A name for coordinates, by which random draws can follow from what a cloud is and not from what it is called or where it stands."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Shaped


def content_key(*arrays: Shaped[np.ndarray, "..."]) -> str:
    """Sixteen hex digits of numbers in their order, as float32: a cloud has one key in every float type, written as text too."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(f"{array.shape}".encode())
        with np.errstate(over="ignore"):
            single = array.astype("<f4") + np.float32(0)  # which takes the sign from a negative zero
        state.update(np.ascontiguousarray(single).tobytes())
    return state.hexdigest()[:16]
