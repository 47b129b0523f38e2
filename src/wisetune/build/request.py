"""What is asked for, in words, and the job that it means. The command line and ``Classifier`` share it, and its defaults.

Importing this module does not import torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, get_args

from wisetune.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from wisetune.build.job import Job
    from wisetune.nets.pretrained import Pretrained

Rule = Literal["interval", "greedy"]
_PROBES = ("demo:objects",)
NO_PROBE = "No --probe was given: robustness is measured on the bundled clean CAD objects (demo:objects). Give your own with --probe TASK."


@dataclasses.dataclass(frozen=True)
class Request:
    """A job in words, each spelled as on the command line. Without ``probes`` robustness is measured on the bundled objects.

    ``backbone`` is the architecture of a released checkpoint given as ``start``. ``corruption`` may be ``none``.
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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever asks so should know."""
        return () if self.probes else (NO_PROBE,)


def weights_of(request: Request) -> Pretrained:
    """The pre-trained weights that a request names; ``keep_start`` puts them into a store.

    Raises:
        UsageError: there are none of this name.
        BadFile, WeightsError: they cannot be used.
    """
    from wisetune.nets.pretrained import resolve

    return resolve(request.start, request.backbone)


def job_of(request: Request, weights: Pretrained, given: Collection[str] = ()) -> Job:
    """The job that a request means; the names in ``given`` are data that the caller holds, not tasks to be loaded.

    Raises:
        UsageError: a word that means nothing; no data were loaded before it was found.
    """
    from wisetune.build.job import Job
    from wisetune.data.tasks import parse_task
    from wisetune.fit.finetune import Fit
    from wisetune.measure.corruption import Corruption
    from wisetune.measure.measures import MEASURES
    from wisetune.measure.svm import Svm
    from wisetune.nets.heads import parse_head
    from wisetune.recipe import Start
    from wisetune.stories.stories import STORIES

    if not request.seeds:
        raise UsageError("a job needs at least one training seed, and none was given.")
    rules = get_args(Rule)
    if request.rule not in rules:
        raise UsageError(f"there is no rule '{request.rule}' for alpha.{did_you_mean(request.rule, rules)} There are: {', '.join(rules)}.")
    fit = Fit.from_options(request.fit)
    probes = [str(parse_task(text)) for text in request.probes or _PROBES]
    return Job(
        story=STORIES.parse(request.story),
        start=Start(weights.spec, weights.digest),
        on=request.on if request.on in given else str(parse_task(request.on)),
        measures=(*(Svm(task, request.probe_c) for task in probes), *map(MEASURES.parse, request.measures)),
        head=parse_head(request.head),
        fit=fit,
        gentle_fit=dataclasses.replace(fit, lr=fit.lr / 10),
        head_fit=Fit.from_options(request.head_fit),
        seeds=request.seeds,
        rule=request.rule,
        corruption=None if request.corruption == "none" else Corruption.from_options(request.corruption),
        source=request.start,
        warnings=request.warnings,
    )
