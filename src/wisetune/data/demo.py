"""The bundled demo: simulated scans of furniture, and clean CAD of other things as the distribution that fine-tuning may forget.

``demo:scans`` is downstream, ``demo:objects`` the other distribution; no object is in both. How they were made, and their licences:
docs/demo-data.md and ``bundled/ATTRIBUTION.md``.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Int8

from wisetune.data.task import Data, Split, Task
from wisetune.errors import DataError
from wisetune.runtime import generator

POINTS = 1024
STEPS = 127  # coordinates are stored in steps of 1/127
LICENCES = {
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/legalcode",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/legalcode",
    "CC-BY-3.0-US": "https://creativecommons.org/licenses/by/3.0/us/legalcode",
}


@dataclasses.dataclass(frozen=True)
class Demo(Task):
    """The bundled data. ``seed`` chooses the objects held out for val (a share ``val`` of the train objects of each class) and subsets of points."""

    name: ClassVar[str] = "demo"
    part: Literal["scans", "objects"] = "scans"
    seed: int = 0
    val: float = 0.2

    def load(self, points: int = POINTS) -> Data:
        """Load; fewer points than 1,024 are a subset drawn by ``seed``, the same points whatever the split.

        Raises:
            DataError: more than 1,024 points asked for, or fewer than one.
        """
        if not 1 <= points <= POINTS:
            raise DataError(f"the demo was asked for clouds of {points} points; they have {POINTS}. Ask for 1 to {POINTS}.")
        file = importlib.resources.files("wisetune.data") / "bundled" / f"demo_{self.part}.npz"
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        clouds = unpack(stored["points"])
        if points < POINTS:
            clouds = clouds[:, generator(self.seed, "demo", "points").permutation(POINTS)[:points]]
        labels, owner = stored["labels"].astype(np.int64), stored["object_id"].astype(np.int64)
        names = tuple(f"{stored['ids'][object_id]}/{row}" for row, object_id in enumerate(owner))
        every = Split(clouds, labels, names)
        is_val = self._val(labels, owner, stored["is_test"])
        parts = {"train": ~stored["is_test"] & ~is_val, "val": is_val, "test": stored["is_test"]}
        splits = {name: every.take(np.flatnonzero(rows)) for name, rows in parts.items()}
        protocol = {
            "bundled": f"demo_{self.part}.npz",
            "points": points,
            "normalised": "sphere",
            "val": f"{self.val} of the train objects of each class, by seed {self.seed}",
            "objects": {name: len(np.unique(owner[rows])) for name, rows in parts.items()},
        }
        return Data(f"demo:{self.part}", tuple(map(str, stored["class_names"])), **splits, protocol=protocol)

    def _val(self, labels: np.ndarray, owner: np.ndarray, is_test: np.ndarray) -> np.ndarray:
        held_out = np.zeros(len(labels), bool)
        for label in np.unique(labels):
            objects = np.unique(owner[(labels == label) & ~is_test])
            count = min(max(1, round(self.val * len(objects))), len(objects) - 1)
            held_out |= np.isin(owner, generator(self.seed, "demo", "val", int(label)).permutation(objects)[:count])
        return held_out


def unpack(steps: Int8[np.ndarray, "n 3 p"]) -> Float32[np.ndarray, "n p 3"]:
    """Stored steps to coordinates."""
    return np.ascontiguousarray(steps.transpose(0, 2, 1), np.float32) / np.float32(STEPS)
