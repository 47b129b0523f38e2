"""What a penalty is given: the training's beginning. Whether it can hold anything is told before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from wisetune.build.grafts import empty_model
from wisetune.data.task import Split
from wisetune.errors import UsageError, first_of
from wisetune.fit.fit import Fit, seen
from wisetune.keep.penalty import Begun, Penalty, Prepared, Rows
from wisetune.nets.backbone import Groups
from wisetune.nets.model import Model
from wisetune.recipe import Recipe, Start, Tune, describe, walk
from wisetune.tune.tuning import Tuning


def check_keeps(recipe: Recipe) -> None:
    """Every penalty in a recipe has something to hold.

    Raises:
        UsageError: one compares answers, and the training begins with a head that has given none; or weights, and none that the start has trains.
    """
    for node in walk(recipe):
        if isinstance(node, Tune) and node.keep is not None:
            _check(node, node.keep)


def _check(node: Tune, keep: object) -> None:
    assert isinstance(node.tuning, Tuning)
    if not isinstance(keep, Penalty):
        raise UsageError(f"'{keep}' is no penalty: it must be a subclass of {Penalty.__module__}.{Penalty.__name__}.")
    if keep.needs_head and (node.head_from == "fresh" or isinstance(node.start, Start)):
        raise UsageError(
            f"'{keep}' holds a model near the answers of the one that its training begins with, and {describe(node)} begins with a fresh head, "
            "which has answered nothing. Take it where the training goes on from a trained head, as the story lp-ft does; or a penalty of weights, "
            "such as l2-sp."
        )
    if not keep.of_weights:
        return
    model = empty_model(node)
    training = node.tuning.trained(model)
    if not any(map(keep.holds, anchored(node, model, training))):
        raise UsageError(
            f"'{keep}' holds weights near their values at the start, and of those that '{node.tuning}' trains "
            f"({first_of(list(training))}) it holds none: the start has no value of a fresh head, or of what pre-training lacks. Leave the penalty "
            "out, or take a tuning that trains weights of the backbone or grafts."
        )


def anchored(node: Tune, model: Model, training: Iterable[str]) -> tuple[str, ...]:
    """The parameters that train and have a value to stay near, by name: not those of a fresh head, or of the backbone without a pre-trained value.

    That of a graft is the one that it begins with: then the model is the pre-trained function, or what the tuning says that it begins as.
    """
    lacking = {f"backbone.{name}" for name in model.backbone.anatomy.fresh} if isinstance(node.start, Start) else set[str]()
    return tuple(name for name in training if name not in lacking and (node.head_from == "start" or not name.startswith("head.")))


def unaugmented(node: Tune, model: Model, train: Split, purpose: str) -> Callable[[Rows], Groups]:
    """The patches of training clouds by their rows, with as many points as in training, which may be drawn, and not augmented."""
    assert isinstance(node.fit, Fit)
    fit, device = node.fit, next(model.parameters()).device

    def groups(rows: Rows) -> Groups:
        points = torch.from_numpy(train.points[rows])
        return model.group(seen(points, fit, model.backbone.points, (node.seed, purpose, *map(int, rows))).to(device))

    return groups


def prepare(node: Tune, parent: Model, model: Model, training: Iterable[str], train: Split) -> Prepared:
    """The term of a training's penalty, and what the log says of it. ``parent`` is the model of what ``node`` starts from."""
    assert isinstance(node.keep, Penalty)
    assert isinstance(node.fit, Fit)
    names = anchored(node, model, training)
    begun = Begun(model, parent, names, unaugmented(node, model, train, "penalty"), train.labels, node.fit.batch, node.seed)
    term, facts = node.keep.prepared(begun)
    held = sum(value.numel() for value in begun.parameters(node.keep).values())
    head = "of the start" if node.head_from == "start" else "fresh"
    return Prepared(term, {"penalty": str(node.keep), "head": head, "held_values": held, **facts})
