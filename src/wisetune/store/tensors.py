"""Named tensors to safetensors bytes and back, bit for bit. Never pickle. Torch is imported only inside functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pack(tensors: dict[str, Tensor]) -> bytes:
    """Safetensors bytes of named tensors: equal tensors give equal bytes, in whatever order they come.

    Any device, any strides, any dtype that safetensors knows; tensors may share their storage, and come back with their own.
    """
    import safetensors.torch

    # Sorted, and without metadata: the bytes must not depend on the order of a dict, here or inside safetensors.
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        if storage in storages:  # safetensors refuses two names for one storage
            tensor = tensor.clone()
        storages.add(storage)
        plain[name] = tensor
    return safetensors.torch.save(plain)


def unpack(data: bytes) -> dict[str, Tensor]:
    """The tensors of safetensors bytes, on the CPU, by name.

    Raises:
        safetensors.SafetensorError: not such bytes (check them first).
    """
    import safetensors.torch

    # Cloned into torch's own aligned memory: kernels may round otherwise in memory that is aligned otherwise, and then a resumed
    # training would not end with the bits of an uninterrupted one.
    loaded = safetensors.torch.load(data)
    return {name: loaded.pop(name).clone() for name in sorted(loaded)}
