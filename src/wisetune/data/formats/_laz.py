"""The packed points of a .laz file, through laspy and lazrs, after a look at every size that those would allocate on trust.

lazrs ends the whole process when an allocation fails, so what it is told must fit the file before it is asked.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
from typing import Any

import numpy as np
from jaxtyping import Int64

from wisetune.data.formats.base import MalformedError, enough
from wisetune.errors import MissingExtra

_VARIABLE = 0xFFFFFFFF
_CHUNK = 1_000_000
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""How many layers each item of LAZ version 3 is packed as; extra bytes (14) have one a byte."""


def unpack(data: bytes, records: int, start: int, count: int, row: int) -> Int64[np.ndarray, "n 3"]:
    """The integer coordinates of all points.

    Args:
        data: the file.
        records: where the records before the points start.
        start: where the points start.
        count: how many points there are.
        row: bytes of one unpacked point.

    Raises:
        MalformedError: sizes that do not fit, or points that cannot be unpacked.
        MissingExtra: laspy or lazrs is not installed.
    """
    how = _how(data, records, start)
    layers = _check(data, how, start, count, row)
    if any(importlib.util.find_spec(library) is None for library in ("laspy", "lazrs")):
        raise MissingExtra.of("laspy", "las", "reading packed laser scans (.laz)")
    import laspy

    parts: list[np.ndarray] = []
    try:
        if layers:
            _check_layers(data, how, start, row, layers)
        reader = laspy.LasReader(io.BytesIO(data), read_evlrs=False)
        parts.extend(np.stack([chunk.X, chunk.Y, chunk.Z], axis=1) for chunk in reader.chunk_iterator(_CHUNK))
    except (KeyboardInterrupt, SystemExit, MalformedError):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic inside lazrs is no Exception
        raise MalformedError(f"its packed points cannot be unpacked: {error}", "it is damaged: copy it again") from None
    points = np.concatenate(parts).astype(np.int64) if parts else np.empty((0, 3), np.int64)
    if len(points) != count:
        raise MalformedError(f"declares {count:,} points but unpacks to {len(points):,}", "it is damaged: copy it again")
    return points


def _how(data: bytes, at: int, start: int) -> bytes:
    """The record 'laszip encoded', which says how points are packed."""
    while at + 54 <= start:
        size = int.from_bytes(data[at + 20 : at + 22], "little")
        if data[at + 2 : at + 18].rstrip(b"\0") == b"laszip encoded" and data[at + 18 : at + 20] == b"\xbc\x56":
            enough(max(size, 34), start - at - 54, "the record of how its points are packed")
            return data[at + 54 : at + 54 + size]
        at += 54 + size
    raise MalformedError("has packed points but no record that says how")


def _check(data: bytes, how: bytes, start: int, count: int, row: int) -> int:
    """Do rows and chunks fit? Returns the number of layers of a chunk (0 before LAZ version 3)."""
    (chunk,), (items,) = struct.unpack_from("<I", how, 12), struct.unpack_from("<H", how, 32)
    enough(6 * items, len(how) - 34, f"points of {items} items")
    kinds = [struct.unpack_from("<HH", how, 34 + 6 * item) for item in range(items)]
    if chunk == 0 or sum(size for _, size in kinds) != row:
        raise MalformedError(f"its points are packed as something else than the declared rows of {row} bytes")
    enough(8, len(data) - start, "packed points")
    (table,) = struct.unpack_from("<q", data, start)
    if not start < table <= len(data) - 8:
        raise MalformedError("its table of packed chunks lies outside of the file", "the file is cut off: copy it again")
    (chunks,) = struct.unpack_from("<I", data, table + 4)
    if chunks > (count if chunk == _VARIABLE else -(-count // chunk)):
        raise MalformedError(f"declares {chunks:,} packed chunks for {count:,} points")
    return sum(size if kind == 14 else _LAYERS.get(kind, 0) for kind, size in kinds)


def _check_layers(data: bytes, how: bytes, start: int, row: int, layers: int) -> None:
    """Each chunk is a first row, a count of points, the size of each layer, and the layers."""
    # By name: the extra has no types, and where it is not installed there is nothing to check against.
    lazrs: Any = importlib.import_module("lazrs")

    stream = io.BytesIO(data)
    stream.seek(start)
    at = start + 8
    for _, size in lazrs.read_chunk_table(stream, lazrs.LazVlr(how)):
        head = row + 4 + 4 * layers
        enough(head, min(size, len(data) - at), "a packed chunk")
        enough(sum(struct.unpack_from(f"<{layers}I", data, at + row + 4)), size - head, "the layers of a packed chunk")
        at += size
