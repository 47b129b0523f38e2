"""One safetensors file that says what it is: what files of models and of deltas share.

It has one key of metadata, which holds JSON with a digest of the values, by which damage is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from wisetune import runtime
from wisetune.catalog import NotImported
from wisetune.errors import BadFile, UsageError, WeightsError
from wisetune.files import write_bytes
from wisetune.nets.files.checkpoint import kind_of

KEY = "wisetune"
"""The one key of the metadata: safetensors writes several in any order, and the same model should be the same bytes."""
_HALF = (torch.float16, torch.bfloat16)
_FLOATS = ("F", "BF")
"""What the names of such types begin with in a safetensors file."""


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """64 hex digits that name these values under these names; half precision counts as the float32 values that it stands for."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = widened(tensors[name].detach().cpu()).contiguous()
        total.update(f"{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, on whatever devices: 0.0 and -0.0 are equal, and not the same."""
    a, b = (value.detach().cpu().contiguous() for value in (a, b))
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def widened(value: Tensor) -> Tensor:
    """Half precision as float32."""
    return value.to(torch.float32) if value.dtype in _HALF else value


def write(path: Path, state: Mapping[str, Tensor], said: Mapping[str, Any], about: Mapping[str, Any] | None) -> str:
    """Write values and what is said of them; returns the digest of the values.

    Raises:
        UsageError: something in ``about`` that is no JSON.
        WeightsError: values are not finite.
        StorageError: the file cannot be written.
    """
    stored = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    refuse_not_finite(path, stored)
    digest = content_digest(stored)
    whole = {**said, "version": runtime.version(), "sha256": digest}
    try:
        text = json.dumps(whole | {"about": dict(about or {})})
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"about= cannot be written beside the weights ({error}); it takes a dict of texts, numbers, lists and dicts."
        ) from None
    write_bytes(path, safetensors.torch.save(stored, {KEY: text}), make_folders=False)
    return digest


def said_in(path: Path) -> dict[str, Any]:
    """What a file says of itself, as JSON: anything at all.

    Raises:
        BadFile: the file is damaged.
        WeightsError: it is none of wisetune's.
    """
    text = _text_in(path)
    if text is None:
        kind = "" if path.suffix == ".safetensors" else ": it is a PyTorch file or another archive"
        raise WeightsError(
            f"{path} was not written by wisetune{kind}. If it is a released checkpoint, wisetune show {path} says of which model; then from Python: "
            f"model = wisetune.create('point-mae', preset='modelnet-1k'), or whichever it is; wisetune.load_official(model, '{path}'); "
            "wisetune.save_model('mine.safetensors', model) writes a file that can be used here."
        )
    with said_wrong(path):
        said = json.loads(text)
        if not isinstance(said, dict):
            raise ValueError(f"it says {type(said).__name__}")
        return said


def is_ours(path: str | Path) -> bool:
    """Whether a weights file was written by wisetune, and so knows its model.

    Raises:
        BadFile: it is no weights file at all.
    """
    return _text_in(Path(path)) is not None


def _text_in(path: Path) -> str | None:
    """What a file says of itself; None where it is none of wisetune's."""
    if kind_of(path) != "safetensors":
        return None
    with _opened(path) as file:
        return dict(file.metadata() or {}).get(KEY)


def shapes_of(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file, without reading its values.

    Raises:
        BadFile: it is damaged.
    """
    with _opened(Path(path)) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            yield file
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadFile(path, f"it is a damaged safetensors file ({error})", "get it again from its source") from None


@contextmanager
def said_wrong(path: Path) -> Iterator[None]:
    """Turn what goes wrong while it is read what a file says of itself into one refusal."""
    try:
        yield
    except NotImported as error:
        raise WeightsError(f"{path} cannot be read as yet: {error}") from None
    except (UsageError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"no '{error.args[0]}'" if isinstance(error, KeyError) else str(error)
        raise WeightsError(f"{path} does not say what model it holds: {what}") from None


class Values:
    """The tensors of such a file: names, shapes and kinds of numbers are looked at before any memory is taken for them."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self._file = path, file
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        self.found = {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}

    def check(self, what: str, wanted: Mapping[str, Tensor]) -> None:
        """Compare with those of the model that the file says it holds.

        Raises:
            WeightsError: another name, shape or kind of number.
        """
        for name in [*wanted, *self.found]:
            shape, kind = self.found.get(name, (None, ""))
            right = tuple(wanted[name].shape) if name in wanted else None
            if shape != right:
                raise WeightsError(f"{self.path} is not the {what} that it says: '{name}' is {shape}, not {right}.")
            if kind.startswith(_FLOATS) != wanted[name].is_floating_point():
                raise WeightsError(f"{self.path} has '{name}' as {kind}, which holds no such values.")

    def read(self, digest: str) -> dict[str, Tensor]:
        """The values.

        Raises:
            WeightsError: they are not finite, or not those that were written.
        """
        stored = {name: self._file.get_tensor(name).clone() for name in self.found}
        refuse_not_finite(self.path, stored)
        if content_digest(stored) != digest:
            raise WeightsError(f"{self.path} is damaged: its values are not those that were written. Get it again from its source.")
        return stored


@contextmanager
def values_of(path: Path) -> Iterator[Values]:
    """The tensors of a file, while it is open."""
    with safetensors.safe_open(path, "pt") as file:
        yield Values(path, file)


def refuse_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError where a value is not finite."""
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WeightsError(f"{path}: '{name}' has values that are not finite; such weights are neither written nor read.")
