"""``wisetune run`` and ``wisetune demo``: the main job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from wisetune.build.request import Request, idle_options, job_of, weights_of
from wisetune.cli.asked import Asked, seeds_of
from wisetune.cli.kinds import Count, CountOrNone, Word, WordOrNone
from wisetune.cli.machine import DRY, GOES_ON, HERE, NOT_BEGUN, Leaves, Working, command_line, folder_for, if_stopped, set_threads
from wisetune.errors import UsageError, counted, naming, part_of
from wisetune.runtime import duration

if TYPE_CHECKING:
    from wisetune.build.experiment import Experiment
    from wisetune.build.job import Job
    from wisetune.build.runner import Finished, Runner
    from wisetune.cli.session import Session
    from wisetune.data.task import Task
    from wisetune.nets.headed import Headed
    from wisetune.store.locks import Tell
    from wisetune.store.store import Store

DEMO = Request("demo:scans", probes=("demo:objects",), probe_c="0.01", fit="epochs=8,lr=0.001,drop-path=0.1", corruption="items=100")


def run(
    story: str,
    *,
    asked: Asked,
    tuning: Word = Request.tuning,
    rule: Annotated[Literal["interval", "greedy"], Parameter(metavar="RULE")] = Request.rule,
    keep: WordOrNone = None,
    machine: Working = HERE,
) -> int:
    """Tune a pre-trained model on your data, measure what it gains and what it forgets, and write the evidence to --out.

    Killed at any moment, the same command goes on where it was.

    Parameters
    ----------
    story
        What to do: wise-ft-lp (sweep, recommended), wise-ft, lp-ft, ft or lp; with options, for example wise-ft-lp:alphas=0+0.5+1; wisetune
        options wise-ft-lp lists them.
    asked
        What to begin with, what to tune on, how, and what to measure.
    tuning
        How the backbone is tuned: full, or a small part of it or beside it, such as lora:rank=8 or dapt; wisetune options tuning lists them.
    rule
        How alpha is recommended: interval (the most robust with no loss shown and at most 1 point seen) or greedy (WiSE-FT-LP's rule, 0.1 points).
    keep
        A penalty that holds every training of a backbone near its start: ewc:weight=10, l2-sp:weight=0.01, or of lp-ft lwf; wisetune options ewc
        lists their options.
    machine
        Where and how to work.
    """
    return carry_out(asked.request(story, tuning=tuning, rule=rule, keep=keep), asked.out, machine)


def demo(*, out: Path = Path("wisetune-demo"), seeds: Count = 1, labelled: CountOrNone = None, machine: Working = HERE) -> int:
    """The main job on data and weights that ship with wisetune, offline: scans of furniture, and what their tuning costs elsewhere.

    Parameters
    ----------
    out
        Folder for the report, the tables and the model.
    seeds
        How many training seeds.
    labelled
        Train on so many scans of each class. With few, training a head alone may be best: where does the trade-off begin? Default: all.
    machine
        Where and how to work.
    """
    on = DEMO.on if labelled is None else f"{DEMO.on},labelled={labelled}"
    return carry_out(replace(DEMO, on=on, seeds=seeds_of(seeds)), out, machine)


def carry_out(request: Request, out: Path, machine: Working) -> int:
    """What a command asks for, to its end."""
    with if_stopped(DRY if machine.dry_run else NOT_BEGUN) as leaves:
        return _work_on(request, out, machine, leaves)


def _work_on(request: Request, out: Path, machine: Working, leaves: Leaves) -> int:
    from wisetune.build.bar import Bar
    from wisetune.build.builder import keep_start
    from wisetune.build.experiment import Experiment
    from wisetune.build.runner import Runner
    from wisetune.build.watch import Spent
    from wisetune.build.work import earlier, work
    from wisetune.data.task import Data
    from wisetune.data.tasks import parse_task
    from wisetune.report.board import Board
    from wisetune.report.costs import as_text
    from wisetune.report.verdict import summary
    from wisetune.report.write import write_report
    from wisetune.runtime import device
    from wisetune.store.store import Store

    # Every slip in the command is found here, before anything is loaded.
    set_threads(machine.threads)
    where, command, began = device(machine.device), command_line(), time.monotonic()
    with naming("--from"):
        weights = weights_of(request)
    job = job_of(request, weights, typed=True)
    asked = _asked(request, job)

    def load_task(text: str, points: int) -> Data:
        with naming(asked.get(text, "")):
            return parse_task(text).load(points)

    with Bar(machine.quiet) as bar:
        bar.stage("reading data")
        folder_for("a run", out)
        for task in map(parse_task, {job.on, *(need for measure in job.measures for need in measure.needs)}):
            _keep_apart(out, task)
        if machine.dry_run:
            with _seen(out / "store", bar.tell) as store:
                experiment = Experiment(job, load_task, bar.tell)
                if replaced := _session(command, experiment).replaces(out, "would be"):
                    bar.tell(replaced)
                _plan(Runner(experiment, store, where, bar), machine)
            for line in (*job.warnings, *(() if machine.quiet else idle_options(request, job))):
                bar.tell(line)
            return 0
        store = Store(out / "store", tell=bar.tell)
        with store.lock("run"):
            begin = weights.load()
            # Data that are refused leave no weights behind.
            experiment = Experiment(job, load_task, bar.tell)
            session = _session(command, experiment)
            keep_start(store, job.start, begin)
            for note in weights.notes:
                bar.tell(f"{weights.source}: {note}.")
            leaves.said = GOES_ON
            if replaced := session.replaces(out, "are"):
                bar.tell(replaced)
            session = session.after(out)
            session.write(out)
            runner = Runner(experiment, store, where, bar)
            for line in () if machine.quiet else (*earlier(runner), *idle_options(request, job)):
                bar.tell(line)
            bar.expect(work(runner))
            finished = runner.run(command, session.spent, lambda spent: replace(session, spent=spent).write(out))
            bar.stage("writing the report")
            _save_model(finished, out, request.start)
            results = finished.results
            write_report(results, out)
            spent = Spent(results.study.seconds or 0.0, results.study.found)
            replace(session, spent=spent, finished=True).write(out)
            if not machine.quiet:
                whole = f"; training and measuring took {duration(spent.seconds)} in all calls" if session.spent.seconds else ""
                bar.tell(f"Done after {duration(time.monotonic() - began)}{whole}.")
    answer = summary(results)
    if machine.json:
        print(json.dumps({"out": str(out), **answer}, indent=2))
    else:
        _print_summary(answer, as_text(Board(results)), out, _outside(finished.model))
    return 0


def _session(command: str, experiment: Experiment) -> Session:
    """What the command is to leave in its folder, before it has left anything."""
    from wisetune.cli.session import Session
    from wisetune.fit.fit import Fit
    from wisetune.recipe import Tune, digest, walk

    tunes = [node for tree in experiment.trees().values() for node in walk(tree) if isinstance(node, Tune)]
    epochs = {digest(node): node.fit.epochs for node in tunes if isinstance(node.fit, Fit)}
    names = {digest(tree): name for tree, name in experiment.names.items()}
    return Session(command, [*names], epochs, names=names)


def _asked(request: Request, job: Job) -> dict[str, str]:
    """Of each task, by its spelling in the job, the option that brought it."""
    from wisetune.measure.svm import Svm

    asked = {need: f"--measure {measure.name}" for measure in job.measures for need in measure.needs}
    if request.probes:
        asked |= {need: "--probe" for measure in job.measures if isinstance(measure, Svm) for need in measure.needs}
    return asked | {job.on: "--on"}


def _keep_apart(out: Path, task: Task) -> None:
    """A run in a data folder would stand there as one more class, and the data could not be read again."""
    from wisetune.data.folder import Folder

    if isinstance(task, Folder) and out.resolve().is_relative_to(Path(task.path).expanduser().resolve()):
        raise UsageError(
            f"--out {out} lies in the data folder '{task.path}', where it would be taken for a class. Choose a folder beside it."
        )


@contextmanager
def _seen(root: Path, tell: Tell) -> Iterator[Store]:
    """The store at ``root`` for a dry run, which makes nothing there: where there is none yet, an empty one elsewhere."""
    from wisetune.store.store import Store

    if root.is_dir() and any(root.iterdir()):
        yield Store(root, create=False, tell=tell)
        return
    with TemporaryDirectory() as folder:
        yield Store(Path(folder), tell=tell)


def _plan(runner: Runner, machine: Working) -> None:
    """What would be done: data, trees, size, time by a short trial of this work."""
    from wisetune.build.work import plan as plan_of

    plan = plan_of(runner)
    if machine.json:
        print(json.dumps(plan, indent=2))
        return
    for name, data in (("on", plan["task"]), *(("probe", probe) for probe in plan["probes"])):
        sizes = ", ".join(f"{sum(data['counts'][part].values())} {part}" for part in ("train", "val", "test"))
        print(f"{name:9} {data['name']}: {len(data['classes'])} classes; clouds: {sizes}")
    print(f"start     {plan['start']}: {counted(plan['parameters'], 'parameter')}")
    todo = f"{counted(plan['trainings'], 'training')}, {counted(plan['mixes'], 'mix')}"
    if plan["keep"]:
        print(f"penalty   {plan['keep']}, of every training of a backbone")
    print(f"train     {todo} for {counted(plan['models'], 'model')} ({counted(len(plan['seeds']), 'seed')})")
    if plan["built"]:
        print(f"store     {part_of(plan['built'], plan['models'], 'model', 'is', 'are')} there already, and would not be made again")
    print(
        f"time      about {duration(plan['seconds'])} here ({plan['clouds']:,.0f} clouds to look at, {plan['clouds_per_second']:.0f} a second)"
    )
    print("Nothing was trained. Leave --dry-run out to start.")


def _save_model(finished: Finished, out: Path, start: str) -> None:
    """``OUT/model.safetensors``: the recommended model, with what prediction must do to a cloud."""
    from wisetune.build.predict import frame_of, told
    from wisetune.nets.files.save import save_model
    from wisetune.recipe import describe, digest

    facts = {
        "task": finished.data.name,
        "start": start,
        "recipe": describe(finished.recipe),
        "digest": digest(finished.recipe),
        **told(frame_of(finished.data.protocol)),
    }
    save_model(out / "model.safetensors", finished.model, facts)


def _outside(model: Headed) -> str:
    """The words by which a command imports what grafted into a model from outside wisetune, which no file imports by itself."""
    from wisetune.tune.tunings import TUNINGS

    names = [TUNINGS.divide(graft.tuning)[0] for graft in model.backbone.grafts]
    return "".join(f"--import {module} " for module in dict.fromkeys(name.partition(":")[0] for name in names if ":" in name))


def _print_summary(found: dict[str, Any], table: list[str], out: Path, outside: str) -> None:
    for line in (*found["sentences"], *table, *found["notes"]):
        print(line)
    print(f"Report: {out / 'report.html'}")
    print(f"Model:  {out / 'model.safetensors'}   (wisetune {outside}predict {out} FILE...)")
    print(f"        {found['model']}")
