"""Weights files of others, read without trusting them.

    safetensors                      its header is checked against the file's size by the library
    .pth, .pt, .ckpt (PyTorch)       checked by _archive.py, then ``torch.load(weights_only=True)``; never anything less strict

Nothing in a file is executed. Every failure is a BadFile that says which file, what is wrong and what to do.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import safetensors
import torch
from torch import Tensor

from wisetune.errors import BadFile
from wisetune.nets.files._archive import LEGACY_START, check_legacy, check_zip

BUDGET = 2 << 30
"""Bytes of the largest file that is read; ten times the largest released checkpoint of this field."""
_MOST_HEADER = 16 << 20
_LAYOUTS = ("base_model", "model", "model_state_dict", "state_dict")
_AGAIN = "get it again from its source"

Kind = Literal["safetensors", "zip", "legacy"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Named tensors on the CPU, the text beside them, and the key of the file under which they were (``plain`` for none)."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    layout: str


def read_state(path: str | Path, budget: int = BUDGET) -> Checkpoint:
    """The weights in a file; optimiser state, metrics and all else are left out.

    Args:
        path: a safetensors file, or what ``torch.save`` wrote: a state dict, plain or under ``base_model``, ``model``,
            ``model_state_dict`` or ``state_dict``.
        budget: the largest file that is read, in bytes.

    Raises:
        BadFile: no such file, too large, cut off, not weights at all, or asking for code to run.
    """
    path = Path(path)
    kind = kind_of(path, budget)
    if kind == "safetensors":
        return _read_safetensors(path)
    try:
        with path.open("rb") as file:
            if kind == "zip":
                check_zip(path, file)
            else:
                check_legacy(path, file)
            content = _load(path, file)
    except OSError as error:
        raise BadFile(path, f"it cannot be read: {error.strerror or error}", "check the disk and the file's permissions") from None
    layout, state = _state_in(path, content)
    tensors = {key: value.detach() for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    _check_stored(path, tensors)
    return Checkpoint(tensors, {}, layout)


def kind_of(path: Path, budget: int = BUDGET) -> Kind:
    """What sort of weights file this is, by its content.

    Raises:
        BadFile: none that can be read; the message says what it seems to be.
    """
    try:
        if path.is_dir():
            raise BadFile(path, "it is a folder", "give the weights file inside it")
        if not path.exists():
            raise BadFile(path, "there is no such file", "check the path")
        if not path.is_file():
            raise BadFile(path, "it is no regular file", "copy it to a file first")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    except (OSError, ValueError) as error:
        raise BadFile(path, f"it cannot be opened: {error}", "check the path and the file's permissions") from None
    if size == 0:
        raise BadFile(path, "it is empty", "the download or copy failed: get it again")
    if size > budget:
        raise BadFile(path, f"it has {size:,} bytes, more than the {budget:,} that are read", "give a file that holds the weights alone")
    kind = _kind(path, start, size)
    if path.suffix == ".safetensors" and kind != "safetensors":
        raise BadFile(path, "its name says safetensors, but it is a PyTorch file", "rename it to .pth if you know where it comes from")
    return kind


def _kind(path: Path, start: bytes, size: int) -> Kind:
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start.startswith(LEGACY_START):
        return "legacy"
    header = int.from_bytes(start[:8], "little")
    if len(start) > 8 and start[8:9] == b"{" and header <= _MOST_HEADER:
        if header + 8 > size:
            raise BadFile(path, "its header is longer than the file: it was cut off", "get the whole file again")
        return "safetensors"
    text = start.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        raise BadFile(path, "it is a git-lfs pointer, not the weights", "run: git lfs pull")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise BadFile(path, "it is a web page, not weights", "the download needs a log-in or another link: open it in a browser")
    if start.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")) or start[257:262] == b"ustar":
        raise BadFile(path, "it is a packed archive", "unpack it, and give the weights file inside")
    if start.startswith(b"\x80"):
        raise BadFile(path, "it is a Python pickle, but not one that torch.save wrote", "save the weights as safetensors")
    raise BadFile(path, "it is neither a PyTorch nor a safetensors file", "check that this is the weights file, and get it again")


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dict
            return Checkpoint(tensors, dict(file.metadata() or {}), "plain")
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise BadFile(path, f"it is a damaged safetensors file ({_first_line(error)})", _AGAIN) from None


class _Inert:
    """Stands for the numpy numbers that some official files keep as metrics: it takes what they are made of and does nothing with it."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_NUMPY_NUMBERS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (_Inert, name) for name in ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar", "numpy.dtype")
]


def _load(path: Path, file: BinaryIO) -> object:
    file.seek(0)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMPY_NUMBERS):
            warnings.simplefilter("ignore")  # that a pickle protocol other than 2 might not be supported: then it fails, below
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - bytes that nobody vouches for can raise anything at all in torch's reader
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            wrong = f"loading it would run '{found[1]}', which weights never need, so it is refused"
            raise BadFile(path, wrong, "get it as safetensors; or, if you made it, save model.state_dict() alone") from None
        if "Unsupported operand" in str(error):
            wrong = "it was pickled by another protocol than torch.save uses, which torch's safe reader does not know"
            raise BadFile(path, wrong, "save it again with torch.save and no pickle_protocol, or as safetensors") from None
        raise BadFile(path, f"torch cannot read it ({_first_line(error)})", _AGAIN) from None


def _state_in(path: Path, content: object) -> tuple[str, Mapping[object, object]]:
    """The state dict in a file's content, and under which key it was."""
    if isinstance(content, Mapping):
        for layout in _LAYOUTS:
            inner = content.get(layout)
            if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
                return layout, inner
        if any(isinstance(value, Tensor) for value in content.values()):
            return "plain", content
        keys = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise BadFile(path, f"it holds {keys}, but no weights", f"weights are looked for at the top and under {', '.join(_LAYOUTS)}")
    raise BadFile(path, f"it holds one {type(content).__name__}, not a table of weights", "save model.state_dict() instead")


def _check_stored(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Tensors may not claim more values than the file has bytes for: a view of one stored number can be of any size."""
    stored: dict[int, int] = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise BadFile(path, f"tensor '{name}' is sparse, quantised or without values", "save dense float tensors")
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise BadFile(path, f"tensor '{name}' has the shape {list(tensor.shape)} but fewer values", _AGAIN)
    if sum(stored.values()) > path.stat().st_size:
        raise BadFile(path, "its tensors claim more bytes than the file has", _AGAIN)


def _first_line(error: Exception) -> str:
    # Torch puts what happened behind a long explanation of weights_only.
    found = re.search(r"WeightsUnpickler error: (.+)", str(error))
    if found:
        return found[1][:120]
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
