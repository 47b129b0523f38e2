"""What one job found: its protocol, rows of records, the alphas chosen, the clouds worth looking at. The report is a function of it.

``OUT/results.json`` is this value; nothing else is needed to draw the page again. ``Probing`` is what ``wisetune probe`` found.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from wisetune.errors import BadFile
from wisetune.plain import BESIDE, from_plain, to_plain
from wisetune.records import Record

FORMAT = 3
"""Raised when what a file holds changes; a file of another format is refused."""
OVER_SEEDS = -1
"""The seed of a choice that was made on the mean of all seeds."""
FOLD, FOLDS_OF = "fold", "folds_of"
"""In the protocol of a task that is one of several draws from the same clouds: its number, and what all of them are draws of."""


class Variant(NamedTuple):
    """What a study has one model of for each seed: a method, and its alpha where it has one."""

    method: str
    alpha: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A record with its place in the study: the method, its alpha where it has one, the training seed.

    Methods: ``ft``, ``lp``, ``lp-ft``, ``ft-low-lr``, and along alpha ``wise-ft`` and ``wise-ft-lp``.
    """

    method: str
    alpha: float | None
    seed: int
    record: Record = dataclasses.field(metadata=BESIDE)

    @property
    def variant(self) -> Variant:
        """Whose record it is, of whatever seed."""
        return Variant(self.method, self.alpha)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return to_plain(self)


@dataclasses.dataclass(frozen=True)
class Step:
    """One test that a rule made. Changes are in percentage points, the candidate minus what it was compared with.

    ``why`` is the reason in few words, its numbers are the fields. ``change_low`` and ``change_high`` bound the change of accuracy where the
    rule uses intervals.
    """

    alpha: float
    accuracy: float
    robustness: float
    accuracy_change: float
    robustness_change: float
    accepted: bool
    why: str
    change_low: float | None = None
    change_high: float | None = None


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The alpha that a rule (``greedy`` or ``interval``) chose for one seed on the validation split, every test it made, the reason in words.

    ``decided`` is what singled this alpha out of those accepted, or ended the search, in few words; empty in results from before it was kept.
    """

    method: str
    rule: str
    seed: int
    alpha: float
    stopped_by: str
    why: str
    steps: list[Step]
    decided: str = ""


@dataclasses.dataclass(frozen=True)
class Cloud:
    """A test cloud worth looking at: what it is, what the recommended model of the first seed took it for, and how probable it found both.

    ``points`` are coordinates in thousandths, x y z in turn.
    """

    name: str
    true: str
    predicted: str
    probability: float
    true_probability: float
    points: list[int]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A task as it was used: how many clouds of each class each split has, and what was done to it; of a probe, the measure that looks at it."""

    name: str
    digest: str
    classes: list[str]
    counts: dict[str, dict[str, int]]
    protocol: dict[str, Any]
    spec: str = ""


@dataclasses.dataclass(frozen=True)
class Words:
    """What pages say of a method: its short name, what it does, and in a legend after the name what becomes of the head along its sweep."""

    name: str
    meaning: str
    head: str = ""


