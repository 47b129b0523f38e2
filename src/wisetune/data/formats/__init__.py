"""Files of one shape, to points. A module here that sets ``SUFFIXES`` and defines ``read`` adds a format (``write``: its first suffix).

Whatever bytes a file holds, ``read`` answers with a finite shape or a ``BadFile``. Sizes that a file declares are compared with its own
size and with a ``Budget`` before anything is allocated; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import stat
import warnings
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float, Float64

from wisetune.data.formats.base import TOO_FEW, Budget, Cloud, MalformedError, Mesh, NonFinite, Shape, places, sound
from wisetune.errors import BadFile, UsageError, WisetuneError
from wisetune.points.surface import resample, sample_surface

__all__ = [
    "TOO_FEW",
    "Budget",
    "Cloud",
    "Mesh",
    "NonFinite",
    "Shape",
    "contents",
    "guarded",
    "places",
    "points_of",
    "read",
    "read_suffixes",
    "write",
    "write_suffixes",
]

DEFAULT = Budget()


@functools.cache
def _modules() -> dict[str, ModuleType]:
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {suffix: module for module in modules for suffix in getattr(module, "SUFFIXES", ())}


def read_suffixes() -> tuple[str, ...]:
    """The suffixes that can be read, lower case, with their dots."""
    return tuple(sorted(_modules()))


def write_suffixes() -> tuple[str, ...]:
    """The suffixes that can be written: the first one of each module with a ``write``."""
    return tuple(suffix for suffix, module in sorted(_modules().items()) if hasattr(module, "write") and module.SUFFIXES[0] == suffix)


def read(path: str | Path, budget: Budget = DEFAULT, nonfinite: NonFinite | None = None) -> Shape:
    """One file as a cloud or a triangle mesh: finite (see ``sound``), with an extent, in the file's own unit and frame.

    Raises:
        BadFile: anything is wrong with the file.
        MissingExtra: its format needs a library that is not installed.
    """
    path = Path(path)
    module = _modules().get(path.suffix.lower())
    if module is None and path.is_dir():
        raise BadFile(path, "is not a file", "name a file")
    if module is None:
        raise BadFile(path, f"is not of a known kind ('{path.suffix}')", f"there are: {' '.join(read_suffixes())}")
    data = contents(path, budget)
    with guarded(path):
        return sound(module.read(data, budget), nonfinite)


def contents(path: Path, budget: Budget) -> bytes:
    """All bytes of a file.

    Raises:
        BadFile: it is not there, not a file, empty, over the budget, or cannot be read.
    """
    try:
        status = path.stat()  # before opening: to open a pipe would wait for a writer
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(path, "is not a file", "name a file")
        if status.st_size == 0:
            raise BadFile(path, "is empty (0 bytes)", "remove it, or copy it again")
        if status.st_size > budget.bytes:
            raise BadFile(path, f"is {status.st_size:,} bytes; at most {budget.bytes:,} are read", "thin it out or cut it up")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadFile(path, f"cannot be opened: {reason}", "check its name and its permissions") from None


@contextlib.contextmanager
def guarded(path: Path) -> Generator[None, None, None]:
    """Inside, whatever a parser raises becomes a ``BadFile`` of this path, and no warning gets out."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except MalformedError as error:
        raise BadFile(path, error.wrong, error.do, error.kind) from None
    except WisetuneError:
        raise
    except Exception as error:  # whatever numpy, zlib or zipfile raise over arbitrary bytes says one thing
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise BadFile(path, f"cannot be read as {path.suffix}: {reason}", "it is damaged: copy or export it again") from error


def points_of(shape: Shape, count: int, generator: np.random.Generator) -> Float64[np.ndarray, "{count} 3"]:
    """``count`` points of a shape, in its own unit and frame: a mesh is sampled uniformly by area, a cloud is thinned or repeated."""
    if isinstance(shape, Cloud):
        return resample(shape.points, count, generator)
    # Samples are float32: near the origin they keep the precision that they lose in a map's coordinates.
    origin = shape.vertices[shape.faces[0, 0]]
    return sample_surface(shape.vertices - origin, shape.faces, count, generator) + origin


def write(path: Path, points: Float[np.ndarray, "n 3"]) -> None:
    """One cloud to a file of the kind that the suffix names; float32 values survive bit by bit, except in .las.

    Raises:
        UsageError: the suffix names no kind that can be written.
    """
    if path.suffix not in write_suffixes():
        raise UsageError(f"cannot write '{path.suffix}' files. There are: {' '.join(write_suffixes())}.")
    path.write_bytes(_modules()[path.suffix].write(points))
