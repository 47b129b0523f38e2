"""Turn a set of CAD objects into a set of simulated scans, split by object."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float16, Int64

from wisetune.data.scanner import DENSE, Scanner, densify
from wisetune.errors import DataError, UsageError, WriteError
from wisetune.points.normalise import normalise
from wisetune.runtime import generator


@dataclasses.dataclass(frozen=True, eq=False)
class Scans:
    """Simulated scans, each centred on its mean and scaled to the unit sphere, and the object that each one shows."""

    points: Float16[np.ndarray, "n p 3"]
    labels: Int64[np.ndarray, " n"]
    class_names: tuple[str, ...]
    is_test: Bool[np.ndarray, " n"]
    object_id: Int64[np.ndarray, " n"]
    ids: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write an npz that ``npz:FILE`` reads; either the whole file is there afterwards or nothing has changed.

        Raises:
            WriteError: the folder does not exist or cannot be written.
        """
        save_npz(
            path,
            {
                "points": self.points,
                "labels": self.labels.astype(np.int16),
                "class_names": np.array(self.class_names),
                "is_test": self.is_test,
                "object_id": self.object_id.astype(np.int32),
                "ids": np.array(self.ids),
            },
        )


def simulate(
    clouds: Iterable[Float[np.ndarray, "_ 3"]],
    labels: Int64[np.ndarray, " o"],
    class_names: tuple[str, ...],
    *,
    scanner: Scanner | None = None,
    per_object: int | Int64[np.ndarray, " o"] = 8,
    count: int = 1024,
    seed: int = 0,
    ids: tuple[str, ...] | None = None,
    is_test: Bool[np.ndarray, " o"] | None = None,
    test: float = 0.3,
) -> Scans:
    """Scan every object several times.

    Each scan is a function of (seed, the object's id, its index) alone: objects may come, go and change places without changing the others.

    Args:
        clouds: surface samples of the objects, z up, any unit, 2,048 points or more each (dense samples of a mesh give cleaner edges).
        labels: class of each object.
        class_names: names of the classes.
        scanner: the camera; its defaults if not given.
        per_object: scans of each object, one number or one for each.
        count: points a scan.
        seed: of scans and split.
        ids: names of the objects, all different; their positions if not given.
        is_test: which objects are for testing. If not given, a share ``test`` of each class is held out, at least one object and never all.
        test: that share.

    Raises:
        UsageError: a count that is not positive.
        DataError: lengths that do not match, ids that repeat, or an object that cannot be scanned (named in the message).
    """
    labels = np.asarray(labels, np.int64)
    names = tuple(map(str, range(len(labels)))) if ids is None else tuple(ids)
    repeats = np.broadcast_to(np.asarray(per_object, np.int64), labels.shape)
    if count < 1 or (repeats < 1).any():
        raise UsageError(f"points a scan ({count}) and scans an object ({per_object}) must be 1 or more.")
    held_out = _hold_out(labels, names, test, seed) if is_test is None else np.asarray(is_test, bool)
    if not len(labels) == len(names) == len(held_out) or len(set(names)) != len(names):
        raise DataError(f"{len(labels)} labels, {len(set(names))} different ids and {len(held_out)} test marks do not belong together.")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise DataError(f"labels run from {labels.min()} to {labels.max()}, but there are {len(class_names)} class names.")
    camera = scanner or Scanner()
    scans = []
    for cloud, name, repeat in zip(clouds, names, repeats, strict=True):
        try:
            cloud = np.asarray(cloud, np.float64)
            dense = densify(cloud, DENSE, generator(seed, "densify", name)) if len(cloud) < DENSE else cloud
            scans += [camera.scan(dense, generator(seed, "scan", name, index), count) for index in range(repeat)]
        except DataError as error:
            raise DataError(f"object '{name}': {error}") from None
    owner = np.repeat(np.arange(len(labels)), repeats)
    points = normalise(np.stack(scans)).astype(np.float16) if scans else np.empty((0, count, 3), np.float16)
    return Scans(points, labels[owner], tuple(class_names), held_out[owner], owner, names)


def save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed npz atomically; equal arrays give equal bytes, whenever and wherever they are written.

    Raises:
        WriteError: the folder does not exist or cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}. Choose another folder with --out.") from None
    finally:
        part.unlink(missing_ok=True)


def _hold_out(labels: Int64[np.ndarray, " o"], ids: tuple[str, ...], share: float, seed: int) -> Bool[np.ndarray, " o"]:
    if not 0 < share < 1:
        raise UsageError(f"the share of test objects is {share}; it must lie between 0 and 1.")
    held_out = np.zeros(len(labels), bool)
    # Drawn by id, not by position, for the same reason as the scans.
    rank = np.array([generator(seed, "hold-out", name).random() for name in ids])
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise DataError(f"class {label} has one object only: it cannot be in train and test. Give it another object or leave it out.")
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held_out[rows[np.argsort(rank[rows])][:count]] = True
    return held_out
