"""What is grafted into the backbone of a recipe's model, told from the recipe alone: a mix that cannot be is refused before its parts are built."""

from __future__ import annotations

from wisetune.errors import UsageError
from wisetune.recipe import Mix, Recipe, Tune, describe, walk
from wisetune.tune.tuning import Tuning


def grafts_of(recipe: Recipe) -> tuple[str, ...]:
    """The tunings whose modules the model's backbone has, in order, each spelled with every option."""
    match recipe:
        case Tune(tuning=Tuning() as tuning):
            return (*grafts_of(recipe.start), tuning.in_full()) if tuning.adds_modules else grafts_of(recipe.start)
        case Mix():
            return grafts_of(recipe.parts[-1])
        case _:
            return ()


def check_mixes(recipe: Recipe) -> None:
    """Every mix in a recipe is of parts with the same grafts.

    Raises:
        UsageError: one has a graft that another lacks, which has no value between them; copied to all of the line it would be none.
    """
    for node in walk(recipe):
        if isinstance(node, Mix) and len({grafts_of(part) for part in node.parts}) > 1:
            parts = "; ".join(f"{describe(part)} has {', '.join(grafts_of(part)) or 'none'}" for part in node.parts)
            raise UsageError(f"{describe(node)} mixes backbones with different grafts: {parts}. Mix models with the same ones.")
