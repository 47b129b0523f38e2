"""``wisetune compare``: ways to tune, beside one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wisetune.build.request import Request
from wisetune.cli.kinds import Count, Measures, Options, Tasks, Tunings, Weights, Word, WordOrNone
from wisetune.cli.kinds import Task as TaskText
from wisetune.cli.run import HERE, Machine, carry_out, seeds_of
from wisetune.errors import naming


def compare(
    *,
    from_: Annotated[Weights, Parameter(name=("--from",))] = Request.start,
    on: TaskText,
    out: Path,
    tunings: Tunings = ("all",),
    backbone: WordOrNone = None,
    family: WordOrNone = None,
    probe: Tasks = (),
    measure: Measures = (),
    probe_c: Word = Request.probe_c,
    seeds: Count = 3,
    head: Word = Request.head,
    fit: Options = Request.fit,
    head_fit: Options = Request.head_fit,
    corruption: Options = "none",
    machine: Machine = HERE,
) -> int:
    """Ways to tune, beside full fine-tuning and linear probing: on your data, at the same budget, with the same seeds.

    Each trains on the same clouds with the same options and epochs; differences to full fine-tuning are paired by seed and by cloud. What each costs
    (values that train, multiply-accumulates, memory, time, the size of its file) stands beside what it gains and forgets.

    Parameters
    ----------
    from_
        Pre-trained weights: a shipped name (point-mae-mini), a file, or random:point-mae-mini.
    on
        The task to tune on: folder:DIR, npz:FILE, demo:scans, with options such as val=0.2 or seed=1.
    out
        Folder for the report, the tables, and the store from which a killed run goes on.
    tunings
        all, or such as dapt lora:rank=8 vpt; wisetune options lists them.
    backbone
        The architecture of a released checkpoint given with --from, for example point-mae-scanobjectnn.
    family
        Whose that checkpoint is, where the backbone is to begin with another family's encoder: recon with a point-mae.
    probe
        Another labelled data set on which robustness is measured by a linear SVM on features; may be given several times. Default: demo:objects.
    measure
        A further measure, for example transfer:on=[folder:other]; may be given several times.
    probe_c
        C of the probes' SVM: cv chooses it by cross-validation for every backbone; a number fixes it.
    seeds
        How many training seeds (0, 1, ...). Differences between methods need at least 3.
    head
        linear, or mlp1, mlp2, mlp3 (the heads of published classifiers; wisetune options mlp3).
    fit
        Options of every tuning's training, for example epochs=50,lr=0.0005; wisetune options fit lists them all.
    head_fit
        Options of linear probing, of the same kind.
    corruption
        Options of the corruption measure (items=0 takes all test clouds), or none.
    machine
        Where and how to run.
    """
    from wisetune.stories.compare import Compare

    with naming("--tunings"):
        story = str(Compare(tunings))
    request = Request(
        on=on,
        start=from_,
        story=story,
        backbone=backbone,
        family=family,
        probes=probe,
        probe_c=probe_c,
        measures=measure,
        seeds=seeds_of(seeds),
        head=head,
        fit=fit,
        head_fit=head_fit,
        corruption=corruption,
    )
    return carry_out(request, out, machine)
