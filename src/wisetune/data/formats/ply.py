"""Polygon files (.ply): ascii, and binary of either byte order. The x, y, z of ``vertex`` are kept, and the corners of ``face``."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from wisetune.data.formats.base import Budget, MalformedError, Shape, enough, fan, numbers, surface, text_of, whole

SUFFIXES = (".ply",)
_SIZES = {"i1": "char int8", "u1": "uchar uint8", "i2": "short int16", "u2": "ushort uint16", "i4": "int int32", "u4": "uint uint32"}
_TYPES = {name: kind for kind, names in {**_SIZES, "f4": "float float32", "f8": "double float64"}.items() for name in names.split()}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER = 1 << 16


@dataclasses.dataclass(frozen=True)
class _Property:
    name: str
    kind: np.dtype
    length: np.dtype | None = None  # of the count before a list


@dataclasses.dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]

    @property
    def lists(self) -> bool:
        return any(item.length is not None for item in self.properties)

    @property
    def least(self) -> int:
        """The fewest bytes that one row can take in a binary file."""
        return sum((item.length or item.kind).itemsize for item in self.properties)


@dataclasses.dataclass
class _Lists:
    """A list property, read row by row: how long each list is, and all items one after the other."""

    lengths: Int64[np.ndarray, " rows"]
    items: Float[np.ndarray, " total"] | Integer[np.ndarray, " total"]


_Values = dict[str, "Float64[np.ndarray, ' rows'] | _Lists"]


def read(data: bytes, budget: Budget) -> Shape:
    """A cloud if there are no faces, else a mesh.

    Raises:
        MalformedError: the header or what follows it is not as the format says.
    """
    order, elements, body = _header(data)
    by_name = {element.name: element for element in elements}
    vertex = by_name.get("vertex")
    if vertex is None or not {"x", "y", "z"} <= {item.name for item in vertex.properties if item.length is None}:
        raise MalformedError("has no element 'vertex' with x, y and z", "export it with vertex positions")
    if "tristrips" in by_name and "face" not in by_name:
        raise MalformedError("holds triangle strips, which are not read", "export it with faces")
    for element in elements:
        budget.check(element.count, 8 * len(element.properties), f"'{element.name}' rows")
    read_all = _ascii if order == "" else _binary
    values = read_all(data, body, elements, budget)
    vertices = np.stack([_column(values["vertex"][axis]) for axis in "xyz"], axis=1)
    return surface(vertices, _faces(values.get("face", {}), budget))


def write(points: Float[np.ndarray, "n 3"]) -> bytes:
    """Binary, little endian, float32."""
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    return (header + "property float x\nproperty float y\nproperty float z\nend_header\n").encode() + points.astype("<f4").tobytes()


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    """The byte order ('' for ascii), the elements in order, and where their values start."""
    end = data.find(b"end_header", 0, _HEADER)
    if not data.startswith(b"ply") or end < 0:
        raise MalformedError("has no ply header", "check that the suffix matches the content")
    body = end + len(b"end_header")
    body += 2 if data[body : body + 2] == b"\r\n" else 1
    lines = [line.split() for line in data[:end].decode("latin-1").splitlines()[1:]]
    order: str | None = None
    elements: list[_Element] = []
    for words in lines:
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3 and words[1] in _ORDERS and order is None:
            order = _ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isdecimal() and words[1] not in {item.name for item in elements}:
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[0] == "property" and elements and (item := _property(words, order or "")):
            if item.name in {other.name for other in elements[-1].properties}:
                raise MalformedError(f"its header names the property '{item.name}' twice")
            elements[-1].properties.append(item)
        else:
            raise MalformedError(f"its header has a line that means nothing: '{' '.join(words)[:60]}'")
    if order is None:
        raise MalformedError("its header names no format")
    return order, elements, body


def _property(words: list[str], order: str) -> _Property | None:
    if len(words) == 3 and words[1] in _TYPES:
        return _Property(words[2], np.dtype(order + _TYPES[words[1]]))
    if len(words) == 5 and words[1] == "list" and words[2] in _TYPES and words[3] in _TYPES and "f" not in _TYPES[words[2]]:
        return _Property(words[4], np.dtype(order + _TYPES[words[3]]), np.dtype(order + _TYPES[words[2]]))
    return None


def _column(values: Float64[np.ndarray, " rows"] | _Lists) -> Float64[np.ndarray, " rows"]:
    assert isinstance(values, np.ndarray)
    return values


def _faces(values: _Values, budget: Budget) -> Int64[np.ndarray, "f 3"]:
    lists = {name: value for name, value in values.items() if isinstance(value, _Lists)}
    for name in ("vertex_indices", "vertex_index", *lists):
        if name in lists:
            budget.check(len(lists[name].items), 24, "corners of faces")
            return fan(lists[name].lengths, whole(lists[name].items, "corners of faces"))
    return np.empty((0, 3), np.int64)


def _binary(data: bytes, at: int, elements: list[_Element], budget: Budget) -> dict[str, _Values]:
    del budget
    values: dict[str, _Values] = {}
    for element in elements:
        if element.count == 0 or not element.properties:
            continue
        enough(element.count * element.least, len(data) - at, f"{element.count:,} '{element.name}' rows")
        values[element.name], at = _binary_uniform(data, at, element) or _binary_rows(data, at, element)
    if len(data) - at > 1:  # one line end is let through
        raise MalformedError(f"has {len(data) - at:,} bytes more than its header declares")
    return values if "vertex" in values else {"vertex": dict.fromkeys("xyz", np.empty(0))}


def _binary_uniform(data: bytes, at: int, element: _Element) -> tuple[_Values, int] | None:
    """All rows at once, if every list is as long as that of the first row."""
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    ahead = at
    for item in element.properties:
        if item.length is not None:
            if ahead + item.length.itemsize > len(data):
                return None
            length = int(np.frombuffer(data, item.length, 1, ahead)[0])
            if not 0 <= length * item.kind.itemsize <= len(data) - ahead:
                return None
            fields += [(f"#{item.name}", item.length.str), (item.name, item.kind.str, (length,))]
            ahead += item.length.itemsize + length * item.kind.itemsize
        else:
            fields.append((item.name, item.kind.str))
            ahead += item.kind.itemsize
    row = np.dtype(fields)
    if element.count * row.itemsize > len(data) - at:
        return None
    table = np.frombuffer(data, row, element.count, at)
    values: _Values = {}
    for item in element.properties:
        if item.length is None:
            values[item.name] = table[item.name].astype(np.float64)
        else:
            lengths = table[f"#{item.name}"].astype(np.int64)
            if (lengths != lengths[0]).any():
                return None
            values[item.name] = _Lists(lengths, table[item.name].reshape(-1))
    return values, at + element.count * row.itemsize


def _binary_rows(data: bytes, at: int, element: _Element) -> tuple[_Values, int]:
    """Row by row, for lists of different lengths."""
    parts: dict[str, list[bytes]] = {item.name: [] for item in element.properties}
    lengths: dict[str, list[int]] = {item.name: [] for item in element.properties}
    orders = {item.name: "big" if item.length is not None and item.length.str[0] == ">" else "little" for item in element.properties}
    for row in range(element.count):
        for item in element.properties:
            size = item.kind.itemsize
            if item.length is not None:
                start = at + item.length.itemsize
                length = int.from_bytes(data[at:start], orders[item.name], signed=item.length.kind == "i")  # pyrefly: ignore
                if length < 0:
                    raise MalformedError(f"its '{element.name}' row {row + 1} has a list of {length} items")
                lengths[item.name].append(length)
                at, size = start, length * size
            if at + size > len(data):
                enough(size, len(data) - at, f"'{element.name}' row {row + 1} of {element.count:,}")
            parts[item.name].append(data[at : at + size])
            at += size
    values: _Values = {}
    for item in element.properties:
        flat = np.frombuffer(b"".join(parts[item.name]), item.kind)
        values[item.name] = flat.astype(np.float64) if item.length is None else _Lists(np.array(lengths[item.name], np.int64), flat)
    return values, at


def _ascii(data: bytes, body: int, elements: list[_Element], budget: Budget) -> dict[str, _Values]:
    for element in elements:
        enough(element.count * len(element.properties) * 2 - 1, len(data) - body, f"{element.count:,} '{element.name}' rows")
    flat = numbers(text_of(data[body:], budget), "values")
    values: dict[str, _Values] = {}
    at = 0
    for element in elements:
        if element.count == 0 or not element.properties:
            continue
        if at + element.count * len(element.properties) > len(flat):
            raise MalformedError(
                f"declares {element.count:,} '{element.name}' rows, but its values end before", "the file is cut off: copy it again"
            )
        values[element.name], at = _ascii_rows(flat, at, element)
    if at != len(flat):
        raise MalformedError(f"has {len(flat) - at:,} values more than its header declares")
    return values if "vertex" in values else {"vertex": dict.fromkeys("xyz", np.empty(0))}


def _ascii_rows(flat: Float64[np.ndarray, " values"], at: int, element: _Element) -> tuple[_Values, int]:
    if not element.lists:
        width = len(element.properties)
        table = flat[at : at + element.count * width].reshape(element.count, width)
        return {item.name: table[:, column] for column, item in enumerate(element.properties)}, at + table.size
    starts: dict[str, list[int]] = {item.name: [] for item in element.properties}
    lengths: dict[str, list[int]] = {item.name: [] for item in element.properties}
    for row in range(element.count):
        for item in element.properties:
            length = 1
            if item.length is not None:
                given = flat[at] if at < len(flat) else -1.0
                if not (0 <= given <= len(flat) and given == int(given)):
                    raise MalformedError(f"its '{element.name}' row {row + 1} has no list where one is due")
                length, at = int(given), at + 1
            starts[item.name].append(at)
            lengths[item.name].append(length)
            at += length
    if at > len(flat):
        raise MalformedError(
            f"declares {element.count:,} '{element.name}' rows, but its values end before", "the file is cut off: copy it again"
        )
    values: _Values = {}
    for item in element.properties:
        begin, length = np.array(starts[item.name], np.int64), np.array(lengths[item.name], np.int64)
        rows = flat[np.repeat(begin - (np.cumsum(length) - length), length) + np.arange(length.sum())]
        values[item.name] = rows if item.length is None else _Lists(length, rows)
    return values, at
