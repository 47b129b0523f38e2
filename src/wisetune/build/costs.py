"""What tunings of one start cost, side by side: of shapes alone what is counted, and the time of a training step, which is measured here.

What is counted is counted anew each time, in seconds; the store keeps times alone, those of one machine. All at one batch, so that it is tunings
that differ. A step is that of ``fit``: with clouds augmented and grouped anew, or of a head that trains alone
on features that are kept, or of late blocks on tokens that are, as the training has it. A penalty is in none of these numbers.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import statistics
import time
from collections.abc import Mapping
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from wisetune.build.builder import Builder, backbone_of
from wisetune.build.experiment import Experiment
from wisetune.build.memory import grafted, memory_of
from wisetune.build.meter import COST
from wisetune.canonical import digest_of
from wisetune.errors import UsageError
from wisetune.fit.finetune import Labelled, tune
from wisetune.fit.fit import Fit
from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.nets.create import headed, parse_any_head
from wisetune.nets.features import FeatureBank
from wisetune.nets.headed import Headed
from wisetune.nets.macs import macs
from wisetune.nets.model import Model
from wisetune.recipe import Start, Tune, digest
from wisetune.records import Record
from wisetune.results import Cost
from wisetune.runtime import processor, stamp
from wisetune.tune.tuning import Tuning, resting

VERSION = 3
"""Counts changes of what is timed here and how: what a store holds of another version is timed again."""
_ROUNDS = 3
"""In which all tunings take turns, so that what else the machine does falls on all of them."""
_STEPS = 2
"""Of each round, after one that is not counted: it makes what is made once."""
_LOOKS = 1 + _STEPS
"""How often a round looks at the clouds of a step."""
_ENOUGH_S = 20.0
"""A tuning whose steps took so long has no further round."""
_SLOW = 1e-6
"""A learning rate at which nothing diverges; a step takes as long at any."""


def costs_of(experiment: Experiment, builder: Builder) -> tuple[dict[str, Cost], list[dict[str, Any]]]:
    """By method what the story's ways to tune the start cost, where it asks for that, and with what their times were measured.

    The store keeps the times of all of them together: those of different days would not compare.
    """
    trees, batch, key = _asked(experiment, builder)
    if not trees:
        return {}, []
    data, device, records = experiment.downstream, str(builder.bank.device), builder.store.get_records(key, key)
    if records is None:
        records = [
            Record(digest(trees[name]), "costs", data.name, data.training_digest, "train", name, value, batch, value, value)
            for name, value in _timed(experiment, builder, trees, batch).items()
        ]
        builder.store.put_records(key, key, records, stamp(device) | {"processor": processor(device)})
    seconds, costs = {record.name: record.value for record in records}, dict[str, Cost]()
    for name, tree in trees.items():
        builder.meter.stage(f"counting what {builder.called(tree)} costs")
        costs[name] = dataclasses.replace(cost_of(tree, data.classes, batch), step_seconds=seconds[name])
    return costs, [builder.store.stamp(key, key)]


def looks_for_costs(experiment: Experiment, builder: Builder) -> int:
    """How many clouds are looked at to tell times that the store has not."""
    trees, batch, key = _asked(experiment, builder)
    return 0 if not trees or builder.store.get_records(key, key) is not None else _ROUNDS * _LOOKS * batch * len(trees)


def _asked(experiment: Experiment, builder: Builder) -> tuple[dict[str, Tune], int, str]:
    """The trees of the first seed by method, the clouds of a step, and the name of their times on this machine in the store."""
    job, found = experiment.job, dict[str, Tune]()
    for (seed, variant), tree in experiment.trees().items() if job.story.costs else ():
        if seed == job.seeds[0] and isinstance(tree, Tune) and isinstance(tree.start, Start):
            found[variant.method] = tree
    batch = min(job.fit.batch, len(experiment.downstream.train))
    names = {name: digest(tree) for name, tree in found.items()}
    device = str(builder.bank.device)
    return found, batch, digest_of(["costs", VERSION, names, batch, stamp(device), processor(device)])


def cost_of(tree: Tune, classes: tuple[str, ...], batch: int) -> Cost:
    """All but the time. What reads values while it runs is not counted, as there are none: it is None."""
    assert isinstance(tree.tuning, Tuning)
    assert isinstance(tree.fit, Fit)
    assert isinstance(tree.start, Start)
    assert isinstance(tree.start.backbone, BackboneSpec)
    plain = headed(build_empty(tree.start.backbone), parse_any_head(str(tree.head)), classes, 0)
    assert isinstance(plain, Model)
    model = grafted(tree.tuning, plain)
    trained = tree.tuning.trained(model)
    values = {name: value.numel() for name, value in model.named_parameters()}
    trainable = sum(values[name] for name in trained)
    cost = Cost(trainable, trainable / sum(values.values()), batch, _delta_bytes(tree.tuning, plain, model, set(trained)))
    try:
        memory = memory_of(tree.tuning, plain, batch, recompute=tree.fit.recompute)
    except UsageError:
        return cost
    work = macs(model)
    return dataclasses.replace(cost, macs_published=work.published, macs_true=work.true, memory_peak=memory.peak, memory_held=memory.held)


def _delta_bytes(tuning: Tuning, plain: Headed, model: Headed, trained: set[str]) -> int:
    """Of what a delta file holds: the head, all that was grafted, of the backbone what trains, and statistics that training moves."""
    before = plain.backbone.state_dict()
    places = {id(part): f"{name}." for name, part in model.backbone.named_modules()}
    norms = [part for top in tuning.in_training(model) for part in top.modules() if isinstance(part, _BatchNorm)]
    moved = {f"{places[id(norm)]}{key}" for norm in norms if id(norm) in places for key, _ in norm.named_buffers()}
    moved |= {name.removeprefix("backbone.") for name in trained}
    held = [value for name, value in model.backbone.state_dict().items() if name not in before or name in moved]
    return sum(value.numel() * value.element_size() for value in (*held, *model.head.state_dict().values()))


def _timed(experiment: Experiment, builder: Builder, trees: Mapping[str, Tune], batch: int) -> dict[str, float]:
    """Seconds of a training step of each: the median of several."""
    found: dict[str, list[float]] = {name: [] for name in trees}
    for _ in range(_ROUNDS):
        for name, tree in trees.items():
            builder.meter.stage(f"timing training steps of {builder.called(tree)}")
            if sum(found[name]) < _ENOUGH_S:
                found[name] += _steps(experiment, builder, tree, batch)
            builder.meter.advance(_LOOKS * batch, COST)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _steps(experiment: Experiment, builder: Builder, tree: Tune, batch: int) -> list[float]:
    """Seconds of a few steps on the first clouds, by the training's own loop: a step is an epoch of as many clouds as it takes."""
    assert isinstance(tree.tuning, Tuning)
    assert isinstance(tree.fit, Fit)
    model, train = copy.deepcopy(builder.model(tree)), experiment.seen(tree.fit).train
    ends = list[float]()
    tune(
        model,
        tree.tuning.freeze(model),
        dataclasses.replace(tree.fit, epochs=_LOOKS, batch=batch, select="last", lr=_SLOW),
        Labelled(train.points[:batch], train.labels[:batch], train.names[:batch], f"the first {batch} of {train.digest}"),
        None,
        tree.seed,
        frozen_key=None if tree.tuning.moves_features else digest(backbone_of(tree)),
        in_training=tree.tuning.in_training(model),
        first=resting(tree.tuning, model),
        bank=FeatureBank(builder.bank.device),
        own=tree.tuning.term,
        progress=lambda *_: ends.append(time.perf_counter()),
    )
    return [after - before for before, after in itertools.pairwise(ends)]
