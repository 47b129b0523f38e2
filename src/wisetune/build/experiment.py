"""A job and its data: what it may not be is refused, and what it trains has names, before anything is trained. ``Runner`` runs it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

from wisetune.build.grafts import check_grafts
from wisetune.build.job import Job
from wisetune.build.kept import check_keeps
from wisetune.data.files import PARTS
from wisetune.data.splits import without_val
from wisetune.data.task import Data
from wisetune.data.warn import shared, warned
from wisetune.errors import DataError, UsageError, counted, naming
from wisetune.fit.fit import Fit, require_pool, require_val
from wisetune.measure.measure import Measure
from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.recipe import Recipe, Tune, in_words, walk
from wisetune.results import Variant, Words
from wisetune.stories.story import Setting
from wisetune.tune.tuning import Tuning

ON_TEST = (
    "select=best-on-test was asked for: the weights are those of the epoch that was best on the test part, as in published codes. Accuracies on "
    "that part are too good by this choice, and are no evidence; take select=best or select=last for numbers that are."
)


class Experiment:
    """One job over its data, which ``load`` reads, by a task's spelling and number of points.

    ``tell`` is given each warning once; all of them stand in ``warnings``.

    Raises:
        UsageError, DataError: the job asks for what cannot be trained or measured on these data; no store was touched.
    """

    def __init__(self, job: Job, load: Callable[[str, int], Data], tell: Callable[[str], None]) -> None:
        self.job, self._load, self._tell = job, load, tell
        self._loaded = dict[str, Data]()
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
        for fit in self.fits():
            require_val(fit, len(self.downstream.test if fit.select == "best-on-test" else self.downstream.val))
            require_pool(fit, self.points)
            self.seen(fit)
            if fit.select == "best-on-test":
                self._warn(ON_TEST)
        for measure in (*job.measures, *([job.corruption] if job.corruption else [])):
            measure.check(self.downstream, self.task)
        for warning in dict.fromkeys(warning for measure in job.measures for warning in self._shared(measure)):
            self._warn(warning)

    def task(self, text: str) -> Data:
        """A task by its spelling, loaded once."""
        if text not in self._loaded:
            self._loaded[text] = self._load(text, self.points)
            for warning in warned(self._loaded[text]):
                self._warn(warning)
        return self._loaded[text]

    def tunings(self) -> list[tuple[Tuning, Fit]]:
        """What trains in the story's trees, and how, each once."""
        job = self.job
        plain = dataclasses.replace(job.setting, complete=self.complete)
        nodes = (node for tree in job.story.recipes(plain).values() for node in walk(tree) if isinstance(node, Tune))
        return list(
            dict.fromkeys((node.tuning, node.fit) for node in nodes if isinstance(node.tuning, Tuning) and isinstance(node.fit, Fit))
        )

    def fits(self) -> list[Fit]:
        """The fits of the story's trees, each once."""
        return list(dict.fromkeys(fit for _, fit in self.tunings()))

    def seen(self, fit: Fit) -> Data:
        """The task as this fit trains and selects on it: with the points that it draws from, and with the part that it selects on as val."""
        key = fit.points_read, fit.select == "best-on-test"
        if key not in self._seen:
            data = self.downstream
            if fit.points_read is not None:
                with naming(f"pool={fit.pool} reads training clouds with {fit.points_read} points (pool-of)"):
                    denser = self._load(self.job.on, fit.points_read)
                if count := denser.protocol.get("repeated"):
                    self._warn(
                        f"{count} scans of {data.name} have fewer than {fit.points_read} points, from which pool={fit.pool} of the training draws: "
                        "some of their points are there twice. Give pool and pool-of as many as the scans have."
                    )
                data = dataclasses.replace(data, train=denser.train)
            self._seen[key] = dataclasses.replace(data, val=self.downstream.test) if key[1] else data
        return self._seen[key]

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

    def data_of(self, wanted: str) -> Data:
        """What a recipe is trained and selected on, by its digest."""
        known = {data.training_digest: data for data in (*self._seen.values(), *self._loaded.values())}
        if wanted not in known:
            there = ", ".join(f"{data.name} ({digest})" for digest, data in known.items())
            raise UsageError(
                f"a recipe was trained on data with the digest {wanted}, and this job has others: {there}. Give that data with --on."
            )
        return known[wanted]

    def corrupted_variants(self) -> list[Variant]:
        """Baselines whose accuracy under corruption stands beside the chosen model's."""
        names = {variant for _, variant in self.trees()}
        return [variant for variant in (Variant("lp"), Variant("ft")) if variant in names]

    def _warn(self, text: str) -> None:
        """Say it now, and wherever the numbers stand."""
        if text not in self.warnings:
            self.warnings.append(text)
            self._tell(f"warning: {text}")

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
        seen = [self.seen(fit) for fit in fits if fit in self.fits()]
        return seen[0].training_digest if seen and seen[0] is not self.downstream else None
