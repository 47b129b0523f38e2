"""How the official codes tune their settings: options of ``--fit`` in two readings, and the faults that tell these apart.

What the codes share stands here, what a family differs in beside its presets. Options are texts here, as a head is: what reads them is built
upon backbones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from wisetune.spelling import spell

Reading = Literal["as_intended", "as_published"]

_POOL = {1024: 1200, 2048: 2400, 4096: 4800, 8192: 8192}
"""Of so many points that a backbone takes, how many farthest ones the codes draw them from, where a cloud has as many."""
_SCANS = 2048
"""ScanObjectNN's clouds have so many points; the codes leave them in the units of their files, and bring those of ModelNet to the unit sphere."""

LATE = (
    "The schedule is stepped after an epoch with that epoch's number, so each epoch has the rate of the one before, the first two the lowest "
    "(cosine=timm-late)."
)
LONGER = "One epoch more is trained than the schedule has."
DUPLICATES = (
    "The kernel of farthest point sampling passes over points near the origin, and takes others twice in their place (pool-rule=pointnet2)."
)
ON_TEST = (
    "Validation is done on the test split after every epoch, and the best of them is the published number. That is not in this fit; who wants "
    "it adds select=best-on-test, and the results say so."
)
VOTES = (
    "With --test, the mean of the logits of 10 votes is taken {times} times, and the best of these accuracies on the test split is published. "
    "The measure voting takes the mean once."
)
FROZEN = (
    "What is frozen stays in training mode: BatchNorm statistics of the tokenizer move and drop path is active, and the class token, whose name "
    "has 'cls', trains. Linear probing here does none of it."
)


@dataclasses.dataclass(frozen=True)
class OfficialFit:
    """One official training, for whole models, or where ``frozen`` for heads on a frozen backbone.

    ``options`` are those of ``--fit`` as intended; ``published`` what the released code has in their place, and ``faults`` says why. ``votes`` is
    the measure of its voting, empty where the code has none that works; ``normalise`` the frame of its clouds, as an option of a task.
    """

    options: Mapping[str, object]
    published: Mapping[str, object]
    faults: tuple[str, ...]
    votes: str
    frozen: bool = False
    normalise: Literal["sphere", "none"] = "sphere"

    def text(self, reading: Reading = "as_intended") -> str:
        """The options as they are spelled in ``--fit``."""
        chosen = {**self.options, **(self.published if reading == "as_published" else {})}
        return ",".join(f"{name}={spell(value)}" for name, value in chosen.items())


def official_fit(
    points: int,
    of: int,
    *,
    epochs: int = 300,
    lr: float = 5e-4,
    drop_path: float = 0.1,
    augment: str = "scale-translate",
    votes: str | None = "scale-translate",
    times: int = 299,
    frozen: bool = False,
    **more: object,
) -> OfficialFit:
    """What all codes share with these differences: clouds of ``of`` points, of which the backbone takes ``points``.

    ``votes`` is the augmentation of a vote, ``times`` how often a vote of all is repeated for its best.
    """
    options = {
        "epochs": epochs,
        "batch": 32,
        "lr": lr,
        "weight-decay": 0.05,
        "warmup": 10,
        "warmup-lr": 1e-6,
        "cosine": "timm",
        "lr-min": 1e-6,
        "clip": 10,
        "drop-path": drop_path,
        "augment": augment,
        "pool": min(_POOL[points], of),
        "pool-of": of,
        "select": "best",
    }
    published = {"epochs": epochs + 1, "cosine": "timm-late", "cosine-epochs": epochs, "pool-rule": "pointnet2", "select": "last"}
    faults = (LATE, LONGER, DUPLICATES, ON_TEST)
    if votes is not None:
        faults += (VOTES.format(times=times),)
    return OfficialFit(
        {**options, **{name.replace("_", "-"): value for name, value in more.items()}},
        published,
        faults + ((FROZEN,) if frozen else ()),
        "" if votes is None else f"voting:draws=10,augment={votes}",
        frozen,
        "none" if of == _SCANS else "sphere",
    )
