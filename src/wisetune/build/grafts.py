"""What is grafted into the backbone of a recipe's model, told before anything is built: tunings graft into an empty one."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from wisetune.errors import UsageError
from wisetune.nets.backbone import BackboneSpec, Grafted, build_empty
from wisetune.nets.grafts import has_shares
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Recipe, Start, Tune, describe, walk
from wisetune.tune.tuned import tuned_model
from wisetune.tune.tuning import Tuning

_SOME_HEAD = LinearHead(), ("a", "b")


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
    tunings, folded = list[Tuning](), False
    for node in _descent(recipe):
        folded = folded or (isinstance(node, Mix) and node.fold)  # what was grafted before it is in its weights
        if isinstance(node, Tune) and not folded:
            assert node.grafts is None or isinstance(node.grafts, Tuning)
            tunings[:0] = [] if node.grafts is None else [node.grafts]
        if isinstance(node, Start):
            recipe = node
    assert isinstance(recipe, Start)
    assert isinstance(recipe.backbone, BackboneSpec)
    return recipe.backbone, tuple(tunings)


def _descent(recipe: Recipe) -> Iterator[Recipe]:
    """A recipe and those whose values its model went on from, down to the start."""
    yield recipe
    while not isinstance(recipe, Start):
        recipe = recipe.start if isinstance(recipe, Tune) else recipe.parts[-1]
        yield recipe


def check_grafts(recipe: Recipe) -> None:
    """Every tuning in a recipe can graft what it grafts, and every mix is of parts whose grafts can be mixed.

    Raises:
        UsageError: something cannot be grafted; one part has a graft that another lacks and that counts by no share: it has no value between
            them, and copied to all of the line it would be none; two parts have grafts that learnt apart; what is to be folded
            cannot be; or a head goes on that reads other tokens than there are.
    """
    for node in walk(recipe):
        grafts_of(node)
        if isinstance(node, Tune) and node.head_from == "start":
            _check_head(node)
        if isinstance(node, Mix):
            _check_folds(node) if node.fold else _check_line(node)


def _check_folds(mix: Mix) -> None:
    for part in mix.parts:
        if not _folds(grafts := grafts_of(part)):
            raise UsageError(
                f"{describe(mix)} folds what was grafted into weights, and {describe(part)} has {_words(grafts)}, which cannot be: it is no change of "
                "weights, or several tunings grafted. Leave it out of the mix, or mix it with its own start alone."
            )


def _check_line(mix: Mix) -> None:
    *others, last = mix.parts
    if not _mixes(*map(grafts_of, mix.parts)):
        parts = "; ".join(f"{describe(part)} has {_words(grafts_of(part))}" for part in mix.parts)
        raise UsageError(f"{describe(mix)} mixes backbones with different grafts: {parts}. Mix models with the same ones{_or_fold(mix)}.")
    for part in others:
        for graft in grafts_of(part):
            mine, theirs = _learnt(part, graft), _learnt(last, graft)
            if mine != theirs and (graft.folds or mine not in _descent(last)):
                why = (
                    "a mean of factors is not the mean of what they make of the weights"
                    if graft.folds
                    else "they are no change of weights, and what lies between two modules that did not learn one from the other is neither's work"
                )
                do = "Mix each with its own start alone, or train one on from the other"
                raise UsageError(
                    f"{describe(mix)} mixes parts in which the grafts of '{graft.tuning}' have learnt apart: {why}. {do}{_or_fold(mix)}."
                )


def _folds(grafts: tuple[Grafted, ...]) -> bool:
    return len(grafts) <= 1 and all(graft.folds for graft in grafts)


def _or_fold(mix: Mix) -> str:
    """What else can be done, where it can."""
    can = all(_folds(grafts_of(part)) for part in mix.parts)
    return "; or put what was grafted into the weights of each part first: Mix(parts, merge, fold=True)" if can else ""


def _learnt(recipe: Recipe, graft: Grafted) -> Recipe:
    """Of a recipe and what its model went on from the last in which a graft's values trained."""
    names = {f"backbone.{name}" for name in graft.names}
    for node in _descent(recipe):
        if isinstance(node, Tune):
            assert isinstance(node.tuning, Tuning)
            if names & node.tuning.trained(empty_model(node)).keys():
                return node
    return recipe


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
    return all(parts[-1][: len(part)] == part and has_shares(parts[-1][len(part) :]) for part in parts)


@functools.cache
def _noted(spec: BackboneSpec, tunings: tuple[Tuning, ...]) -> tuple[Grafted, ...]:
    return _built(spec, tunings).backbone.grafts


def _built(spec: BackboneSpec, tunings: tuple[Tuning, ...]) -> Model:
    model = tuned_model(build_empty(spec), None, *_SOME_HEAD)
    for tuning in tunings:
        model = tuned_model(model.backbone, tuning, *_SOME_HEAD)
    assert isinstance(model, Model)
    return model


def _words(grafts: tuple[Grafted, ...]) -> str:
    return ", ".join(graft.tuning for graft in grafts) or "none"
