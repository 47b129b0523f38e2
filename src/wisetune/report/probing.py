"""What ``wisetune probe`` found, as lines for a terminal and as a section of a model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wisetune.report import words
from wisetune.report.markdown import grid
from wisetune.results import Probed, Probing

COLUMNS = ("task", "pose", "backbone", "accuracy", "sd over draws", "n", "against random")
LEGEND = (
    "Accuracy of a linear SVM on frozen, standardised features, in percent: mean over the draws of labelled clouds, with Wilson's 95 % interval "
    "over the n test clouds, or the objects that they are scans of.",
    "Against random: the difference from the mean of the random backbones, in points, with its 95 % interval over the same test clouds.",
)


def cells(probing: Probing) -> list[tuple[str, ...]]:
    """The table, a row a backbone, task and pose."""
    return [
        (
            _with_limit(row.task, row.per_class),
            row.pose,
            _backbone(row),
            words.interval(row.value, row.low, row.high),
            words.percent(row.sd),
            f"{row.n:,}" if row.objects is None else words.clouds(row.n, row.objects),
            words.difference(row.gain, row.gain_low, row.gain_high),
        )
        for row in probing.rows
    ]


def text(probing: Probing) -> str:
    """For a terminal: columns of even width, then what to know."""
    lines = [COLUMNS, *cells(probing)]
    width = [max(len(line[at]) for line in lines) for at in range(len(COLUMNS))]
    table = ["  ".join(cell.ljust(size) for cell, size in zip(line, width, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *LEGEND, *_facts(probing), *probing.notes])


def markdown(probing: Probing, command: str) -> str:
    """A section with the command that made it, the table, the protocol, versions and time."""
    facts = [*LEGEND, *_facts(probing), *probing.notes, ", ".join(f"{name} {value}" for name, value in probing.stamp.items())]
    blocks = [
        "## Linear probes of frozen features",
        f"```sh\n{command}\n```",
        grid(COLUMNS, cells(probing)),
        "\n".join(f"- {fact}" for fact in facts),
    ]
    return "\n\n".join(blocks) + "\n"


def _backbone(row: Probed) -> str:
    if len(row.seeds) < 2:
        return row.backbone + (", 1 seed" if row.seeds else "")
    low, high = words.percent(min(row.seeds)), words.percent(max(row.seeds))
    return f"{row.backbone}, {words.counted(len(row.seeds), 'seed')} from {low} to {high}"


def _facts(probing: Probing) -> Sequence[str]:
    used = sorted({value for row in probing.rows for value in row.c})
    c = f"C {probing.c}" if len(used) == 1 else f"C {probing.c}: {used[0]:g} to {used[-1]:g}"
    return [
        *(f"{found['name']}: weights {found['weights']}, {found['parameters']:,} parameters" for found in probing.backbones),
        *map(_task, probing.tasks),
        f"{c}; took {words.counted(round(probing.seconds), 'second')}.",
    ]


def _task(task: dict[str, Any]) -> str:
    trained = f"{task['labelled']:,} of {task['train']:,} training clouds"
    each = f"{task['draws']} draws of {trained}" if task["draws"] > 1 else f"one draw, {trained}"
    where = f"{task['classes']} classes, {task['points']:,} points a cloud, upright along {task['up']}"
    return f"{_with_limit(task['name'], task['per_class'])}: {each}, {task['test']:,} test clouds; {where}."


def _with_limit(task: str, per_class: int) -> str:
    return f"{task}, {per_class or 'all'} a class"
