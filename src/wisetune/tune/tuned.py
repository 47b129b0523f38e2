"""A model as a tuning trains it: what it grafts comes first, and then a head, which sees what the grafts let it see."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Backbone, BackboneSpec, build_empty, empty_as, is_empty
from wisetune.nets.categories import Categories
from wisetune.nets.create import headed
from wisetune.nets.headed import Headed
from wisetune.nets.heads import Head
from wisetune.nets.model import Model
from wisetune.nets.parts import PartsHead
from wisetune.nets.segmenter import Segmenter
from wisetune.runtime import drawing
from wisetune.tune.tuning import Tuning


def tuned_model(
    backbone: Backbone,
    tuning: Tuning | None,
    head: Head | PartsHead | None = None,
    classes: Sequence[str] | Categories = (),
    *,
    seed: int = 0,
) -> Model | Segmenter:
    """A model of this backbone, into which the tuning grafts, and a fresh head upon it; fresh values are a pure function of the seed.

    A backbone without values stays so, and so does all that comes to it.

    Args:
        backbone: it is changed in place.
        tuning: none grafts nothing.
        head: none gives a model without a head, which has features alone.
        classes: what the head answers.
        seed: of grafts and head, each by itself.

    Raises:
        UsageError: the tuning cannot graft into this backbone, or not for this head, or the head cannot read it.
    """
    if tuning is not None:
        graft(tuning, Model(backbone, nn.Identity(), head), seed)
    return headed(backbone, head, classes, seed)


def graft(tuning: Tuning, model: Headed, seed: int = 0) -> None:
    """Graft into a model, whose head stays; fresh values are a pure function of the seed. For a fresh head upon it: ``tuned_model``.

    Raises:
        UsageError: it cannot be grafted into this backbone, or not for this head, or reads values where there are none.
    """
    what = f"'{tuning}' reads values while it grafts"
    do = "What it adds is looked at on a model without values first: graft by shapes alone, and read values when the model is called."
    with (
        drawing(seed, "graft"),
        empty_as(model.backbone),
        without_values(what, do) if is_empty(model.backbone) else contextlib.nullcontext(),
    ):
        tuning.graft_into(model)


@functools.cache
def refusal(tuning: Tuning, spec: BackboneSpec, head: Head | PartsHead | None = None) -> str:
    """Why a tuning cannot be grafted into such a backbone, for such a head; empty where it can."""
    try:
        graft(tuning, Model(build_empty(spec), nn.Identity(), head))
    except UsageError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def without_values(what: str, do: str) -> Iterator[None]:
    """Say in words that something inside read the values of a tensor that has none.

    Raises:
        UsageError: it did.
    """
    try:
        yield
    except (NotImplementedError, RuntimeError, TypeError) as error:  # with these torch refuses the values of a meta tensor
        if "meta" not in str(error).lower():
            raise
        raise UsageError(f"{what} ({str(error).splitlines()[0]}). {do}") from error
