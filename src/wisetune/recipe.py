"""The tree of three node kinds that every robust fine-tuning method is: start, tune, mix.

    full fine-tuning        Tune(Start(b), full)
    linear probing          Tune(Start(b), linear)
    LP-FT                   Tune(Tune(Start(b), linear), full, head_from="start")
    LP-FT of DAPT           Tune(Tune(Start(b), linear, grafted=dapt), dapt, head_from="start")
    EWC, L2-SP              Tune(Start(b), full, keep=ewc)
    WiSE-FT(alpha)          Mix((Start(b), FT), wise(alpha))
    WiSE-FT-LP(alpha)       Tune(Mix((Start(b), FT), wise(alpha)), linear)

Nodes are frozen values. ``digest`` names the weights that a tree describes: the same tree always means the same weights (on one
build of the libraries, one device kind and one thread count), so equal subtrees are built once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from wisetune.canonical import canonical_fields, digest_of
from wisetune.errors import counted
from wisetune.spec import Spec, option

FORMAT = 2
"""Version of what a digest means; raised when the same tree would give other weights. 2: statistics of mixes from batches in drawn order."""

NAMES = {"ft": "full fine-tuning", "lp": "linear probing", "lp-ft": "LP-FT", "wise-ft": "WiSE-FT", "wise-ft-lp": "WiSE-FT-LP"}
"""What methods are called, of trees and on pages."""


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
    (seeded initial values) or ``start`` (the head of the parent, which must have one for the same classes). ``keep`` is the penalty that holds the
    model near its parent. ``grafted`` is a tuning whose grafts are put in place of ``tuning``'s own, untrained: a head that trains alone then
    reads what that tuning begins with, and a training by it goes on with these grafts.
    """

    start: Recipe
    tuning: Spec
    head: Spec
    task: str
    fit: Spec
    seed: int = 0
    head_from: Literal["fresh", "start"] = "fresh"
    keep: Spec | None = option(None, absent=None)
    grafted: Spec | None = option(None, absent=None)

    @property
    def grafts(self) -> Spec | None:
        """The tuning whose grafts it puts into its parent; None where they are there already, untrained."""
        there = isinstance(self.start, Tune) and self.start.grafted == self.tuning
        return self.grafted or (None if there else self.tuning)


@dataclasses.dataclass(frozen=True)
class Mix(_Node):
    """Backbones of several parents mixed by a merge; the head is that of the last parent.

    ``task`` is the digest of the training data on which BatchNorm statistics are re-estimated; None when the merge does not. With ``fold`` each
    part's grafts become weights first, as those of LoRA and SSF can, and the mix has none: a soup of such models is the mean of their weights.
    ``norms`` are the BatchNorms whose statistics are re-estimated: all of them, or those that trained, where others rested.
    """

    parts: tuple[Recipe, ...]
    merge: Spec
    task: str | None = None
    fold: bool = option(False, absent=False)
    norms: Literal["all", "trained"] = option("all", absent="all")


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
            keep = "" if recipe.keep is None else f"[keep={recipe.keep}]"
            grafted = "" if recipe.grafted is None else f"[grafted={recipe.grafted}]"
            return f"{recipe.tuning}{grafted}{keep}({describe(recipe.start)})"
        case Mix():
            return f"{recipe.merge}({', '.join(describe(part) for part in recipe.parts)})"


def in_words(recipe: Recipe | Mapping[str, Any]) -> str:
    """What the weights of a recipe are called, of itself or of its form in files (``to_json``): ``WiSE-FT-LP at alpha 0.3, seed 0``."""
    plain = recipe if isinstance(recipe, Mapping) else to_json(recipe)
    node, seed = plain, None
    while node["node"] != "start" and seed is None:
        seed, node = node.get("seed"), node["start"] if node["node"] == "tune" else node["parts"][-1]
    return _called(plain) + ("" if seed is None else f", seed {seed}")


