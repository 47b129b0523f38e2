"""Point Cloud Library files (.pcd): ascii, binary and binary_compressed. Fields x, y, z are kept.

In an organised cloud (HEIGHT above 1) the format marks a pixel where nothing was measured by NaN in x, y and z; those are dropped, counted.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from wisetune.data.formats.base import Budget, Cloud, MalformedError, enough, numbers, text_of

SUFFIXES = (".pcd",)
_HEADER = 1 << 16
_KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
_KINDS = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}


def read(data: bytes, budget: Budget) -> Cloud:
    """Points to a cloud.

    Raises:
        MalformedError: the header or what follows it is not as the format says.
    """
    header, body = _header(data)
    fields, width, height = _fields(header), _number(header, "WIDTH"), _number(header, "HEIGHT")
    count = _number(header, "POINTS") if "POINTS" in header else width * height
    if count != width * height:
        raise MalformedError(f"declares {count:,} points, but a width of {width:,} and a height of {height:,}")
    row = np.dtype([(f"{at}", kind, (repeat,)) for at, (_, kind, repeat) in enumerate(fields)])
    budget.check(count, max(row.itemsize, 24), "points")
    columns = [next(at for at, field in enumerate(fields) if field[0] == axis) for axis in "xyz"]
    storage = header["DATA"][0].lower() if header["DATA"] else ""
    if storage == "ascii":
        points = _ascii(data[body:], count, fields, columns, budget)
    elif storage == "binary":
        enough(count * row.itemsize, len(data) - body, f"{count:,} points")
        table = np.frombuffer(data, row, count, body)
        points = np.stack([table[f"{at}"][:, 0] for at in columns], axis=1).astype(np.float64)
    elif storage == "binary_compressed":
        points = _compressed(data[body:], count, row, columns)
    else:
        raise MalformedError(f"stores its points as '{storage}'", "save it as ascii, binary or binary_compressed")
    if height > 1:
        measured = ~np.isnan(points).all(axis=1)
        return Cloud(points[measured], dropped=int(np.count_nonzero(~measured)))
    return Cloud(points)


def write(points: Float[np.ndarray, "n 3"]) -> bytes:
    """Binary, float32."""
    header = f"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\n"
    return (header + f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n").encode() + points.astype("<f4").tobytes()


def _header(data: bytes) -> tuple[dict[str, list[str]], int]:
    found: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in found:
        end = data.find(b"\n", at, _HEADER)
        if end < 0:
            raise MalformedError("has no pcd header (no line DATA)", "check that the suffix matches the content")
        words = data[at:end].decode("latin-1").split()
        at = end + 1
        if not words or words[0].startswith("#"):
            continue
        key = words[0].upper().replace("COLUMNS", "FIELDS")
        if key not in _KEYS or key in found:
            raise MalformedError(f"its header has a line that means nothing, or twice: '{' '.join(words)[:60]}'")
        found[key] = words[1:]
    if missing := [key for key in ("FIELDS", "SIZE", "TYPE", "WIDTH", "HEIGHT") if not found.get(key)]:
        raise MalformedError(f"its header lacks {', '.join(missing)}")
    return found, at


def _number(header: dict[str, list[str]], key: str) -> int:
    words = header[key]
    if len(words) != 1 or not words[0].isdecimal():
        raise MalformedError(f"its header says {key} {' '.join(words)[:40]}")
    return int(words[0])


def _fields(header: dict[str, list[str]]) -> list[tuple[str, str, int]]:
    """Name, numpy type and repeat count of each field."""
    names, sizes, kinds = header["FIELDS"], header["SIZE"], [kind.upper() for kind in header["TYPE"]]
    repeats = header.get("COUNT") or ["1"] * len(names)
    if not len(names) == len(sizes) == len(kinds) == len(repeats):
        raise MalformedError("its header gives FIELDS, SIZE, TYPE and COUNT of different lengths")
    fields: list[tuple[str, str, int]] = []
    for name, size, kind, repeat in zip(names, sizes, kinds, repeats, strict=True):
        if not size.isdecimal() or int(size) not in _KINDS.get(kind, ()) or not repeat.isdecimal() or not 0 < int(repeat) <= 1 << 16:
            raise MalformedError(f"its field '{name}' has size {size}, type {kind}, count {repeat}")
        fields.append((name, f"<{kind.lower()}{size}", int(repeat)))
    if not {"x", "y", "z"} <= set(names):
        raise MalformedError(f"has the fields {' '.join(names)[:60]}; x, y and z are needed")
    return fields


def _ascii(body: bytes, count: int, fields: list[tuple[str, str, int]], columns: list[int], budget: Budget) -> Float64[np.ndarray, "n 3"]:
    width = sum(repeat for _, _, repeat in fields)
    enough(2 * width * count - 1, len(body), f"{count:,} points")
    values = numbers(text_of(body, budget), "points")
    if len(values) != count * width:
        raise MalformedError(f"declares {count:,} points of {width} values, but holds {len(values):,} values", "copy it again")
    starts = np.cumsum([0] + [repeat for _, _, repeat in fields])
    return values.reshape(count, width)[:, starts[columns]]


def _compressed(body: bytes, count: int, row: np.dtype, columns: list[int]) -> Float64[np.ndarray, "n 3"]:
    """Two sizes of four bytes, then the fields one after the other, packed together by LZF."""
    enough(8, len(body), "the sizes of its packed points")
    packed, unpacked = int.from_bytes(body[:4], "little"), int.from_bytes(body[4:8], "little")
    if unpacked != count * row.itemsize:
        raise MalformedError(f"declares {count:,} points ({count * row.itemsize:,} bytes) but packs {unpacked:,} bytes")
    enough(packed, len(body) - 8, "its packed points")
    content = unpack(body[8 : 8 + packed], unpacked)
    parts: dict[str, np.ndarray] = {}
    at = 0
    for name in row.names or ():
        kind, shape = row[name].subdtype or (row[name], (1,))
        parts[name] = np.frombuffer(content, kind, count * shape[0], at).reshape(count, shape[0])
        at += row[name].itemsize * count
    return np.stack([parts[f"{column}"][:, 0] for column in columns], axis=1).astype(np.float64)


def unpack(packed: bytes, size: int) -> bytes:
    """LZF (Marc Lehmann's liblzf), which PCL and HDF5 use: runs of bytes as they are, and references back into what came out before.

    Raises:
        MalformedError: it does not unpack to exactly ``size`` bytes.
    """
    out = bytearray()
    at, end = 0, len(packed)
    try:
        while at < end and len(out) <= size:
            control = packed[at]
            at += 1
            if control < 32:
                out += packed[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[at]
                at += 1
            start = len(out) - ((control & 31) << 8) - packed[at] - 1
            at += 1
            if start < 0:
                raise MalformedError("its packed points refer to bytes before their start")
            length += 2
            seen = out[start : start + length]
            # A reference may overlap what it writes: the last bytes then repeat.
            out += (seen * (length // len(seen) + 1))[:length]
    except IndexError:
        raise MalformedError("its packed points are cut off", "copy it again") from None
    if len(out) != size or at != end:
        raise MalformedError(f"its packed points do not unpack to the declared {size:,} bytes", "it is damaged: copy it again")
    return bytes(out)
