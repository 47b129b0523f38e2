"""An experiment from end to end: weights, records, the chosen alpha, the model. What ``wisetune run`` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from wisetune.build.builder import Builder, backbone_of
from wisetune.build.choice import choose
from wisetune.build.costs import costs_of
from wisetune.build.experiment import Experiment
from wisetune.build.meter import Meter
from wisetune.build.study import study_of
from wisetune.build.watch import NOTHING, Spent, Watch
from wisetune.canonical import digest_of
from wisetune.data.task import Data
from wisetune.measure.accuracy import Accuracy
from wisetune.measure.measure import Measure
from wisetune.measure.subject import Subject
from wisetune.nets.features import FeatureBank
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Recipe, Start, Tune, digest, walk
from wisetune.records import EDITION
from wisetune.results import Cloud, Results, Row, Variant
from wisetune.runtime import stamp, together
from wisetune.store.store import Left, Store

_WORST = 6
"""Clouds on the page: the worst-classified, and where fewer are wrong the right ones that the model was least sure of."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a job leaves: the results, and the model at the chosen alpha (of the first seed)."""

    results: Results
    model: Model
    recipe: Recipe
    data: Data


class Runner:
    """Runs one experiment over a store, on a device."""

    def __init__(self, experiment: Experiment, store: Store, device: torch.device, meter: Meter) -> None:
        self.experiment, self.store, self.device, self.meter = experiment, store, device, Watch(meter)
        self.bank = FeatureBank(device)
        self.builder = Builder(store, experiment.data_of, self.bank, self.meter, experiment.called)
        self._rows: list[Row] = []
        self._stamps: list[dict[str, Any]] = []
        self._looked = set[tuple[str, str]]()

    def left(self) -> Left:
        """What earlier sessions left of the job's trees and of all that they are made of."""
        return self.store.left(digest(node) for tree in self.experiment.trees().values() for node in walk(tree))

    def run(self, command: str = "", before: Spent = NOTHING, keep: Callable[[Spent], None] | None = None) -> Finished:
        """Build, measure, choose. Everything is kept in the store as soon as it exists, so a killed job goes on where it was.

        ``before`` is what earlier calls of the command took; ``keep`` is given that with this call's time now and then, and at the end.
        """
        trees = self.experiment.trees()
        trainings = {digest(node) for tree in trees.values() for node in walk(tree) if isinstance(node, Tune)}
        left = self.left()
        self.meter.start(before, len(trainings & (left.done | left.begun.keys())), keep)
        try:
            results, recipe = self._run(trees, command)
        finally:
            spent = self.meter.stop()
        study = dataclasses.replace(results.study, seconds=spent.seconds, found=spent.found or 0, trainings=len(trainings))
        return Finished(dataclasses.replace(results, study=study), self.builder.model(recipe), recipe, self.experiment.downstream)

    def _run(self, trees: Mapping[tuple[int, Variant], Recipe], command: str) -> tuple[Results, Recipe]:
        job = self.experiment.job
        self._rows, self._looked, self._stamps = list[Row](), set[tuple[str, str]](), list[dict[str, Any]]()
        for seed in job.seeds:
            mine = {variant: recipe for (s, variant), recipe in trees.items() if s == seed}
            order = sorted(mine, key=_sweep_order)
            for variant, after in zip(order, [*order[1:], None], strict=True):
                for measure in (Accuracy(), *job.measures):
                    self._measure(variant, seed, mine[variant], measure)
                if after is None or backbone_of(mine[after]) != backbone_of(mine[variant]):
                    self._forget(mine[variant])
        chosen, best = choose(self._rows, job.seeds, job.rule, job.story)
        for seed in job.seeds:
            if job.corruption is not None:
                for variant in dict.fromkeys((*self.experiment.corrupted_variants(), best)):
                    self._measure(variant, seed, trees[seed, variant], job.corruption)
        recipe = trees[job.seeds[0], best]
        costs, made_with = costs_of(self.experiment, self.builder)
        self._stamps += made_with
        results = Results(
            study=dataclasses.replace(study_of(self.experiment, command, best, chose=bool(chosen)), noted=self._noted(trees)),
            stamp=self._stamp(trees),
            rows=self._rows,
            chosen=chosen,
            clouds=self._worst(recipe),
            audits=self._audits(trees),
            log={
                f"{variant.method} seed {seed}": self.builder.log(tree)
                for (seed, variant), tree in trees.items()
                if variant.alpha is None and isinstance(tree, Tune)
            },
            costs=costs,
        )
        return results, recipe

    def _stamp(self, trees: Mapping[tuple[int, Variant], Recipe]) -> dict[str, Any]:
        """With what everything here was made: weights and records that the store had already keep theirs."""
        nodes = dict.fromkeys(node for tree in trees.values() for node in walk(tree) if not isinstance(node, Start))
        return together([*map(self.store.stamp, map(digest, nodes)), *self._stamps, stamp(str(self.device))])

    def _measure(self, variant: Variant, seed: int, recipe: Recipe, measure: Measure) -> None:
        """Rows of one measure of one model, from the store if it has them."""
        of = backbone_of(recipe) if measure.of_backbone else recipe
        key = self._key(measure)
        records = self.store.get_records(digest(of), key)
        if records is None:
            model = self.builder.model(recipe)
            self.meter.stage(f"measuring {measure.name} of {self.experiment.called(recipe)}")
            subject = Subject(model, digest(of), digest(backbone_of(recipe)), self.bank)
            records = list(measure.of(subject, self.experiment.downstream, self.experiment.task))
            self.store.put_records(digest(of), key, records, stamp(str(self.device)))
            # As work.work counts them.
            looked = digest(looker(recipe, measure)), key
            if looked not in self._looked:
                self._looked.add(looked)
                self.meter.advance(measure.cost(self.experiment.downstream, self.experiment.task), measure.name)
        self._stamps.append(self.store.stamp(digest(of), key))
        # Kept records are spelled as whoever measured them spelled the measure, and its data may have moved since.
        self._rows += [Row(variant.method, variant.alpha, seed, dataclasses.replace(record, measure=str(measure))) for record in records]

    def _key(self, measure: Measure) -> str:
        # Other tasks enter by what they hold, not by where that lies.
        others = {text: _content(self.experiment.task(text)) for text in measure.needs}
        options = {name: others.get(value, value) if isinstance(value, str) else value for name, value in measure.canonical().items()}
        return digest_of([EDITION, measure.version, options, _content(self.experiment.downstream)])

    def measured(self, recipe: Recipe, measure: Measure) -> bool:
        """Whether the store has these records."""
        of = backbone_of(recipe) if measure.of_backbone else recipe
        return self.store.get_records(digest(of), self._key(measure)) is not None

    def _forget(self, recipe: Recipe) -> None:
        """Features of backbones inside the sweep are not needed again; those of its ends are."""
        backbone = backbone_of(recipe)
        if isinstance(backbone, Mix):
            self.bank.forget(digest(backbone))

    def _noted(self, trees: Mapping[tuple[int, Variant], Recipe]) -> dict[str, str]:
        """What a reader should know of trainings, by the model's name."""
        said = {self.experiment.names[tree]: self.builder.noted(tree) for tree in trees.values() if isinstance(tree, Tune)}
        return {name: words for name, words in said.items() if words}

    def _audits(self, trees: Mapping[tuple[int, Variant], Recipe]) -> dict[str, list[dict[str, Any]]]:
        """The audit of every mix, by its alpha and seed."""
        found: dict[str, list[dict[str, Any]]] = {}
        for (seed, variant), tree in trees.items():
            for node in walk(tree):
                if isinstance(node, Mix) and variant.alpha is not None:
                    found[f"alpha {variant.alpha:g}, seed {seed} ({digest(node)})"] = self.builder.log(node)
        return found

    def _worst(self, recipe: Recipe) -> list[Cloud]:
        """Test clouds worth looking at: those it gets wrong before those it gets right, of both those whose true class it finds least probable."""
        test, classes = self.experiment.downstream.test, self.experiment.downstream.classes
        if len(test) == 0:
            return []
        model = self.builder.model(recipe)
        subject = Subject(model, digest(recipe), digest(backbone_of(recipe)), self.bank)
        logits = subject.logits(test)
        probability = torch.from_numpy(logits).softmax(dim=1).numpy()
        right = logits.argmax(axis=1) == test.labels
        rows = np.lexsort((probability[np.arange(len(test)), test.labels], right))[:_WORST]
        return [
            Cloud(
                name=test.names[row],
                true=classes[test.labels[row]],
                predicted=classes[int(logits[row].argmax())],
                probability=round(float(probability[row].max()), 4),
                true_probability=round(float(probability[row, test.labels[row]]), 4),
                points=np.rint(test.points[row] * 1000).astype(int).ravel().tolist(),
            )
            for row in rows
        ]


def looker(recipe: Recipe, measure: Measure) -> Recipe:
    """Of what a measure looks at clouds once: a backbone, with whatever head, or where nothing is kept a model."""
    return backbone_of(recipe) if measure.shares_looks else recipe


def _content(data: Data) -> tuple[str, str, str]:
    """What records depend on: the clouds, which of them are scans of one object, and the name that is shown."""
    return data.digest, data.grouping, data.name


def _sweep_order(variant: Variant) -> tuple[bool, float, str]:
    """Along alpha both methods together, so that they share the features of each backbone."""
    return (variant.alpha is not None, variant.alpha or 0.0, variant.method)
