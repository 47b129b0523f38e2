"""Models by name with what a tuning grafts into them.

create("point-mae", preset="scanobjectnn", tuning="dapt:preset=scan-hardest", reading="as_published")
"""

from __future__ import annotations

from collections.abc import Sequence

from wisetune.errors import UsageError
from wisetune.nets.categories import Categories
from wisetune.nets.create import fresh_backbone, planned
from wisetune.nets.model import Model
from wisetune.nets.official_fits import Reading
from wisetune.nets.segmenter import Segmenter
from wisetune.tune.tuned import tuned_model
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS


def create(
    name: str,
    *,
    preset: str | None = None,
    tuning: str | Tuning | None = None,
    classes: int | Sequence[str] | Categories | None = None,
    head: str | None = None,
    reading: Reading | None = None,
    seed: int = 0,
    **options: object,
) -> Model | Segmenter:
    """A model with fresh weights, in eval mode: ``model(points)`` gives logits, ``model.features(points)`` what the head sees.

    Args:
        name: a backbone, or its spec (``point-mae:width=192,heads=3``).
        preset: a published setting of the backbone; its sizes are the defaults of ``options``.
        tuning: what is grafted into it, or its spelling (``dapt:rank=32``, ``idpt:preset=modelnet40``); the head is built upon it. None grafts nothing.
        classes: how many, or their names; a preset for one data set knows its own. Of part segmentation the parts, best as a table of
            categories with the names of each one's parts: ``{"chair": ["seat", "leg"], "table": ["top", "leg"]}``. Without them, where the preset
            knows none, the model has no head and gives features alone.
        head: one of ``linear``, ``mlp1``, ``mlp2``, ``mlp3``, with options if wanted (``mlp3:dropout=0.1``); by default the preset's, else
            ``mlp3``. With a head of part segmentation (``preset="shapenetpart"``) it is a ``Segmenter``, and classes are the parts.
        reading: ``as_intended`` (default), or ``as_published`` where released code differs from its paper: of the backbone, and of a tuning whose
            spelling does not say its own.
        seed: fresh weights are a pure function of it, and torch's own random state stays as it is.
        options: the backbone's options.

    Raises:
        UsageError: a name, preset, tuning, head or option that does not exist or does not fit; the message lists what there is.
    """
    if isinstance(tuning, str):
        tuning = TUNINGS.parse(tuning, {} if reading is None else {"reading": reading})
    if not (tuning is None or isinstance(tuning, Tuning)):
        raise UsageError(f"create was given tuning={tuning!r}; it takes a tuning or its spelling, such as tuning='lora:rank=8'.")
    wanted = planned(name, preset, classes, head, reading, options)
    return tuned_model(fresh_backbone(wanted.backbone, seed), tuning, wanted.head, wanted.classes, seed=seed).eval()
