"""NumPy files: .npy with one array [n, 3 or more], .npz with one cloud or mesh (or, through ``arrays``, a whole data set).

Our own few lines read the headers, because numpy allocates what a header declares before it looks at what is there. Arrays of Python
objects are refused: reading them would run code.
"""

from __future__ import annotations

import ast
import contextlib
import io
import math
import zipfile
import zlib
from collections.abc import Generator

import numpy as np
from jaxtyping import Float, Float64, Shaped

from wisetune.data.formats.base import Budget, Cloud, MalformedError, Shape, enough, surface, whole

SUFFIXES = (".npy", ".npz")
_NAMES = ("points", "xyz", "pos", "pc", "vertices", "arr_0")
_MEMBERS = 256
_HEADER = 1 << 16


def read(data: bytes, budget: Budget) -> Shape:
    """A cloud, or a mesh if an .npz holds ``vertices`` and ``faces``.

    Raises:
        MalformedError: not one array of coordinates, or not a NumPy file.
    """
    if not data.startswith(b"PK"):
        return Cloud(_coordinates(_array(data, budget), budget))
    found = members(data, budget)
    name = next((name for name in _NAMES if name in found), found[0] if len(found) == 1 else None)
    if name is None:
        raise MalformedError(f"holds the arrays {', '.join(found[:8])}; none is named {', '.join(_NAMES)}", "save the cloud as 'points'")
    if name == "vertices" and "faces" in found:
        both = arrays(data, ("vertices", "faces"), budget)
        faces = whole(both["faces"], "corners of faces")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise MalformedError(f"its faces have shape {faces.shape}; they must be [f, 3]")
        return surface(_coordinates(both["vertices"], budget), faces)
    return Cloud(_coordinates(arrays(data, (name,), budget)[name], budget))


def write(points: Float[np.ndarray, "n 3"]) -> bytes:
    """One .npy array, float32."""
    held = io.BytesIO()
    np.lib.format.write_array(held, points.astype(np.float32), allow_pickle=False)
    return held.getvalue()


def members(data: bytes, budget: Budget) -> list[str]:
    """The names of an .npz file's arrays, after its declared sizes were checked against the budget.

    Raises:
        MalformedError: not an archive of arrays, too many members, or too large when unpacked.
    """
    with _archive(data) as archive:
        held = archive.infolist()
        if len(held) > _MEMBERS:
            raise MalformedError(f"holds {len(held):,} members; at most {_MEMBERS} are read", "check that it is an .npz of one data set")
        total = sum(item.file_size for item in held)
        if total > budget.bytes:
            raise MalformedError(f"unpacks to {total:,} bytes; at most {budget.bytes:,} are read", "thin it out or cut it up")
        for item in held:
            if item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or item.flag_bits & 1:
                raise MalformedError(f"its member '{item.filename}' is encrypted or packed in a way that NumPy does not use")
        names = [item.filename.removesuffix(".npy") for item in held if item.filename.endswith(".npy")]
    if not names or len(set(names)) < len(names):
        raise MalformedError("holds no arrays, or two of the same name", "save it with numpy.savez")
    return names


def arrays(data: bytes, names: tuple[str, ...], budget: Budget) -> dict[str, Shaped[np.ndarray, "..."]]:
    """These arrays of an .npz file; the others are not unpacked.

    Raises:
        MalformedError: as ``members``, an array is not there, is damaged, or holds Python objects.
    """
    found = members(data, budget)
    if missing := [name for name in names if name not in found]:
        raise MalformedError(f"holds no array {', '.join(missing)}; there are {', '.join(found[:12])}", "rename its arrays")
    with _archive(data) as archive:
        return {name: _member(archive, f"{name}.npy", budget) for name in names}


@contextlib.contextmanager
def _archive(data: bytes) -> Generator[zipfile.ZipFile, None, None]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise MalformedError(f"is not an .npz archive, or is damaged: {error or 'it ends too early'}", "copy it again") from None


def _member(archive: zipfile.ZipFile, name: str, budget: Budget) -> Shaped[np.ndarray, "..."]:
    size = archive.getinfo(name).file_size
    with archive.open(name) as stream:
        start = stream.read(12 + _HEADER)
        _layout(start, size, budget)  # a header that does not fit stops here, before the rest is unpacked
        content = start + stream.read(max(size - len(start), 0) + 1)  # never more than was declared and allowed
    if len(content) != size:
        raise MalformedError(f"its member '{name}' declares {size:,} bytes but holds {len(content):,}")
    return _array(content, budget)


def _array(data: bytes, budget: Budget) -> Shaped[np.ndarray, "..."]:
    """One .npy stream as an array; a view of the bytes, not a copy."""
    dtype, shape, fortran, start = _layout(data, len(data), budget)
    return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape, order="F" if fortran else "C")


def _layout(data: bytes, size: int, budget: Budget) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Type, shape, order and start of the array in a stream of ``size`` bytes, of which ``data`` is the beginning."""
    if data[:6] != b"\x93NUMPY" or len(data) < 12 or data[6] not in (1, 2, 3):
        raise MalformedError("is not a NumPy array", "check that the suffix matches the content")
    start = 10 if data[6] == 1 else 12
    end = start + int.from_bytes(data[8:start], "little")
    if end - start > _HEADER:
        raise MalformedError(f"declares a header of {end - start:,} bytes")
    enough(end - start, len(data) - start, "a header")
    dtype, shape, fortran = _declared(data[start:end].decode("latin-1"))
    need = math.prod(shape) * dtype.itemsize
    if need > budget.bytes:
        raise MalformedError(f"declares {need:,} bytes; at most {budget.bytes:,} are read", "thin it out, or check its header")
    if need != size - end:
        wrong = f"declares an array {list(shape)} of {dtype} ({need:,} bytes), but {size - end:,} bytes follow"
        raise MalformedError(wrong, "the file is cut off: copy it again")
    return dtype, shape, fortran, end


def _declared(header: str) -> tuple[np.dtype, tuple[int, ...], bool]:
    try:
        fields = ast.literal_eval(header.strip())
        dtype, shape, fortran = np.dtype(fields["descr"]), fields["shape"], fields["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise MalformedError("its array header cannot be understood", "save it with numpy.save") from None
    if dtype.hasobject:
        raise MalformedError(
            "holds Python objects, which are never read (they can run code)", "save plain numbers: array.astype('float32')"
        )
    plain = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
    if not plain or not isinstance(fortran, bool) or dtype.itemsize == 0 or len(shape) > 32:
        raise MalformedError("its array header cannot be understood", "save it with numpy.save")
    return dtype, shape, fortran


def _coordinates(array: Shaped[np.ndarray, "..."], budget: Budget) -> Float64[np.ndarray, "n 3"]:
    if array.dtype.names and {"x", "y", "z"} <= set(array.dtype.names) and array.ndim == 1:
        array = np.stack([array[axis] for axis in "xyz"], axis=1)
    if array.dtype.kind not in "fiu":
        raise MalformedError(f"its array is of {array.dtype}, not of numbers", "save float32")
    if array.ndim == 2 and array.shape[0] in (3, 6) and array.shape[1] > array.shape[0]:
        raise MalformedError(f"its array has shape {list(array.shape)}; it must be [n, 3 or more]", "save its transpose")
    if array.ndim != 2 or array.shape[1] < 3:
        raise MalformedError(f"its array has shape {list(array.shape)}; it must be [n, 3 or more]", "save one row of x y z a point")
    budget.check(len(array), 24, "points")
    return array[:, :3].astype(np.float64)
