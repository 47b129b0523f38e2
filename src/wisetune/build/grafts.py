"""What is grafted into the backbone of a recipe's model, told before anything is built: tunings graft into an empty one."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from wisetune.errors import UsageError
from wisetune.nets.backbone import BackboneSpec, Grafted, build_empty, on_meta
from wisetune.nets.grafts import scale
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Recipe, Start, Tune, describe, walk
from wisetune.tune.tuning import Tuning


def grafts_of(recipe: Recipe) -> tuple[Grafted, ...]:
    """What the model's backbone will note, in order.

    Raises:
        UsageError: something cannot be grafted, or not by shapes alone.
    """
    return _noted(*_line(recipe))


def empty_model(recipe: Recipe) -> Model:
    """A model with the backbone of a recipe's, grafts too, and some head, without memory for its values.

    Raises:
        UsageError: as ``grafts_of``.
    """
    return _built(*_line(recipe))


def _line(recipe: Recipe) -> tuple[BackboneSpec, tuple[Tuning, ...]]:
    """The architecture that a recipe's backbone began as, and the tunings that it went through."""
    tunings: list[Tuning] = []
    while not isinstance(recipe, Start):
        if isinstance(recipe, Tune):
            assert recipe.grafts is None or isinstance(recipe.grafts, Tuning)
            tunings[:0] = [] if recipe.grafts is None else [recipe.grafts]
        recipe = recipe.start if isinstance(recipe, Tune) else recipe.parts[-1]
    assert isinstance(recipe.backbone, BackboneSpec)
    return recipe.backbone, tuple(tunings)


def check_grafts(recipe: Recipe) -> None:
    """Every tuning in a recipe can graft what it grafts, and every mix is of parts with the same grafts.

    Raises:
        UsageError: something cannot be grafted, or one part has a graft that another lacks and that counts by no share: it has no value between
            them, and copied to all of the line it would be none; or a head goes on that reads other tokens than there are.
    """
    for node in walk(recipe):
        grafts_of(node)
        if isinstance(node, Tune) and node.head_from == "start":
            _check_head(node)
        if isinstance(node, Mix) and not _mixes(*map(grafts_of, node.parts)):
            parts = "; ".join(f"{describe(part)} has {_words(grafts_of(part))}" for part in node.parts)
            raise UsageError(f"{describe(node)} mixes backbones with different grafts: {parts}. Mix models with the same ones.")


def _check_head(node: Tune) -> None:
    """What the parent's head reads is what the grafts let a head read."""
    before, now = (empty_model(each).backbone for each in (node.start, node))
    if (before.readout, before.feature_width) != (now.readout, now.feature_width):
        raise UsageError(
            f"{describe(node)} goes on from a head that reads {before.feature_width} numbers ({before.readout}), and with what '{node.tuning}' grafts "
            f"there are {now.feature_width} ({now.readout}). Begin with a fresh head, or probe with these grafts in place (grafted=), as the story "
            "lp-ft does for a tuning that says that it begins changed."
        )


def _mixes(*parts: tuple[Grafted, ...]) -> bool:
    """Whether each has the last one's grafts, or its first ones and lacks only such as count by a share."""
    return all(parts[-1][: len(part)] == part and scale(parts[-1][len(part) :]) for part in parts)


@functools.cache
def _noted(spec: BackboneSpec, tunings: tuple[Tuning, ...]) -> tuple[Grafted, ...]:
    return _built(spec, tunings).backbone.grafts


def _built(spec: BackboneSpec, tunings: tuple[Tuning, ...]) -> Model:
    with on_meta():
        backbone = build_empty(spec)
        model = Model(backbone, LinearHead().build(backbone.feature_width, 2), LinearHead(), ("a", "b"))
        for tuning in tunings:
            graft_by_shape(tuning, model)
    return model


def graft_by_shape(tuning: Tuning, model: Model) -> None:
    """Graft into a model without values.

    Raises:
        UsageError: it cannot be grafted, or reads values.
    """
    with without_values(
        f"'{tuning}' reads values while it grafts",
        "What it adds is looked at on a model without values first: graft by shapes alone, and read values when the model is called.",
    ):
        tuning.graft_into(model)


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


def _words(grafts: tuple[Grafted, ...]) -> str:
    return ", ".join(graft.tuning for graft in grafts) or "none"
