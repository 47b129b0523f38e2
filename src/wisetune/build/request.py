"""What is asked for, in words, and the job that it means. The command line and ``Classifier`` share it, and its defaults.

Importing this module does not import torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, get_args

from wisetune.errors import UsageError, did_you_mean, naming

if TYPE_CHECKING:
    from wisetune.build.job import Job
    from wisetune.keep.penalty import Penalty
    from wisetune.measure.corruption import Corruption
    from wisetune.measure.measure import Measure
    from wisetune.nets.files.pretrained import Pretrained
    from wisetune.stories.story import Story

Rule = Literal["interval", "greedy"]
_PROBES = ("demo:objects",)
NONE = "none"
"""What stands for no corruption measure, and in the place of a probe for none."""
_OPTIONS = {
    "on": "--on",
    "probes": "--probe",
    "measures": "--measure",
    "head": "--head",
    "fit": "--fit",
    "head_fit": "--head-fit",
    "corruption": "--corruption",
    "tuning": "--tuning",
    "keep": "--keep",
}
"""How fields of a request are called on the command line."""
_DEFAULT_PROBE = "robustness is measured on the bundled clean CAD objects (demo:objects). Give your own with"
NO_PROBE = f"No --probe was given: {_DEFAULT_PROBE} --probe TASK."
NO_PROBES = f"No probes were given: {_DEFAULT_PROBE} probes=[TASK]."
"""The same to whoever asked in Python."""
UNPROBED = "Robustness was not measured, as no probe was wanted: what tuning takes from the backbone is not seen here."


@dataclasses.dataclass(frozen=True)
class Request:
    """A job in words, each spelled as on the command line. Without ``probes`` robustness is measured on the bundled objects; with ``none`` it is not.

    ``backbone`` is the architecture of a released checkpoint given as ``start``, and ``family`` whose it is where that is another's.
    ``corruption`` may be ``none`` too. ``keep`` is the penalty of every training of a backbone.
    """

    on: str
    start: str = "point-mae-mini"
    story: str = "wise-ft-lp"
    backbone: str | None = None
    probes: tuple[str, ...] = ()
    probe_c: str = "cv"
    measures: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    head: str = "linear"
    fit: str = "epochs=30,lr=0.001,drop-path=0.1"
    head_fit: str = "epochs=100,batch=64,lr=0.003,augment=none,warmup=0"
    corruption: str = "items=300"
    rule: Rule = "interval"
    family: str | None = None
    tuning: str = "full"
    keep: str | None = None


def weights_of(request: Request) -> Pretrained:
    """The pre-trained weights that a request names; ``keep_start`` puts them into a store.

    Raises:
        UsageError: there are none of this name.
        BadFile, WeightsError: they cannot be used.
    """
    from wisetune.nets.files.pretrained import resolve

    return resolve(request.start, request.backbone, family=request.family)


def job_of(request: Request, weights: Pretrained, given: Collection[str] = (), *, typed: bool = False) -> Job:
    """The job that a request means; the names in ``given`` are data that the caller holds, not tasks to be loaded.

    Errors in a request that was ``typed`` name the option that brought them; what is said of one that was not is in Python's words.

    Raises:
        UsageError: a word that means nothing; no data were loaded before it was found.
        DataError: a path that is not there.
    """
    from wisetune.build.job import Job
    from wisetune.build.official import fit_of
    from wisetune.data.tasks import parse_task
    from wisetune.measure.measures import MEASURES
    from wisetune.measure.svm import Svm
    from wisetune.nets.heads import parse_head
    from wisetune.recipe import Start
    from wisetune.tune.full import FULL
    from wisetune.tune.tunings import TUNINGS

    def of(field: str) -> AbstractContextManager[None]:
        return naming(_OPTIONS[field] if typed else "")

    if not request.seeds:
        raise UsageError("a job needs at least one training seed, and none was given.")
    rules = get_args(Rule)
    if request.rule not in rules:
        raise UsageError(f"there is no rule '{request.rule}' for alpha.{did_you_mean(request.rule, rules)} There are: {', '.join(rules)}.")
    if not request.probes:
        _check_default_probe(request.start, weights, "--probe TASK, for example --probe folder:DIR" if typed else "probes=['folder:DIR']")
    called = request.backbone or request.start
    with of("fit"):
        fit = fit_of(request.fit, Request.fit, weights.spec, called)
    with of("head_fit"):
        head_fit = fit_of(request.head_fit, Request.head_fit, weights.spec, called, frozen=True)
    on = request.on
    if on not in given:
        with of("on"):
            on = str(parse_task(on))
    measures: list[Measure] = []
    for text in _probes(request, of("probes")):
        with of("probes"):
            measures.append(Svm(str(parse_task(text)), request.probe_c))
    for text in request.measures:
        with of("measures"):
            measures.append(MEASURES.parse(text))
    with of("head"):
        head = parse_head(request.head)
    with of("tuning"):
        tuning = TUNINGS.parse(request.tuning)
    with of("corruption"):
        corruption = _corruption(request.corruption)
    job = Job(
        story=_story(request.story),
        start=Start(weights.spec, weights.digest),
        on=on,
        measures=tuple(measures),
        head=head,
        fit=fit,
        gentle_fit=dataclasses.replace(fit, lr=fit.lr / 10),
        head_fit=head_fit,
        seeds=request.seeds,
        rule=request.rule,
        corruption=corruption,
        source=request.start,
        tuning=tuning,
        warnings=(*_of_probes(request, measures, typed=typed), *_notes(request, weights)),
        keep=None if request.keep is None else _penalty(request.keep, of("keep")),
    )
    with of("probes"):
        _check_unprobed(job, typed=typed)
    if job.keep is not None:
        with of("keep"):
            _check_keep(job)
    if job.tuning != FULL:
        with of("tuning"):
            _check_tuning(job)
    return job


def _probes(request: Request, named: AbstractContextManager[None]) -> tuple[str, ...]:
    """The probes, as they are spelled."""
    if NONE not in request.probes:
        return request.probes or _PROBES
    if len(request.probes) > 1:
        with named:
            others = ", ".join(text for text in request.probes if text != NONE)
            raise UsageError(f"{NONE} stands for no probe, and there is another: {others}. Leave one of them out.")
    return ()


def _of_probes(request: Request, measures: Collection[Measure], *, typed: bool) -> Iterator[str]:
    """What must be said where no probe was given, or none was wanted."""
    if not request.probes:
        yield NO_PROBE if typed else NO_PROBES
    elif not any(measure.of_backbone for measure in measures):
        yield UNPROBED


def _check_unprobed(job: Job, *, typed: bool) -> None:
    """An alpha is chosen for robustness: accuracy alone would choose the end that fine-tuning is."""
    if job.story.sweeps and not any(measure.of_backbone for measure in job.measures):
        give, compares = ("--probe TASK", "; or wisetune compare") if typed else ("probes=['folder:DIR']", "")
        raise UsageError(
            f"{job.story.name} chooses alpha for the robustness that a probe measures, and none was to be measured. Give a probe ({give}), or take a "
            f"story that chooses no alpha: ft, lp or lp-ft{compares}."
        )


def _notes(request: Request, weights: Pretrained) -> Iterator[str]:
    """What must be said of the weights and of their architecture."""
    from wisetune.build.official import of_parts

    yield from (f"{weights.source}: {note}." for note in weights.notes)
    if request.backbone and of_parts(request.backbone):
        yield (
            f"{request.backbone} is a setting of part segmentation, which is not trained here: what is tuned is a classifier on the backbone of "
            "that setting."
        )


def idle_options(request: Request, job: Job) -> tuple[str, ...]:
    """What to tell whoever gave options for a kind of training that the story has none of, a sentence each."""
    from wisetune.recipe import Tune, walk

    fits = {node.fit for tree in job.story.recipes(job.setting).values() for node in walk(tree) if isinstance(node, Tune)}
    told = []
    if request.fit != Request.fit and not fits & {job.fit, job.gentle_fit}:
        told.append(f"--fit does nothing here: {job.story.name} trains heads alone, as --head-fit says ({request.head_fit}).")
    if request.head_fit != Request.head_fit and job.head_fit not in fits:
        told.append(f"--head-fit does nothing here: {job.story.name} trains no head on frozen features; --fit says how it trains.")
    if request.probe_c != Request.probe_c and request.probes == (NONE,):
        told.append("--probe-c does nothing here: there is no probe.")
    return tuple(told)


def _check_default_probe(start: str, weights: Pretrained, way: str) -> None:
    from wisetune.data.demo import POINTS
    from wisetune.nets.backbone import build_empty

    wanted = build_empty(weights.spec).points
    if wanted > POINTS:
        raise UsageError(
            f"the default probe, the bundled objects (demo:objects), has clouds of {POINTS} points, and the backbone of {start} takes "
            f"{wanted}. Give labelled data of other objects with {way}."
        )


def _penalty(text: str, named: AbstractContextManager[None]) -> Penalty:
    from wisetune.keep.penalties import PENALTIES

    with named:
        return PENALTIES.parse(text)


def _check_keep(job: Job) -> None:
    from wisetune.build.kept import check_keeps
    from wisetune.recipe import Tune, walk

    trees = list(job.story.recipes(job.setting).values())
    if not any(isinstance(node, Tune) and node.keep is not None for tree in trees for node in walk(tree)):
        raise UsageError(
            f"the story '{job.story}' trains no backbone, which '{job.keep}' could hold near its start. Leave it out, or take a story that does: "
            "ft, lp-ft, wise-ft or wise-ft-lp."
        )
    for tree in trees:
        check_keeps(tree)


def _check_tuning(job: Job) -> None:
    """A story that says itself what trains would leave out what was asked for, and nothing of its page would say so."""
    from wisetune.tune.full import FULL

    if job.story.recipes(job.setting) == job.story.recipes(dataclasses.replace(job.setting, tuning=FULL)):
        raise UsageError(
            f"the story '{job.story}' says itself what trains, and '{job.tuning}' would not be used. Leave it out, or take a story that tunes so: "
            "ft, lp-ft, wise-ft or wise-ft-lp. Several tunings are compared by wisetune compare --tunings."
        )


def _story(text: str) -> Story:
    from wisetune.stories.stories import STORIES

    name, _ = STORIES.divide(text)
    if ":" not in name and "." not in name and name not in STORIES.names():
        raise UsageError(f"there is no story '{name}'.{did_you_mean(name, STORIES.names())} There are:\n{stories()}")
    return STORIES.parse(text)


def stories() -> str:
    """Every story with what it is, a line each."""
    from wisetune.stories.stories import STORIES

    return "\n".join(f"  {name:11} {(STORIES.entry(name).__doc__ or '').splitlines()[0]}" for name in STORIES.names())


def _corruption(text: str) -> Corruption | None:
    from wisetune.measure.corruption import Corruption
    from wisetune.spec import option_names

    if text == NONE:
        return None
    if text and "=" not in text:
        raise UsageError(
            f"'{text}' is no option of the corruption measure; it can be none, or options such as items=300. Options: {option_names(Corruption)}."
        )
    return Corruption.from_options(text)
