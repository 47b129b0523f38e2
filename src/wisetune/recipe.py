"""The tree of three node kinds that every robust fine-tuning method is: start, tune, mix.

    full fine-tuning        Tune(Start(b), full)
    linear probing          Tune(Start(b), linear)
    LP-FT                   Tune(Tune(Start(b), linear), full, head_from="start")
    WiSE-FT(alpha)          Mix((Start(b), FT), wise(alpha))
    WiSE-FT-LP(alpha)       Tune(Mix((Start(b), FT), wise(alpha)), linear)

Nodes are frozen values. ``digest`` names the weights that a tree describes: the same tree always means the same weights (on one
build of the libraries, one device kind and one thread count), so equal subtrees are built once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

from wisetune.spec import Spec, canonical_fields, digest_of

FORMAT = 2
"""Version of what a digest means; raised when the same tree would give other weights. 2: statistics of mixes from batches in drawn order."""


class _Node:
    def canonical(self) -> dict[str, Any]:
        """The kind of node and its fields, with everything below it. A field that came later is left out where it says so (``option``)."""
        return {"node": type(self).__name__.lower(), **canonical_fields(self)}


@dataclasses.dataclass(frozen=True)
class Start(_Node):
    """Pre-trained weights: the backbone's spec and the digest of its weights (``random:SEED`` for an untrained one)."""

    backbone: Spec
    weights: str


@dataclasses.dataclass(frozen=True)
class Tune(_Node):
    """Weights tuned on a task.

    ``task`` is the digest of the data that are trained and selected on. ``head_from`` says where the head begins: ``fresh``
    (seeded initial values) or ``start`` (the head of the parent, which must have one for the same classes).
    """

    start: Recipe
    tuning: Spec
    head: Spec
    task: str
    fit: Spec
    seed: int = 0
    head_from: Literal["fresh", "start"] = "fresh"


@dataclasses.dataclass(frozen=True)
class Mix(_Node):
    """Backbones of several parents mixed by a merge; the head is that of the last parent.

    ``task`` is the digest of the training data on which BatchNorm statistics are re-estimated; None when the merge does not.
    """

    parts: tuple[Recipe, ...]
    merge: Spec
    task: str | None = None


Recipe = Start | Tune | Mix


def parents(recipe: Recipe) -> tuple[Recipe, ...]:
    """The recipes whose weights this one needs."""
    match recipe:
        case Start():
            return ()
        case Tune():
            return (recipe.start,)
        case Mix():
            return recipe.parts


def digest(recipe: Recipe) -> str:
    """Sixteen hex digits that name the weights of a recipe."""
    return digest_of({"format": FORMAT, "recipe": to_json(recipe)})


def to_json(recipe: Recipe) -> dict[str, Any]:
    """A JSON-able form with every option, defaults too: what the digest is made of."""
    return recipe.canonical()


def walk(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe's distinct nodes, parents before children."""
    seen: set[Recipe] = set()

    def visit(node: Recipe) -> Iterator[Recipe]:
        if node in seen:
            return
        seen.add(node)
        for parent in parents(node):
            yield from visit(parent)
        yield node

    yield from visit(recipe)


def describe(recipe: Recipe) -> str:
    """One line that a person can read, for example ``wise:alpha=0.3(point-mae#8e5f0c1a, full(point-mae#8e5f0c1a))``.

    A start is its backbone and the beginning of its weights' digest; the sizes are in the recipe itself.
    """
    match recipe:
        case Start():
            return f"{recipe.backbone.name}#{recipe.weights[:8]}"
        case Tune():
            return f"{recipe.tuning}({describe(recipe.start)})"
        case Mix():
            return f"{recipe.merge}({', '.join(describe(part) for part in recipe.parts)})"
