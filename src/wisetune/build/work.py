"""How much there is to do: for the bar, and for ``--dry-run``."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from wisetune.build.builder import backbone_of
from wisetune.fit.finetune import Fit
from wisetune.measure.accuracy import Accuracy
from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.nets.create import fresh_backbone
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Recipe, Start, Tune, digest, in_words, walk
from wisetune.tune.tuning import Tuning

if TYPE_CHECKING:
    from wisetune.build.job import Runner
    from wisetune.store.store import Left

TRAIN = 3.0
"""A training step looks at a cloud forwards and backwards: about three times an inference."""
_TRIAL = 32


def work(runner: Runner) -> float:
    """The clouds that a job looks at, in inferences, what the store already has left out."""
    trees = runner.trees()
    nodes = {node for tree in trees.values() for node in walk(tree)}
    left = runner.left()
    total = sum(_cost(runner, node, left) for node in nodes)
    for measure in (Accuracy(), *runner.job.measures):
        # Measures share the features of a backbone: a head more costs nothing.
        todo = {backbone_of(tree) for tree in trees.values() if not runner.measured(tree, measure)}
        total += len(todo) * measure.cost(runner.downstream, runner.task)
    if runner.job.corruption is not None:
        each = runner.job.corruption.cost(runner.downstream, runner.task)
        spoilt = {place for place, tree in trees.items() if runner.measured(tree, runner.job.corruption)}
        for seed in runner.job.seeds:
            total += each * sum((seed, method) not in spoilt for method in runner.corrupted_methods())
            # The recommended model beside the baselines, of which it is not known before which it will be.
            named = {(seed, method) for of, method in trees if of == seed and method.name == runner.job.story.headline}
            total += each * (not named & spoilt and not named <= {(seed, method) for method in runner.corrupted_methods()})
    return total


def earlier(runner: Runner) -> list[str]:
    """What an earlier session left, in words; nothing where there is nothing."""
    trees, left = list(dict.fromkeys(runner.trees().values())), runner.left()
    there = sum(digest(tree) in left.done for tree in trees)
    lines = [f"{there} of {len(trees)} models are in the store already; going on."] if there else []
    for node in dict.fromkeys(node for tree in trees for node in walk(tree) if isinstance(node, Tune)):
        if epoch := left.begun.get(digest(node), 0):
            assert isinstance(node.fit, Fit)
            lines.append(f"Of {in_words(node)} {epoch} of {node.fit.epochs} epochs were done before; going on with epoch {epoch + 1}.")
    return lines


def plan(runner: Runner) -> dict[str, Any]:
    """What would be done, and about how long it takes here: a few clouds are tried."""
    trees = runner.trees()
    nodes = {node for tree in trees.values() for node in walk(tree)}
    clouds, speed = work(runner), _speed(runner)
    study = dataclasses.asdict(runner.study())
    return {
        **{name: study[name] for name in ("story", "start", "architecture", "task", "probes", "seeds", "head", "fit", "head_fit")},
        "parameters": sum(value.numel() for value in build_empty(_architecture(runner)).parameters()),
        "models": len(set(trees.values())),
        "trainings": sum(isinstance(node, Tune) for node in nodes),
        "mixes": sum(isinstance(node, Mix) for node in nodes),
        "clouds": clouds,
        "clouds_per_second": speed,
        "seconds": clouds / speed,
    }


def _cost(runner: Runner, node: Recipe, left: Left) -> float:
    if isinstance(node, Start) or digest(node) in left.done:
        return 0.0
    train = len(runner.downstream.train)
    if isinstance(node, Mix):
        return float(train) if node.task is not None else 0.0
    assert isinstance(node.fit, Fit)
    assert isinstance(node.tuning, Tuning)
    if not node.tuning.moves_features:
        return float(train)
    return TRAIN * train * (node.fit.epochs - left.begun.get(digest(node), 0))


def _speed(runner: Runner) -> float:
    """Clouds a second on this machine, from one small batch; whatever the weights are, the work is the same."""
    model = Model(fresh_backbone(_architecture(runner), 0), nn.Identity()).to(runner.device).eval()
    points = torch.from_numpy(runner.downstream.train.points[:_TRIAL]).to(runner.device)
    with torch.inference_mode():
        model.features(points[:2])  # kernels are compiled, memory is touched
        began = time.perf_counter()
        model.features(points)
    return len(points) / max(time.perf_counter() - began, 1e-6)


def _architecture(runner: Runner) -> BackboneSpec:
    assert isinstance(runner.job.start.backbone, BackboneSpec)
    return runner.job.start.backbone
