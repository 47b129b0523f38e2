"""Weights files of others, read without trusting them.

    safetensors                      its header is checked against the file's size by the library
    .pth, .pt, .ckpt (PyTorch)       checked by _archive.py, then ``torch.load(weights_only=True)``; never anything less strict

Nothing in a file is executed. Every failure is a BadFile that says which file, what is wrong and what to do.
"""

from __future__ import annotations

import dataclasses
import math
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

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
_MOST_BESIDE = 16
_LONGEST_TEXT = 40

Kind = Literal["safetensors", "zip", "legacy"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Named tensors on the CPU, the text beside them, and the key of the file under which they were (``plain`` for none).

    ``beside`` is what else stands in the file, by name: numbers and short texts with their value (``epoch``, ``metrics.acc``), all else as None.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    layout: str
    beside: dict[str, int | float | str | None] = dataclasses.field(default_factory=dict)


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
    return Checkpoint(tensors, {}, layout, {} if layout == "plain" else _beside(content, layout))


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
        do = (
            "if you trust it, open it yourself and save its tensors: safetensors.torch.save_file({name: torch.as_tensor(value) for name, value in "
            "weights.items()}, 'weights.safetensors')"
        )
        raise BadFile(path, "it is a Python pickle, but not one that torch.save wrote", do)
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


class _Kind(_Inert):
    """A numpy dtype by its letter and size."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code


class _Number(_Inert):
    """A numpy number: as a plain one, where its bytes are what its dtype says."""

    def __init__(self, kind: object = None, data: object = None, *_: object) -> None:
        layout = _NUMBERS.get(str(kind.code), "") if isinstance(kind, _Kind) else ""
        known = layout and isinstance(data, bytes) and len(data) == struct.calcsize(layout)
        self.value = struct.unpack(layout, data)[0] if known else None


_NUMBERS = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i"}
_NUMPY_NUMBERS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    *((_Number, f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
    (_Kind, "numpy.dtype"),
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


def _beside(content: Any, layout: str) -> dict[str, int | float | str | None]:
    """What stands in a file beside the weights, as far as it is short; nobody vouches for it, so little is looked at and nothing is believed."""
    found: dict[str, int | float | str | None] = {}
    for key, value in content.items():
        if key == layout or not isinstance(key, str):
            continue
        inside = {f"{key}.{name}": one for name, one in value.items() if isinstance(name, str)} if isinstance(value, dict) else {}
        told = {name: short for name, one in inside.items() if (short := _short(one)) is not None}
        found |= {_plain(name): short for name, short in (told or {key: _short(value)}).items()}
        if len(found) >= _MOST_BESIDE:
            break
    return dict(list(found.items())[:_MOST_BESIDE])


def _short(value: object) -> int | float | str | None:
    """A number or a short text; None for anything else."""
    value = value.value if isinstance(value, _Number) else value
    if isinstance(value, Tensor) and value.numel() == 1 and value.layout == torch.strided and value.device.type == "cpu":
        value = value.item()
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 1 << 63 and math.isfinite(value) else None


def _plain(text: str) -> str:
    """A text as a terminal may show it: short, in one line, without anything that would steer it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_TEXT])
    return shown if len(text) <= _LONGEST_TEXT else f"{shown} ..."


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
