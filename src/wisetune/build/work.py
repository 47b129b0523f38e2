"""How much there is to do: for the bar, and for ``--dry-run``."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from typing import Any

import torch
from torch import nn

from wisetune.build.builder import kinds_of
from wisetune.build.costs import looks_for_costs
from wisetune.build.experiment import Experiment
from wisetune.build.meter import COST, HEAD, KEEP, LOOK, MIX, NOTHING, Work, weigh
from wisetune.build.runner import Runner, looker
from wisetune.build.study import study_of
from wisetune.errors import part_of
from wisetune.fit.fit import Fit
from wisetune.keep.penalty import Penalty
from wisetune.measure.accuracy import Accuracy
from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.nets.create import fresh_backbone, fresh_head
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Recipe, Start, Tune, digest, walk
from wisetune.store.store import Left
from wisetune.tune.tuning import Tuning

_TRIAL = 32
_STEPS = 20


def work(runner: Runner) -> Work:
    """The clouds that a job looks at, what the store already has left out."""
    experiment, job = runner.experiment, runner.experiment.job
    trees = experiment.trees()
    nodes = {node for tree in trees.values() for node in walk(tree)}
    left = runner.left()
    total = Counter[str]()
    for node in nodes:
        total.update(_cost(experiment, node, left))
    for measure in (Accuracy(), *job.measures):
        # Most measures share the features of a backbone: a head more costs nothing.
        todo = {looker(tree, measure) for tree in trees.values() if not runner.measured(tree, measure)}
        total[measure.name] += len(todo) * measure.cost(experiment.downstream, experiment.task)
    if job.corruption is not None:
        name, each = job.corruption.name, job.corruption.cost(experiment.downstream, experiment.task)
        spoilt = {place for place, tree in trees.items() if runner.measured(tree, job.corruption)}
        for seed in job.seeds:
            total[name] += each * sum((seed, variant) not in spoilt for variant in experiment.corrupted_variants())
            # The recommended model beside the baselines, of which it is not known before which it will be.
            named = {(seed, variant) for of, variant in trees if of == seed and variant.method == job.story.headline}
            total[name] += each * (not named & spoilt and not named <= {(seed, variant) for variant in experiment.corrupted_variants()})
    total[COST] += looks_for_costs(experiment, runner.builder)
    return {kind: float(clouds) for kind, clouds in total.items() if clouds}


def earlier(runner: Runner) -> list[str]:
    """What an earlier session left, in words; nothing where there is nothing."""
    experiment, left = runner.experiment, runner.left()
    trees = list(dict.fromkeys(experiment.trees().values()))
    there = _built(runner)
    lines = [f"{part_of(there, len(trees), 'model', 'is', 'are')} in the store already; going on."] if there else []
    for node in dict.fromkeys(node for tree in trees for node in walk(tree) if isinstance(node, Tune)):
        if epoch := left.begun.get(digest(node), 0):
            assert isinstance(node.fit, Fit)
            lines.append(
                f"Of {experiment.called(node)}, {part_of(epoch, node.fit.epochs, 'epoch', 'was', 'were')} done before; going on with epoch {epoch + 1}."
            )
    return lines


def _built(runner: Runner) -> int:
    """How many models the store has already."""
    done = runner.left().done
    return sum(digest(tree) in done for tree in dict.fromkeys(runner.experiment.trees().values()))


def plan(runner: Runner) -> dict[str, Any]:
    """What would be done, and about how long it takes here: a few clouds are tried."""
    experiment = runner.experiment
    trees = experiment.trees()
    nodes = {node for tree in trees.values() for node in walk(tree)}
    todo, (speed, head_speed) = work(runner), _speeds(experiment, runner.device)
    clouds = weigh({kind: count for kind, count in todo.items() if kind != HEAD})
    study = dataclasses.asdict(study_of(experiment))
    return {
        **{name: study[name] for name in ("story", "start", "architecture", "task", "probes", "seeds", "head", "fit", "head_fit", "keep")},
        "parameters": sum(value.numel() for value in build_empty(_architecture(experiment)).parameters()),
        "models": len(set(trees.values())),
        "built": _built(runner),
        "trainings": sum(isinstance(node, Tune) for node in nodes),
        "mixes": sum(isinstance(node, Mix) for node in nodes),
        "clouds": clouds,
        "clouds_per_second": speed,
        "seconds": clouds / speed + todo.get(HEAD, 0.0) / head_speed,
    }


def _cost(experiment: Experiment, node: Recipe, left: Left) -> Work:
    if isinstance(node, Start) or digest(node) in left.done:
        return NOTHING
    train = float(len(experiment.downstream.train))
    if isinstance(node, Mix):
        return NOTHING if node.task is None else {MIX: train}
    assert isinstance(node.fit, Fit)
    kind, made = kinds_of(node)
    assert isinstance(node.tuning, Tuning)
    looks = train * (node.fit.epochs - left.begun.get(digest(node), 0))
    # A penalty is prepared anew where a training goes on.
    held = node.keep.cost(len(experiment.downstream.train), len(experiment.downstream.classes)) if isinstance(node.keep, Penalty) else 0
    again = train * ((made and looks > 0) + node.tuning.looks_back)
    return {kind: looks, KEEP: float(held)} | {LOOK: again + (looks if kind == LOOK else 0.0)}


def _speeds(experiment: Experiment, device: torch.device) -> tuple[float, float]:
    """Clouds a second on this machine that a backbone looks at, and that a head trains on; whatever the weights are, the work is the same."""
    backbone = fresh_backbone(_architecture(experiment), 0)
    model = Model(backbone, nn.Identity()).to(device).eval()
    points = torch.from_numpy(experiment.downstream.train.points[:_TRIAL]).to(device)
    with torch.inference_mode():
        model.features(points[:2])  # kernels are compiled, memory is touched
        began = time.perf_counter()
        width = model.features(points).shape[1]
        looks = len(points) / max(time.perf_counter() - began, 1e-6)
    head = fresh_head(experiment.job.head, backbone, len(experiment.downstream.classes), 0).to(device)
    features = torch.zeros(min(experiment.job.head_fit.batch, len(experiment.downstream.train)), width, device=device)
    optimiser = torch.optim.AdamW(head.parameters())
    began = time.perf_counter()
    for step in range(_STEPS):
        began = time.perf_counter() if step == 1 else began
        head(features).sum().backward()
        optimiser.step()
    return looks, (_STEPS - 1) * len(features) / max(time.perf_counter() - began, 1e-6)


def _architecture(experiment: Experiment) -> BackboneSpec:
    assert isinstance(experiment.job.start.backbone, BackboneSpec)
    return experiment.job.start.backbone
