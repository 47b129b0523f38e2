"""An experiment in words and counts: what a reader needs to judge and repeat it."""

from __future__ import annotations

import numpy as np

from wisetune.build.experiment import ON_TEST, Experiment
from wisetune.fit.fit import Fit, Select
from wisetune.results import DataSet, Study, Variant

_CHOICE = (
    "alpha was chosen on validation data: accuracy on the validation part of the downstream task, robustness on the validation part of the "
    "probes. "
)
_TESTED = "Test parts were measured and not used for any choice. "
_UNTESTED = "The downstream task has no test part: what is shown of it was measured on its validation part. "
_WEIGHTS: dict[Select, str] = {
    "last": "the last epoch's.",
    "best": "those of the epoch best on the validation part.",
    "best-on-test": "those of the epoch best on the TEST part, whose numbers are too good by that choice.",
}
_UNCHOSEN = "The downstream task has no validation part: nothing was selected. "


def study_of(experiment: Experiment, command: str = "", best: Variant | None = None, chose: bool = False) -> Study:
    """The protocol: everything a reader needs to judge and repeat the job."""
    job = experiment.job
    names = {variant.method for _, variant in experiment.trees()}
    return Study(
        story=str(job.story),
        headline=job.story.headline,
        sweeps=list(job.story.sweeps),
        reference=job.story.reference,
        start=job.source or job.start.weights,
        architecture=str(job.start.backbone),
        start_weights=job.start.weights,
        task=_described(experiment, job.on),
        probes=[_described(experiment, text, str(measure)) for measure in job.measures for text in measure.needs],
        seeds=list(job.seeds),
        head=str(job.head),
        fit=_used(experiment, job.fit),
        tuning=str(job.tuning),
        gentle_fit=_used(experiment, job.gentle_fit),
        head_fit=_used(experiment, job.head_fit),
        rule=job.rule,
        corruption=None if job.corruption is None else str(job.corruption),
        selection=(
            (_CHOICE if chose else "")
            + (_UNTESTED if not len(experiment.downstream.test) else _TESTED if ON_TEST not in experiment.warnings else "")
            + ("" if len(experiment.downstream.val) or ON_TEST in experiment.warnings else _UNCHOSEN)
            + _weights(experiment)
        ),
        recommended=best,
        warnings=list(experiment.warnings),
        command=command,
        reproduce=[command] if command else [],
        methods={name: words for name, words in experiment.words.items() if name in names},
        keep=None if job.keep is None else str(job.keep),
    )


def _used(experiment: Experiment, fit: Fit) -> str:
    """How one kind of training is spelled; empty where the story has none of it."""
    return str(fit) if fit in experiment.fits() else ""


def _weights(experiment: Experiment) -> str:
    """Which epoch's weights are kept: one sentence, or where kinds of training differ in it one a kind."""
    kinds = dict.fromkeys((tuning.moves_features, fit.select) for tuning, fit in experiment.tunings())
    if len({select for _, select in kinds}) == 1:
        kinds = {(None, select): None for _, select in kinds}
    of = {None: "", True: " of fine-tuned models", False: " of heads that train alone"}
    return " ".join(f"Weights{of[kind]}: {_WEIGHTS[select]}" for kind, select in kinds)


def _described(experiment: Experiment, text: str, spec: str = "") -> DataSet:
    data = experiment.task(text)
    counts = {
        name: {data.classes[c]: int(n) for c, n in enumerate(np.bincount(split.labels, minlength=len(data.classes)))}
        for name, split in (("train", data.train), ("val", data.val), ("test", data.test))
    }
    return DataSet(data.name, data.digest, list(data.classes), counts, data.protocol, spec)
