"""What ``wisetune run`` and ``wisetune compare`` are asked alike: their options, each with its help, once.

Importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from wisetune.build.request import Request
from wisetune.cli.kinds import Count, Measures, Options, Task, Tasks, Weights, Word, WordOrNone
from wisetune.errors import UsageError

From = Annotated[Weights, Parameter(name="--from")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to begin with, what to tune on, how, and what to measure."""

    from_: From
    """Pre-trained weights: a shipped name (point-mae-mini), a file, or random:point-mae-mini."""
    on: Task
    """The task to tune on: folder:DIR, npz:FILE, demo:scans, with options such as val=0.2 or seed=1."""
    out: Path
    """Folder for the report, the tables, the model, and the store from which a killed run goes on."""
    backbone: WordOrNone = None
    """The architecture of a released checkpoint given with --from, for example point-mae-scanobjectnn."""
    family: WordOrNone = None
    """Whose that checkpoint is, where the backbone is to begin with another family's encoder: recon with a point-mae."""
    probe: Tasks = ()
    """Labelled data of other objects, where a linear SVM of features measures robustness; given once or more, or none. Default: demo:objects."""
    measure: Measures = ()
    """A further measure, for example transfer:on=[folder:other]; may be given several times."""
    probe_c: Word = Request.probe_c
    """C of the probes' SVM: cv chooses it by cross-validation for every backbone; a number fixes it."""
    seeds: Count = 1
    """How many training seeds (0, 1, ...). Differences between methods need at least 3."""
    head: Word = Request.head
    """linear, or mlp1, mlp2, mlp3 (the heads of published classifiers; wisetune options mlp3)."""
    fit: Options = Request.fit
    """Options of fine-tuning, for example epochs=50,lr=0.0005,select=best, or official (the released code's); wisetune options fit lists them all."""
    head_fit: Options = Request.head_fit
    """Options of training a head on frozen features, as linear probing does; of the same kind."""
    corruption: Options = Request.corruption
    """Options of the corruption measure (items=0 takes all test clouds; wisetune options corruption lists them), or none."""

    def request(self, story: str, **more: Any) -> Request:
        """The request for this story; ``more`` are fields of it that not all commands are asked."""
        return Request(
            on=self.on,
            start=self.from_,
            story=story,
            backbone=self.backbone,
            family=self.family,
            probes=self.probe,
            measures=self.measure,
            probe_c=self.probe_c,
            seeds=seeds_of(self.seeds),
            head=self.head,
            fit=self.fit,
            head_fit=self.head_fit,
            corruption=self.corruption,
            **more,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AskedOfCompare(Asked):
    """What compare is asked: the same, with defaults of its own."""

    from_: From = Request.start
    seeds: Count = 3
    corruption: Options = "none"


def seeds_of(count: int) -> tuple[int, ...]:
    """So many training seeds, from 0 on."""
    if count < 1:
        raise UsageError(f"--seeds is {count}; it must be at least 1.")
    return tuple(range(count))
