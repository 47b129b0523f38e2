"""Turn a set of CAD objects into a set of simulated scans, split by object."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Int64

from wisetune.data._surface import Surface
from wisetune.data.files import FileTask, Item
from wisetune.data.formats import Cloud
from wisetune.data.scanner import Scanner
from wisetune.data.splits import numbered
from wisetune.errors import DataError, UsageError, WisetuneError
from wisetune.files import write_bytes
from wisetune.points.normalise import normalise
from wisetune.runtime import generator

MESH_POINTS = 60_000  # samples of a mesh: about as fine as the pixels of the camera


@dataclasses.dataclass(frozen=True, eq=False)
class Scans:
    """Simulated scans, each centred on its mean and scaled to the unit sphere. ``object_id`` says which show the same object."""

    points: Float16[np.ndarray, "n p 3"]
    labels: Int64[np.ndarray, " n"]
    class_names: tuple[str, ...]
    is_test: Bool[np.ndarray, " n"]
    object_id: Int64[np.ndarray, " n"]
    ids: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write an npz that the task ``npz:FILE`` reads.

        Raises:
            StorageError: the folder is not there or cannot be written.
        """
        arrays = {"points": self.points, "labels": self.labels.astype(np.int16), "class_names": np.array(self.class_names)}
        arrays |= {"is_test": self.is_test, "object_id": self.object_id.astype(np.int32), "ids": np.array(self.ids)}
        save_npz(path, arrays)


def simulate(
    clouds: Sequence[Float[np.ndarray, "_ 3"]],
    labels: Int64[np.ndarray, " o"],
    class_names: Sequence[str],
    ids: Sequence[str],
    is_test: Bool[np.ndarray, " o"],
    scanner: Scanner,
    per_object: int | Int64[np.ndarray, " o"] = 8,
    count: int = 1024,
    seed: int = 0,
) -> Scans:
    """Scan every object several times.

    A scan is a function of (seed, the object's id, its index) and of the object alone: objects may come, go and change places.

    Args:
        clouds: surface samples of each object, z up, any unit; 2,048 points or more give usable scans, a mesh's 60,000 clean ones.
        labels: class of each object.
        class_names: names of the classes.
        ids: names of the objects, all different.
        is_test: which objects are for testing; the scans of an object are never parted.
        scanner: the camera.
        per_object: scans of each object, one number or one for each.
        count: points a scan.
        seed: what is drawn.

    Raises:
        UsageError: a count that is not positive.
        DataError: ids that repeat, or an object that cannot be scanned (the message names it).
    """
    repeats = np.broadcast_to(np.asarray(per_object, np.int64), labels.shape)
    if count < 1 or (repeats < 1).any():
        raise UsageError(f"points a scan ({count}) and scans an object ({repeats.min(initial=1)}) must be 1 or more.")
    if len(set(ids)) < len(ids):
        raise DataError(f"{len(ids)} objects have only {len(set(ids))} different ids; scans would repeat. Give each its own id.")
    scans: list[Float32[np.ndarray, "p 3"]] = []
    for cloud, name, repeat in zip(clouds, ids, repeats, strict=True):
        scans += _scans_of(cloud, name, int(repeat), scanner, count, seed)
    owner = np.repeat(np.arange(len(labels)), repeats)
    names = tuple(f"{name}/{index}" for name, repeat in zip(ids, repeats, strict=True) for index in range(repeat))
    points = normalise(np.stack(scans)).astype(np.float16)
    return Scans(points, labels[owner], tuple(class_names), is_test[owner], owner, names)


def simulate_task(
    task: FileTask, scanner: Scanner, per_object: int = 8, count: int = 1024, seed: int = 0, out: Path | None = None
) -> tuple[Scans, list[WisetuneError]]:
    """Scan the objects of a ``folder:`` of CAD files or of an ``npz:``, and write the scans if ``out`` is given.

    What the task gives as test, or holds out for test by its own options, stays test; all else is train (val is held out of it by
    object when the result is loaded). The task's ``up`` says which axis points up in its files.

    Returns:
        The scans, and the problems of objects left out; only a task with ``skip-bad=true`` leaves any out.

    Raises:
        DataError: the files cannot be used, or an object cannot be scanned.
        UsageError: a count that is not positive.
        StorageError: ``out`` cannot be written.
    """
    clouds: list[Float32[np.ndarray, "_ 3"]] = []
    kept: list[Item] = []
    bad: list[WisetuneError] = []
    for item, shape in task.looked(task.open()):
        if isinstance(shape, WisetuneError):
            if not task.skip_bad:
                raise shape
            bad.append(shape)
            continue
        points = min(len(shape.points), MESH_POINTS) if isinstance(shape, Cloud) else MESH_POINTS
        clouds.append(task.frame(shape, points, item.name))
        kept.append(item)
    if not kept:
        raise DataError(f"{task.path} holds no object that can be scanned.")
    classes, labels = numbered([item.label for item in kept])
    is_test = np.array([part == "test" for part in task.split(kept)])
    names = [item.name for item in kept]
    scans = simulate(clouds, labels, classes, names, is_test, scanner, per_object, count, seed)
    _, same = numbered([item.group for item in kept])
    scans = dataclasses.replace(scans, object_id=same[scans.object_id])
    if out is not None:
        scans.save(out)
    return scans, bad


def save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed npz: whole or not at all, and equal bytes for equal arrays.

    Raises:
        StorageError: the folder is not there or cannot be written.
    """
    held = io.BytesIO()
    np.savez_compressed(held, allow_pickle=False, **arrays)
    write_bytes(path, held.getvalue(), make_folders=False)


def _scans_of(
    cloud: Float[np.ndarray, "_ 3"], name: str, repeat: int, scanner: Scanner, count: int, seed: int
) -> list[Float32[np.ndarray, "p 3"]]:
    try:
        surface = Surface.of(cloud, generator(seed, "surface", name))
        return [scanner.scan(surface, generator(seed, "scan", name, index), count) for index in range(repeat)]
    except DataError as error:
        raise DataError(f"object '{name}': {error}") from None
