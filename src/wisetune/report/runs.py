"""What is said of several runs on one page of Markdown: what all of them share, what each has of its own, where they do not compare, their commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from wisetune.report import words
from wisetune.report.board import ACCURACY, Board
from wisetune.report.markdown import stamp_of, training_of
from wisetune.report.verdict import notes


def facts(board: Board, folds: bool = False) -> list[str]:
    """What a reader must know of one run's numbers, in sentences; ``folds``: it is one of several that are counted together."""
    study = board.results.study
    seeds = f"{words.counted(len(board.seeds), 'seed')} ({', '.join(map(str, board.seeds))})"
    probes = ", ".join(f"{probe.name} (`{probe.spec}`)" for probe in study.probes)
    found = [
        f"{board.where}: {words.clouds(*_measured(board))}; {seeds}",
        f"Probes: {probes}" if probes else "No probes",
        f"Start: {study.start} (`{study.architecture}`)",
        "Training: " + "; ".join(f"{name} `{value}`" for name, value in training_of(study)),
        study.selection,
        *notes(board, repeated=folds),
        stamp_of(board.results),
    ]
    return [f"{fact.removesuffix('.')}." for fact in found if fact]


def shared(found: Sequence[Sequence[str]]) -> list[str]:
    """The facts that all have."""
    return [fact for fact in found[0] if all(fact in others for others in found)]


def apart(boards: Sequence[Board], one_task: bool = True) -> list[str]:
    """In what rows of different runs do not compare, and why; that of several tasks accuracies do not needs no word."""
    studies = [board.results.study for board in boards]
    tasks = [(one.task.name, one.task.counts.get(board.split)) for one, board in zip(studies, boards, strict=True)] if one_task else [()]
    reasons = (
        ("accuracy", "they are of different splits", [board.split for board in boards]),
        ("accuracy", "it was measured on different scans", tasks),
        ("robustness", "they are of different splits", [board.probed for board in boards]),
        ("accuracy or robustness", "the runs started from different weights", [(one.start_weights, one.architecture) for one in studies]),
        ("accuracy or robustness", "the runs trained in different ways", _alike(list(map(training_of, studies)))),
        ("robustness", "the runs have different probes", [sorted((probe.spec, probe.digest) for probe in one.probes) for one in studies]),
        ("differences", "these are from different models", [board.reference for board in boards]),
    )
    return [
        f"Rows of different runs do not compare in {what}: {why}." for what, why, found in reasons if any(one != found[0] for one in found)
    ]


def _alike(training: Sequence[list[tuple[str, str]]]) -> list[list[tuple[str, str]]]:
    """Of each study what can be compared: a story without a training of some kind trains it no other way."""
    kinds = set.intersection(*({name for name, _ in one} - {"penalty", "tuning"} for one in training)) | {"penalty", "tuning"}
    return [[(name, value) for name, value in one if name in kinds] for one in training]


def trained(board: Board) -> str:
    """How many clouds were trained on."""
    return words.counted(sum(board.results.study.task.counts.get("train", {}).values()), "cloud")


def _measured(board: Board) -> tuple[int, int | None]:
    found = board.mean(ACCURACY, board.chosen() or board.fixed(board.reference))
    return (found.n, found.objects) if found else (0, None)


def commands(boards: Sequence[Board], folds: Sequence[int] = ()) -> list[str]:
    """The lines that made these runs; where the commands of folds differ in nothing else than the number of the fold, a loop over it."""
    lines = [board.results.study.command for board in boards]
    looped = _looped(lines, folds) if len(folds) > 1 else None
    if looped is None:
        return lines
    return [f"for fold in {' '.join(map(str, folds))}; do", f"    {looped}", "done"]


def _looped(lines: Sequence[str], folds: Sequence[int]) -> str | None:
    """One command with ``$fold`` in the places where these have their fold's number; None where they differ in anything else."""
    try:
        split = [[re.split(r"(\d+)", word) for word in shlex.split(line)] for line in lines]
    except ValueError:
        return None
    if any([len(word) for word in one] != [len(word) for word in split[0]] for one in split):
        return None
    found = list[str]()
    for places in zip(*split, strict=True):
        parts = list[str]()
        for same in zip(*places, strict=True):
            if len(set(same)) > 1 and list(same) != list(map(str, folds)):
                return None
            parts.append(same[0] if len(set(same)) == 1 else "$fold")
        word = "".join(parts)
        if "$fold" not in parts:
            found.append(shlex.quote(word))
        elif set('"`\\!') & set(word) or word.count("$") != parts.count("$fold"):
            return None
        else:
            # A number in a name, ``fold=1x``, must not become part of the variable's.
            found.append('"' + re.sub(r"\$fold(?=\w)", "${fold}", word) + '"')
    return " ".join(found)