@dataclasses.dataclass(frozen=True)
class Study:
    """The protocol of a job: everything a reader needs to judge and repeat it.

    ``headline`` is the method that the story is about, ``sweeps`` are the methods along alpha, ``reference`` is what all are compared with.
    ``start`` is what the weights were called when they were asked for, ``architecture`` their backbone, ``start_weights`` their digest.
    ``selection`` says what was selected on what. ``methods`` are the words for each; one without any is called by its own name.
    ``seconds`` is the wall time of all calls of the command that did something, data already loaded. Of ``trainings`` the first call ``found``
    so many in the store, done or begun: those are not in it. ``keep`` is the penalty of every training of a backbone. ``fit``, ``gentle_fit`` and
    ``head_fit`` are empty where the story has no training of that kind. ``noted`` is what a reader should know of a training, of what its penalty
    holds and what its tuning found of its grafts, by the model's name.
    """

    story: str
    headline: str
    sweeps: list[str]
    reference: str
    start: str
    architecture: str
    start_weights: str
    task: DataSet
    probes: list[DataSet]
    seeds: list[int]
    head: str
    fit: str
    gentle_fit: str
    head_fit: str
    rule: str
    corruption: str | None
    selection: str
    recommended: Variant | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    command: str = ""
    reproduce: list[str] = dataclasses.field(default_factory=list)
    methods: dict[str, Words] = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    trainings: int = 0
    found: int = 0
    tuning: str = "full"
    keep: str | None = None
    noted: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one method costs, whatever it gains.

    ``trainable`` values are a ``share`` of all that its model has; ``delta_bytes`` are those of the values that a delta file holds.
    Multiply-accumulates are of one cloud, by two conventions (``wisetune.nets.macs``); bytes of memory are of a training step on ``batch`` clouds, at
    its peak and ``held`` after its forward pass (``wisetune memory``). Both are counted from shapes, and None where a tuning cannot be looked at
    without values. ``step_seconds`` of such a step were measured where the stamp says.
    """

    trainable: int
    share: float
    batch: int
    delta_bytes: int
    macs_published: int | None = None
    macs_true: int | None = None
    memory_peak: int | None = None
    memory_held: int | None = None
    step_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that one job found.

    ``stamp`` says with which versions and on which devices everything in it was made. ``audits`` are the merge audits by what was mixed.
    ``log`` holds training logs by method and seed. ``costs`` are those of methods, where the story asks what they cost.
    """

    study: Study
    stamp: dict[str, Any]
    rows: list[Row]
    chosen: list[Chosen]
    clouds: list[Cloud]
    audits: dict[str, list[dict[str, Any]]]
    log: dict[str, list[dict[str, float]]]
    costs: dict[str, Cost] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {"format": FORMAT, **to_plain(self)}

    @classmethod
    def from_json(cls, values: Any) -> Results:
        """The inverse of ``to_json``.

        Raises:
            ValueError: the values are of another format, or not those of results; the message says which and why.
        """
        plain = dict(values) if isinstance(values, dict) else values
        if isinstance(plain, dict) and plain.pop("format", None) != FORMAT:
            raise ValueError(f"they are of format {values.get('format')}, and this version reads format {FORMAT}")
        return from_plain(cls, plain)

    @classmethod
    def read(cls, file: Path) -> Results:
        """The results in a file that ``to_json`` made.

        Raises:
            BadFile: it cannot be read, is of another format, or holds something else.
        """
        try:
            return cls.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            do = "run the run's command again, which writes this file anew, or use the wisetune that wrote it"
            raise BadFile(file, f"cannot be read as results ({error})", do) from None


@dataclasses.dataclass(frozen=True)
class Probed:
    """The accuracy of a linear SVM on one backbone's frozen features, on all ``n`` test clouds of a task in one pose.

    ``draws`` are the accuracies draw by draw of the labelled clouds, ``value`` is their mean and ``sd`` their standard deviation (None for one
    draw). ``low`` and ``high`` bound a 95 % interval over the test clouds, or the ``objects`` that they are scans of. ``seeds`` is empty
    but for the random backbones: there each draw is a mean over them, and ``seeds`` holds the mean of each. ``gain`` is the difference
    from the random backbones' ``value``, with its interval over the same test clouds; None where there are none, and for themselves.
    ``c`` holds every C used, sorted.
    """

    task: str
    per_class: int
    pose: str
    backbone: str
    value: float
    low: float
    high: float
    n: int
    sd: float | None
    draws: tuple[float, ...]
    c: tuple[float, ...]
    seeds: tuple[float, ...] = ()
    objects: int | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclasses.dataclass(frozen=True)
class Probing:
    """Every ``Probed`` of one call. ``tasks`` and ``backbones`` describe them, ``notes`` say what a reader must know beside the numbers."""

    rows: list[Probed]
    tasks: list[dict[str, Any]]
    backbones: list[dict[str, Any]]
    notes: list[str]
    c: str
    stamp: dict[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {"format": FORMAT, **to_plain(self)}
