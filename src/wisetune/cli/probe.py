"""``wisetune probe``: how good a backbone's frozen features are."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from wisetune.cli.kinds import Count, Counts, Word, Words
from wisetune.cli.machine import ANYWHERE, Machine, command_line, set_threads
from wisetune.errors import counted


class Task(str):
    """A task's spelling; ``option`` is the flag that it was given with, which says how its clouds stand."""

    __slots__ = ("option",)
    option: str


def _tasks(_: Any, tokens: Sequence[Token]) -> tuple[Task, ...]:
    """Both flags fill one list, so that --per-class can follow either."""
    found = []
    for token in tokens:
        task = Task(token.value)
        task.option = str(token.keyword)
        found.append(task)
    return tuple(found)


def probe(
    *backbones: str,
    on: Annotated[tuple[Task, ...], Parameter(name=("--on", "--on-y"), n_tokens=1, converter=_tasks)],
    per_class: Counts = (60,),
    turn: bool = False,
    draws: Count = 5,
    random: Count = 3,
    c: Word = "0.01",
    backbone: Words = (),
    family: Words = (),
    json: bool = False,
    markdown: Path | None = None,
    machine: Machine = ANYWHERE,
) -> int:
    """How good a backbone's frozen features are, beside random backbones of the same architecture.

    A linear SVM learns from a few labelled clouds of each class, drawn by seed from the task's train part, and is tested on the whole test
    part; nothing is chosen on either. For example: wisetune probe point-mae-mini --on npz:cad.npz,val=0 --per-class 60 --turn

    Parameters
    ----------
    backbones
        Pre-trained weights, as --from of run takes them: a shipped name (point-mae-mini), files, random:point-mae-mini; several are compared.
    on
        Labelled data: folder:DIR, npz:FILE, demo:objects, with options (val=0 leaves all of train to be drawn from); may be given several times.
        --on takes clouds that stand upright along z, --on-y those that stand along y and stay so, as on-y of pretrain.
    per_class
        At most so many labelled clouds a class (0: all): once for all tasks, or once for each, in their order:
        --on TASK --per-class 60 --on-y OTHER --per-class 15. Test parts stay whole (the task's own option per-class would cut them too).
    turn
        Show each task again with every cloud, of train and test, turned about its upright axis by a random angle.
    draws
        How many draws of labelled clouds; the same for all backbones.
    random
        How many random backbones to compare with (seeds 0, 1, ...); 0 for none.
    c
        The SVM's C; cv chooses it by cross-validation on the labelled clouds of each draw.
    backbone
        The architecture of released checkpoints among the backbones, for example point-mae-scanobjectnn: once for all, or once for each, in their
        order: a.pth b.pth --backbone point-mae-pretrain --backbone recon-pretrain
    family
        Whose these checkpoints are, as --family of run takes it: once for all, or once for each, in their order.
    json
        The numbers as JSON on stdout.
    markdown
        Write a section for the model card here, with command, table, versions and time.
    machine
        Where to work.
    """
    from wisetune.build.bar import Bar
    from wisetune.build.contest import contest
    from wisetune.build.probing import Asked
    from wisetune.build.probing import probe as run_probe
    from wisetune.data.tasks import parse_task
    from wisetune.errors import UsageError
    from wisetune.files import write_text
    from wisetune.report.probing import markdown as markdown_of
    from wisetune.report.probing import text
    from wisetune.runtime import device

    if len(per_class) not in (1, len(on)):
        raise UsageError(
            f"--per-class was given {counted(len(per_class), 'time')} for {counted(len(on), 'task')}; give it once for all, or once for each."
        )
    set_threads(machine.threads)
    if markdown is not None and markdown.is_dir():
        raise UsageError(f"--markdown {markdown} is a folder; name a file in it, for example {markdown / 'probes.md'}.")
    limits = per_class * len(on) if len(per_class) == 1 else per_class
    asked = [Asked(parse_task(task), "y" if task.option == "--on-y" else "z", limit) for task, limit in zip(on, limits, strict=True)]
    with Bar(machine.quiet) as bar:
        probing = run_probe(contest(backbones, random, backbone, family), asked, bar, device(machine.device), draws=draws, c=c, turn=turn)
    print(jsonlib.dumps(probing.to_json(), indent=2) if json else text(probing))
    if markdown is not None:
        write_text(markdown, markdown_of(probing, command_line()))
    return 0
