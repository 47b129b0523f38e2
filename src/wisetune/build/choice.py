"""From rows to the alpha to recommend. Only validation rows are looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from wisetune.build.request import Rule
from wisetune.errors import UsageError
from wisetune.results import OVER_SEEDS, Chosen, Row, Variant
from wisetune.stories.story import Story
from wisetune.weights.choose import Choice, Curve, greedy_alpha, interval_alpha


def choose(rows: Sequence[Row], seeds: Sequence[int], rule: Rule, story: Story) -> tuple[list[Chosen], Variant]:
    """The alpha of each seed by both rules, and the model to recommend.

    That is the story's headline, at the alpha that ``rule`` finds on the mean of the seeds. Where no alpha can be chosen (no sweep, or no
    probe) it is the headline as it is, at the largest alpha measured.

    Raises:
        UsageError: the story has no method of its headline's name.
    """
    rules: dict[Rule, Callable[[Curve], Choice]] = {"greedy": greedy_alpha, "interval": interval_alpha}
    chosen: list[Chosen] = []
    measured = {row.alpha for row in rows if row.method == story.headline}
    if not measured:
        raise UsageError(
            f"the story '{story}' is about '{story.headline}', but its methods are {', '.join(sorted({row.method for row in rows}))}. "
            "Name one of them as its headline."
        )
    best = Variant(story.headline, max((alpha for alpha in measured if alpha is not None), default=None))
    for name in story.sweeps:
        curves = [curve for curve in (_curve(rows, name, seed) for seed in seeds) if curve is not None]
        if len(curves) < len(seeds):
            continue
        for seed, curve in zip(seeds, curves, strict=True):
            chosen += [_chosen(name, which, seed, rules[which](curve)) for which in rules]
        choice = rules[rule](_pool(curves))
        if len(curves) > 1:
            chosen.append(_chosen(name, rule, OVER_SEEDS, choice))
        if name == story.headline:
            best = Variant(name, choice.alpha)
    return chosen, best


def _curve(rows: Sequence[Row], name: str, seed: int) -> Curve | None:
    """Accuracy and robustness over alpha; None without both. Robustness is the mean of all records of that role."""
    mine = [row for row in rows if row.method == name and row.seed == seed and row.record.split == "val"]
    accuracy = {row.alpha: row.record for row in mine if row.record.role == "accuracy" and row.alpha is not None}
    probes: dict[float, list[float]] = {alpha: [] for alpha in accuracy}
    for row in mine:
        if row.record.role == "robustness" and row.alpha is not None:
            probes[row.alpha].append(row.record.value)
    alphas = [alpha for alpha in accuracy if probes[alpha]]
    if not alphas:
        return None
    return Curve(
        alphas=alphas,
        accuracy=[accuracy[alpha].value for alpha in alphas],
        robustness=[float(np.mean(probes[alpha])) for alpha in alphas],
        n=accuracy[alphas[0]].n,
        right=[accuracy[alpha].marks or [] for alpha in alphas],
        groups=accuracy[alphas[0]].groups,
    )


def _pool(curves: Sequence[Curve]) -> Curve:
    """The mean curve of several seeds: of each item how often it was right. More seeds say nothing about other items, so these stay as many."""
    if len(curves) == 1:
        return curves[0]
    return dataclasses.replace(
        curves[0],
        accuracy=np.mean([curve.accuracy for curve in curves], axis=0).tolist(),
        robustness=np.mean([curve.robustness for curve in curves], axis=0).tolist(),
        right=np.mean([curve.right or () for curve in curves], axis=0).tolist(),
    )


def _chosen(name: str, rule: Rule, seed: int, choice: Choice) -> Chosen:
    return Chosen(name, rule, seed, choice.alpha, choice.stopped_by, choice.explain(), list(choice.steps), choice.decided)
