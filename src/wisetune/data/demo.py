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

from wisetune.data.splits import at_most_per_class, hold_out
from wisetune.data.task import Data, Split, Task
from wisetune.errors import DataError
from wisetune.runtime import generator
from wisetune.spec import option

POINTS = 1024
STEPS = 127  # coordinates are stored in steps of 1/127
SHARES = {"scans": 0.2, "objects": 0.5}
"""The share of the train objects of each class that is held out as val unless ``val`` says else."""
LICENCES = {
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/legalcode",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/legalcode",
    "CC-BY-3.0-US": "https://creativecommons.org/licenses/by/3.0/us/legalcode",
}


@dataclasses.dataclass(frozen=True)
class Demo(Task):
    """The bundled data. ``seed`` draws the objects for val, a share ``val`` of the train objects of each class, and the order of points.

    That share is 0.2 of the scans and half of ``objects``: there val is what alpha is chosen on, and the probe that learns from train for the
    numbers of the test part learns from val too. ``labelled`` is the most train clouds of each class that are left to train on.
    """

    name: ClassVar[str] = "demo"
    part: Literal["scans", "objects"] = option("scans", means="simulated scans of furniture, or clean CAD objects of other classes")
    seed: int = option(0, means="draws the validation part and the order of points")
    val: float | None = option(
        None, means="share of each class's train objects held out for validation; none: 0.2 of scans, half of objects"
    )
    labelled: int | None = option(
        None, least=1, means="at most so many train clouds of each class; validation and test stay whole; none: all"
    )

    def __str__(self) -> str:
        """Its spelling, with the part in any case: ``demo`` alone may be a folder."""
        text = super().__str__()
        return text if ":" in text else f"{text}:{self.part}"

    def load(self, points: int = POINTS) -> Data:
        """Load; fewer points than 1,024 are a subset drawn by ``seed``.

        Raises:
            DataError: more than 1,024 points asked for, or fewer than one.
        """
        if not 1 <= points <= POINTS:
            raise DataError(f"the demo was asked for clouds of {points} points; they have {POINTS}. Ask for 1 to {POINTS}.")
        share = self.val if self.val is not None else SHARES[self.part]
        file = importlib.resources.files("wisetune.data") / "bundled" / f"demo_{self.part}.npz"
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        # They are stored sorted, to be small: a random order makes a prefix a fair subset, for whoever takes one later too.
        clouds = unpack(stored["steps"])[:, generator(self.seed, "demo", "points").permutation(POINTS)[:points]]
        labels, owner = stored["labels"].astype(np.int64), stored["object_id"].astype(np.int64)
        names = tuple(f"{stored['ids'][object_id]}/{row}" for row, object_id in enumerate(owner))
        every = Split(clouds, labels, names, tuple(str(stored["ids"][object_id]) for object_id in owner))
        is_train = np.flatnonzero(~stored["is_test"])
        is_val = np.zeros(len(labels), bool)
        is_val[is_train] = hold_out(labels[is_train], [str(object_id) for object_id in owner[is_train]], share, self.seed, "val")
        parts = {"train": ~stored["is_test"] & ~is_val, "val": is_val, "test": stored["is_test"]}
        splits = {name: every.take(np.flatnonzero(rows)) for name, rows in parts.items()}
        splits["train"] = at_most_per_class(splits["train"], self.labelled, self.seed)
        protocol = {
            "bundled": f"demo_{self.part}.npz",
            "points": points,
            "normalise": "sphere",
            "seed": self.seed,
            "val": f"{share} of train, by class and object",
            "labelled": self.labelled,
            "objects": {name: len(set(split.groups or ())) for name, split in splits.items()},
        }
        classes = tuple(map(str, stored["class_names"]))
        return Data(f"demo:{self.part}", classes, splits["train"], splits["val"], splits["test"], protocol)


def unpack(steps: Int8[np.ndarray, "n 3 p"]) -> Float32[np.ndarray, "n p 3"]:
    """Stored steps to coordinates."""
    return np.ascontiguousarray(steps.transpose(0, 2, 1), np.float32) / np.float32(STEPS)