def tree_in_words(plain: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """The recipe line by line, each node before those that it is made of."""
    indent = "  " * depth
    match plain["node"]:
        case "start":
            yield f"{indent}start: {_called(plain)}"
        case "tune":
            fit = plain["fit"]
            head = "its head" if plain["head_from"] == "start" else f"a fresh {plain['head']['spec']} head"
            course = "".join(f"{name} {fit[name]}, " for name in ("epochs", "lr") if name in fit)
            keep = f"; penalty {penalty_in_words(plain['keep'])}" if "keep" in plain else ""
            grafted = f" with what {plain['grafted']['spec']} grafts" if "grafted" in plain else ""
            yield f"{indent}tune {plain['tuning']['spec']}{grafted} from {head}: {course}seed {plain['seed']}, on data {plain['task']}{keep}"
            yield from tree_in_words(plain["start"], depth + 1)
        case _:
            statistics = "" if plain["task"] is None else f", BatchNorm statistics from data {plain['task']}"
            alpha = f" at alpha {float(plain['merge']['alpha']):g}" if "alpha" in plain["merge"] else ""
            folded = ", grafts folded into weights first" if plain.get("fold") else ""
            yield f"{indent}mix {plain['merge']['spec']}{alpha}{folded}{statistics}"
            for part in plain["parts"]:
                yield from tree_in_words(part, depth + 1)


def made_in_words(plain: Mapping[str, Any]) -> str:
    """How weights were made, in one line, of the recipe's form in files: ``a head trained on WiSE-FT at alpha 0.3: 100 epochs, lr 0.003``."""
    match plain["node"]:
        case "start":
            return "what everything begins with"
        case "tune":
            tuning, fit = plain["tuning"]["spec"], plain["fit"]
            done = {"full": "everything trained from", "linear": "a head trained on"}.get(tuning, f"{tuning} of")
            course = ", ".join(
                counted(fit[name], "epoch") if name == "epochs" else f"{name} {fit[name]}" for name in ("epochs", "lr") if name in fit
            )
            grafted = f" with what {plain['grafted']['spec']} grafts" if "grafted" in plain else ""
            return f"{done} {_part(plain['start'])}{grafted}{_kept(plain)}" + (f": {course}" if course else "")
        case _:
            parts = [_part(part) for part in plain["parts"]]
            if plain["merge"]["spec"] == "wise" and len(parts) == 2:
                alpha = float(plain["merge"]["alpha"])
                parts = [f"{share:.12g} x {part}" for share, part in zip((1 - alpha, alpha), parts, strict=True)]
            return " + ".join(parts)


def penalty_in_words(plain: Mapping[str, Any]) -> str:
    """A penalty in its form in files, with every option, the weight first: ``ewc: weight 10.0, fisher true``."""
    names = sorted(plain.keys() - {"spec"}, key=lambda name: (name != "weight", name))
    options = ", ".join(f"{name.replace('_', '-')} {plain[name]}" for name in names)
    return plain["spec"] + (f": {options}" if options else "")


def _kept(node: Mapping[str, Any]) -> str:
    """By what a training was held near its start."""
    if (keep := node.get("keep")) is None:
        return ""
    return f" with {keep['spec']}" + (f" of weight {float(keep['weight']):g}" if "weight" in keep else "")


def _part(node: Mapping[str, Any]) -> str:
    return "the pre-trained weights" if node["node"] == "start" else _called(node)


def _called(node: Mapping[str, Any]) -> str:
    """The method that a tree is, of the shapes in this module's docstring; what is none of them is said part by part."""
    if node["node"] == "start":
        return f"pre-trained {node['backbone']['spec']}#{node['weights'][:8]}"
    if node["node"] == "mix":
        alpha = f" at alpha {float(node['merge']['alpha']):g}" if node["merge"]["spec"] == "wise" else ""
        if _is_wise(node):
            return f"{NAMES['wise-ft']}{_of(node['parts'][-1])}{alpha}{_kept(node['parts'][-1])}"
        return f"{node['merge']['spec']}{alpha} of {' and '.join(map(_called, node['parts']))}"
    tuning, parent = node["tuning"]["spec"], node["start"]
    rate = f" (lr {node['fit']['lr']})" if "lr" in node["fit"] else ""
    kept = _kept(node)
    if _tuned(node, "full"):
        return f"{NAMES['ft']}{rate}{kept}"
    if _tuned(node, "linear"):
        return f"{NAMES['lp']}{_beside(node)}{kept}"
    if tuning != "linear" and _tuned(parent, "linear") and node["head_from"] == "start":
        return f"{NAMES['lp-ft']}{_of(node)}{rate}{kept}"
    if tuning == "linear" and not kept and (_is_wise(parent) or (parent["node"] == "tune" and parent["start"]["node"] == "start")):
        tuned, alpha = (parent["parts"][-1], float(parent["merge"]["alpha"])) if parent["node"] == "mix" else (parent, 1)
        return f"{NAMES['wise-ft-lp']}{_of(tuned)} at alpha {alpha:g}{_kept(tuned)}"
    return f"{tuning}{kept}" + ("" if parent["node"] == "start" else f" of {_called(parent)}")


def _beside(node: Mapping[str, Any]) -> str:
    """Whose grafts a head reads that trains alone."""
    return f" beside an untrained {node['grafted']['spec']}" if "grafted" in node else ""


def _of(tuned: Mapping[str, Any]) -> str:
    """How the fine-tuned end of a line was tuned, where that is not as a whole."""
    tuning = tuned["tuning"]["spec"]
    return "" if tuning == "full" else f" of {tuning}"


def _tuned(node: Mapping[str, Any], tuning: str) -> bool:
    """Whether it is a start tuned so, and nothing else."""
    return node["node"] == "tune" and node["tuning"]["spec"] == tuning and node["start"]["node"] == "start"


def _is_wise(node: Mapping[str, Any]) -> bool:
    """Whether it is a start mixed with what was tuned from that start."""
    if node["node"] != "mix" or node["merge"]["spec"] != "wise" or len(node["parts"]) != 2:
        return False
    start, tuned = node["parts"]
    return tuned["node"] == "tune" and tuned["start"] == start
