"""One job from end to end: data, trees, weights, records, the chosen alpha, the model. What ``wisetune run`` does."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from wisetune.build.builder import Builder, backbone_of
from wisetune.build.choice import Rule, choose
from wisetune.build.costs import costs_of
from wisetune.build.grafts import check_grafts
from wisetune.build.kept import check_keeps
from wisetune.build.meter import Meter
from wisetune.build.watch import NOTHING, Spent, Watch
from wisetune.build.work import looker
from wisetune.data.files import PARTS
from wisetune.data.splits import without_val
from wisetune.data.task import Data
from wisetune.data.warn import shared, warned
from wisetune.errors import DataError, UsageError, counted, naming
from wisetune.fit.finetune import Fit, Select, require_pool, require_val
from wisetune.keep.penalty import Penalty
from wisetune.measure.accuracy import Accuracy
from wisetune.measure.corruption import Corruption
from wisetune.measure.measure import Measure
from wisetune.measure.subject import Subject
from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import Head
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Recipe, Start, Tune, digest, in_words, walk
from wisetune.records import EDITION
from wisetune.results import Cloud, DataSet, Results, Row, Study, Variant, Words
from wisetune.runtime import stamp, together
from wisetune.spec import digest_of
from wisetune.store.store import Left, Store
from wisetune.stories.story import Setting, Story
from wisetune.tune.full import FULL
from wisetune.tune.tuning import Tuning

_WORST = 6
"""Clouds on the page: the worst-classified, and where fewer are wrong the right ones that the model was least sure of."""
_CHOICE = (
    "alpha was chosen on validation data: accuracy on the validation part of the downstream task, robustness on the validation part of the "
    "probes. "
)
_TESTED = "Test parts were measured and not used for any choice. "
_UNTESTED = "The downstream task has no test part: what is shown of it was measured on its validation part. "
ON_TEST = (
    "select=best-on-test was asked for: the weights are those of the epoch that was best on the test part, as in published codes. Accuracies on "
    "that part are too good by this choice, and are no evidence; take select=best or select=last for numbers that are."
)
_WEIGHTS: dict[Select, str] = {
    "last": "the last epoch's.",
    "best": "those of the epoch best on the validation part.",
    "best-on-test": "those of the epoch best on the TEST part, whose numbers are too good by that choice.",
}
_UNCHOSEN = "The downstream task has no validation part: nothing was selected. "


@dataclasses.dataclass(frozen=True)
class Job:
    """What to do. ``on`` and the measures' tasks are spelled; ``start`` names pre-trained weights that the store must have."""

    story: Story
    start: Start
    on: str
    measures: tuple[Measure, ...]
    head: Head
    fit: Fit
    gentle_fit: Fit
    head_fit: Fit
    seeds: tuple[int, ...] = (0,)
    rule: Rule = "interval"
    corruption: Corruption | None = None
    source: str = ""
    """What the weights were called when they were asked for: the page says it."""
    warnings: tuple[str, ...] = ()
    """What whoever reads the page should know first."""
    tuning: Tuning = FULL
    """How the start is tuned, where the story does not say it."""
    keep: Penalty | None = None
    """The penalty of every training of a backbone."""

    @property
    def setting(self) -> Setting:
        """What its story is told before any data are known."""
        fits = self.fit, self.gentle_fit, self.head_fit
        return Setting(self.start, "", self.head, *fits, self.seeds[0], tuning=self.tuning, keep=self.keep)


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a job leaves: the results, and the model at the chosen alpha (of the first seed)."""

    results: Results
    model: Model
    recipe: Recipe
    data: Data


class Runner:
    """Runs one job over a store. ``tasks`` loads a task by its spelling and number of points."""

    def __init__(self, job: Job, store: Store, tasks: Callable[[str, int], Data], device: torch.device, meter: Meter) -> None:
        self.job, self.store, self.meter, self.device = job, store, Watch(meter), device
        self._tasks, self._loaded = tasks, dict[str, Data]()
        self.warnings = list(job.warnings)
        assert isinstance(job.start.backbone, BackboneSpec)
        start = build_empty(job.start.backbone)
        self.points, self.complete = start.points, not start.anatomy.fresh
        self.downstream = self.task(job.on)
        sweeps = bool(job.story.sweeps)
        for text in (job.on, *(text for measure in job.measures if measure.of_backbone for text in measure.needs)):
            if lacks := without_val(self.task(text), text, chooses=sweeps):
                raise DataError(lacks)
        for name, why in job.story.left_out(job.setting).items():
            self._warn(f"{name} is left out: {why}")
        self._seen = dict[tuple[int | None, bool], Data]()
        for fit in self._fits():
            require_val(fit, len(self.downstream.test if fit.select == "best-on-test" else self.downstream.val))
            require_pool(fit, self.points)
            self.seen(fit)
            if fit.select == "best-on-test":
                self._warn(ON_TEST)
        for measure in (*job.measures, *([job.corruption] if job.corruption else [])):
            measure.check(self.downstream, self.task)
        for warning in dict.fromkeys(warning for measure in job.measures for warning in self._shared(measure)):
            self._warn(warning)
        self.bank = FeatureBank(device)
        self.builder = Builder(store, self._by_digest, self.bank, self.meter, self.called)
        self._rows: list[Row] = []
        self._stamps: list[dict[str, Any]] = []
        self._looked = set[tuple[str, str]]()

    def task(self, text: str) -> Data:
        """A task by its spelling, loaded once."""
        if text not in self._loaded:
            self._loaded[text] = self._tasks(text, self.points)
            for warning in warned(self._loaded[text]):
                self._warn(warning)
        return self._loaded[text]

    def _tunings(self) -> list[tuple[Tuning, Fit]]:
        """What trains in the story's trees, and how, each once."""
        job = self.job
        plain = dataclasses.replace(job.setting, complete=self.complete)
        nodes = (node for tree in job.story.recipes(plain).values() for node in walk(tree) if isinstance(node, Tune))
        return list(
            dict.fromkeys((node.tuning, node.fit) for node in nodes if isinstance(node.tuning, Tuning) and isinstance(node.fit, Fit))
        )

    def _fits(self) -> list[Fit]:
        """The fits of the story's trees, each once."""
        return list(dict.fromkeys(fit for _, fit in self._tunings()))

    def _used(self, fit: Fit) -> str:
        """How one kind of training is spelled; empty where the story has none of it."""
        return str(fit) if fit in self._fits() else ""

    def _weights(self) -> str:
        """Which epoch's weights are kept: one sentence, or where kinds of training differ in it one a kind."""
        kinds = dict.fromkeys((tuning.moves_features, fit.select) for tuning, fit in self._tunings())
        if len({select for _, select in kinds}) == 1:
            kinds = {(None, select): None for _, select in kinds}
        of = {None: "", True: " of fine-tuned models", False: " of heads that train alone"}
        return " ".join(f"Weights{of[kind]}: {_WEIGHTS[select]}" for kind, select in kinds)

    def seen(self, fit: Fit) -> Data:
        """The task as this fit trains and selects on it: with the points that it draws from, and with the part that it selects on as val."""
        key = fit.points_read, fit.select == "best-on-test"
        if key not in self._seen:
            data = self.downstream
            if fit.points_read is not None:
                with naming(f"pool={fit.pool} reads training clouds with {fit.points_read} points (pool-of)"):
                    denser = self._tasks(self.job.on, fit.points_read)
                if count := denser.protocol.get("repeated"):
                    self._warn(
                        f"{count} scans of {data.name} have fewer than {fit.points_read} points, from which pool={fit.pool} of the training draws: "
                        "some of their points are there twice. Give pool and pool-of as many as the scans have."
                    )
                data = dataclasses.replace(data, train=denser.train)
            self._seen[key] = dataclasses.replace(data, val=self.downstream.test) if key[1] else data
        return self._seen[key]

    def _warn(self, text: str) -> None:
        """Say it now, and wherever the numbers stand."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.meter.tell(f"warning: {text}")

    def _shared(self, measure: Measure) -> Iterator[str]:
        """Where a measure looks at the task's own clouds as if they were others."""
        for text in measure.needs:
            other = self.task(text)
            count, total = shared(self.downstream, other), sum(len(other.split(part)) for part in PARTS)
            if count:
                proves = "robustness on it rises with fine-tuning and proves nothing" if measure.of_backbone else "the numbers are too good"
                yield (
                    f"{count} of the {counted(total, 'cloud')} of {other.name} ({measure.name}) {'is' if count == 1 else 'are'} in the task "
                    f"{self.downstream.name} too: {proves}. Give data of other objects."
                )

    def trees(self) -> dict[tuple[int, Variant], Recipe]:
        """Every tree of the job by seed, and by method and alpha.

        Raises:
            UsageError: one mixes what cannot be mixed, a tuning cannot graft, or a penalty has nothing to hold.
        """
        found: dict[tuple[int, Variant], Recipe] = {}
        for seed in self.job.seeds:
            for variant, recipe in self.job.story.recipes(self._setting(seed)).items():
                check_grafts(recipe)
                check_keeps(recipe)
                found[seed, variant] = recipe
        return found

    @functools.cached_property
    def words(self) -> dict[str, Words]:
        """What pages say of the methods; of those that a penalty held, that it did."""
        words, keep = self.job.story.said(self.job.tuning), self.job.keep
        if keep is None:
            return words
        trees = self.job.story.recipes(self.job.setting).items()
        held = {variant.method for variant, tree in trees if any(isinstance(node, Tune) and node.keep is not None for node in walk(tree))}
        return {
            method: dataclasses.replace(
                said, name=f"{said.name} with {keep.name}", meaning=f"{said.meaning}, held near its start by {keep}"
            )
            if method in held
            else said
            for method, said in words.items()
        }

    @functools.cached_property
    def names(self) -> dict[Recipe, str]:
        """What the job's models are called, in the words of its tables: ``fine-tuning, low rate, seed 0``."""
        words, found = self.words, dict[Recipe, str]()
        for (seed, (method, at)), tree in self.trees().items():
            name = words[method].name if method in words else method
            alpha = "" if at is None else f" at alpha {at:g}"
            # At the ends of a sweep it is another method's model, which comes first and has that name.
            found.setdefault(tree, f"{name}{alpha}, seed {seed}")
        return found

    def called(self, recipe: Recipe) -> str:
        """The name of one of them; of what they are made of, what it is by itself."""
        return self.names.get(recipe) or in_words(recipe)

    def left(self) -> Left:
        """What earlier sessions left of the job's trees and of all that they are made of."""
        return self.store.left(digest(node) for tree in self.trees().values() for node in walk(tree))

    def run(self, command: str = "", before: Spent = NOTHING, keep: Callable[[Spent], None] | None = None) -> Finished:
        """Build, measure, choose. Everything is kept in the store as soon as it exists, so a killed job goes on where it was.

        ``before`` is what earlier calls of the command took; ``keep`` is given that with this call's time now and then, and at the end.
        """
        trees = self.trees()
        trainings = {digest(node) for tree in trees.values() for node in walk(tree) if isinstance(node, Tune)}
        left = self.left()
        self.meter.start(before, len(trainings & (left.done | left.begun.keys())), keep)
        try:
            results, recipe = self._run(trees, command)
        finally:
            spent = self.meter.stop()
        study = dataclasses.replace(results.study, seconds=spent.seconds, found=spent.found or 0, trainings=len(trainings))
        return Finished(dataclasses.replace(results, study=study), self.builder.model(recipe), recipe, self.downstream)

    def _run(self, trees: Mapping[tuple[int, Variant], Recipe], command: str) -> tuple[Results, Recipe]:
        self._rows, self._looked, self._stamps = list[Row](), set[tuple[str, str]](), list[dict[str, Any]]()
        for seed in self.job.seeds:
            mine = {variant: recipe for (s, variant), recipe in trees.items() if s == seed}
            order = sorted(mine, key=_sweep_order)
            for variant, after in zip(order, [*order[1:], None], strict=True):
                for measure in (Accuracy(), *self.job.measures):
                    self._measure(variant, seed, mine[variant], measure)
                if after is None or backbone_of(mine[after]) != backbone_of(mine[variant]):
                    self._forget(mine[variant])
        chosen, best = choose(self._rows, self.job.seeds, self.job.rule, self.job.story)
        for seed in self.job.seeds:
            if self.job.corruption is not None:
                for variant in dict.fromkeys((*self.corrupted_variants(), best)):
                    self._measure(variant, seed, trees[seed, variant], self.job.corruption)
        recipe = trees[self.job.seeds[0], best]
        costs, made_with = costs_of(self)
        self._stamps += made_with
        results = Results(
            study=dataclasses.replace(self.study(command, best, chose=bool(chosen)), noted=self._noted(trees)),
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

    def _setting(self, seed: int) -> Setting:
        job = self.job
        return dataclasses.replace(
            job.setting,
            task=self.downstream.training_digest,
            seed=seed,
            complete=self.complete,
            fit_task=self._task_of(job.fit, job.gentle_fit),
            head_task=self._task_of(job.head_fit),
            tuning=job.tuning,
        )

    def _task_of(self, *fits: Fit) -> str | None:
        """The digest of what these fits, of one kind, are trained and selected on; None where that is the task as it is measured."""
        seen = [self.seen(fit) for fit in fits if fit in self._fits()]
        return seen[0].training_digest if seen and seen[0] is not self.downstream else None

    def _by_digest(self, wanted: str) -> Data:
        known = {data.training_digest: data for data in (*self._seen.values(), *self._loaded.values())}
        if wanted not in known:
            there = ", ".join(f"{data.name} ({digest})" for digest, data in known.items())
            raise UsageError(
                f"a recipe was trained on data with the digest {wanted}, and this job has others: {there}. Give that data with --on."
            )
        return known[wanted]

    def _measure(self, variant: Variant, seed: int, recipe: Recipe, measure: Measure) -> None:
        """Rows of one measure of one model, from the store if it has them."""
        of = backbone_of(recipe) if measure.of_backbone else recipe
        key = self._key(measure)
        records = self.store.get_records(digest(of), key)
        if records is None:
            model = self.builder.model(recipe)
            self.meter.stage(f"measuring {measure.name} of {self.called(recipe)}")
            subject = Subject(model, digest(of), digest(backbone_of(recipe)), self.bank)
            records = list(measure.of(subject, self.downstream, self.task))
            self.store.put_records(digest(of), key, records, stamp(str(self.device)))
            # As work.work counts them.
            looked = digest(looker(recipe, measure)), key
            if looked not in self._looked:
                self._looked.add(looked)
                self.meter.advance(measure.cost(self.downstream, self.task), measure.name)
        self._stamps.append(self.store.stamp(digest(of), key))
        # Kept records are spelled as whoever measured them spelled the measure, and its data may have moved since.
        self._rows += [Row(variant.method, variant.alpha, seed, dataclasses.replace(record, measure=str(measure))) for record in records]

    def _key(self, measure: Measure) -> str:
        # Other tasks enter by what they hold, not by where that lies.
        others = {text: _content(self.task(text)) for text in measure.needs}
        options = {name: others.get(value, value) if isinstance(value, str) else value for name, value in measure.canonical().items()}
        return digest_of([EDITION, measure.version, options, _content(self.downstream)])

    def measured(self, recipe: Recipe, measure: Measure) -> bool:
        """Whether the store has these records."""
        of = backbone_of(recipe) if measure.of_backbone else recipe
        return self.store.get_records(digest(of), self._key(measure)) is not None

    def _forget(self, recipe: Recipe) -> None:
        """Features of backbones inside the sweep are not needed again; those of its ends are."""
        backbone = backbone_of(recipe)
        if isinstance(backbone, Mix):
            self.bank.forget(digest(backbone))

    def corrupted_variants(self) -> list[Variant]:
        """Baselines whose accuracy under corruption stands beside the chosen model's."""
        names = {variant for _, variant in self.trees()}
        return [variant for variant in (Variant("lp"), Variant("ft")) if variant in names]

    def study(self, command: str = "", best: Variant | None = None, chose: bool = False) -> Study:
        """The protocol: everything a reader needs to judge and repeat the job."""
        job = self.job
        names = {variant.method for _, variant in self.trees()}
        return Study(
            story=str(job.story),
            headline=job.story.headline,
            sweeps=list(job.story.sweeps),
            reference=job.story.reference,
            start=job.source or job.start.weights,
            architecture=str(job.start.backbone),
            start_weights=job.start.weights,
            task=self._described(job.on),
            probes=[self._described(text, str(measure)) for measure in job.measures for text in measure.needs],
            seeds=list(job.seeds),
            head=str(job.head),
            fit=self._used(job.fit),
            tuning=str(job.tuning),
            gentle_fit=self._used(job.gentle_fit),
            head_fit=self._used(job.head_fit),
            rule=job.rule,
            corruption=None if job.corruption is None else str(job.corruption),
            selection=(
                (_CHOICE if chose else "")
                + (_UNTESTED if not len(self.downstream.test) else _TESTED if ON_TEST not in self.warnings else "")
                + ("" if len(self.downstream.val) or ON_TEST in self.warnings else _UNCHOSEN)
                + self._weights()
            ),
            recommended=best,
            warnings=list(self.warnings),
            command=command,
            reproduce=[command] if command else [],
            methods={name: words for name, words in self.words.items() if name in names},
            keep=None if job.keep is None else str(job.keep),
        )

    def _described(self, text: str, spec: str = "") -> DataSet:
        data = self.task(text)
        counts = {
            name: {data.classes[c]: int(n) for c, n in enumerate(np.bincount(split.labels, minlength=len(data.classes)))}
            for name, split in (("train", data.train), ("val", data.val), ("test", data.test))
        }
        return DataSet(data.name, data.digest, list(data.classes), counts, data.protocol, spec)

    def _noted(self, trees: Mapping[tuple[int, Variant], Recipe]) -> dict[str, str]:
        """What a reader should know of trainings, by the model's name."""
        said = {self.names[tree]: self.builder.noted(tree) for tree in trees.values() if isinstance(tree, Tune)}
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
        test, classes = self.downstream.test, self.downstream.classes
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


def _content(data: Data) -> tuple[str, str, str]:
    """What records depend on: the clouds, which of them are scans of one object, and the name that is shown."""
    return data.digest, data.grouping, data.name


def _sweep_order(variant: Variant) -> tuple[bool, float, str]:
    """Along alpha both methods together, so that they share the features of each backbone."""
    return (variant.alpha is not None, variant.alpha or 0.0, variant.method)
