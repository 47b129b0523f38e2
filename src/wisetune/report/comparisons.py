"""Ways to tune compared on several tasks, or on the folds of a task, as one page of Markdown: side by side, then task by task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board
from wisetune.report.comparison import Comparison, among, compared_on, few_folds, names, quantities
from wisetune.report.differences import by_chance, differences
from wisetune.report.markdown import costs_blocks, difference_cell, grid, mean_cell
from wisetune.report.runs import apart, commands, facts, shared, trained
from wisetune.report.tables import costs_table
from wisetune.report.verdict import unfit
from wisetune.results import FOLDS_OF

_FOLDS = (
    "Of folds each figure is the mean over them, sd their standard deviation, and the interval Student's over the folds; differences are taken fold "
    "by fold. Folds are draws from the same clouds: the interval says how another draw would come out, not other data. Robustness is measured "
    "on the same items in every fold, and its interval is at least theirs."
)


def comparisons(boards: Sequence[Board], title: str) -> str:
    """The differences of every method on every task, then each task, what each method costs, what holds for all, and the commands.

    Raises:
        UsageError: a fold is there twice.
    """
    found = compared_on(boards)
    called, known = names(found), quantities(found)
    than = words.joined(dict.fromkeys(one.called(one.board.reference) for one in found))
    count = sum(len(one.gains(quantity)) for one in found for quantity in known)
    said = [facts(one, bool(compared.folds)) for compared in found for one in compared.boards]
    common = shared(said)
    blocks = [
        f"# {title}",
        f"{words.capital(words.joined(known))} in percent, differences from {than} in points, paired, all with 95 % intervals. **Bold** is a "
        f"difference that is shown: its interval leaves out 0. Of any other the data do not say whether there is one. {by_chance(count)}".rstrip(),
        *([_FOLDS] if any(one.folds for one in found) else []),
        *few_folds(found),
        *(_beside(found, called, known) if len(found) > 1 else []),
        *(block for one, name in zip(found, called, strict=True) for block in _section(one, name, known, common)),
        *_costs(found, called),
        "## Protocol",
        *([" ".join(why)] if (why := apart(boards, one_task=False)) else []),
        "\n".join(f"- {fact}" for fact in common),
        "Made by, in the same order:",
        "\n".join(["```sh", *(line for one in found for line in commands(one.boards, one.folds)), "```"]),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _beside(found: Sequence[Comparison], called: Sequence[str], known: Sequence[str]) -> Iterable[str]:
    """Every method on every task: of folds their mean and standard deviation, as few-shot tables have them; then the differences."""
    methods = among(found)
    if all(one.folds for one in found):
        rows = [(name, *(_spread(one, method) for one in found)) for method, name in methods]
        yield from ("## Accuracy on each, mean ± standard deviation over folds", grid(("tuning", *called), rows))
    for quantity in known:
        than = words.joined(dict.fromkeys(one.called(one.board.reference) for one in found))
        rows = [(name, *(difference_cell(one.gain(quantity, method)) for one in found)) for method, name in methods]
        told = [row for row in rows if any(cell != words.NOTHING for cell in row[1:])]
        yield from (f"## {words.capital(quantity)} against {than}", grid(("tuning", *called), told))


def _section(one: Comparison, name: str, known: Sequence[str], common: Sequence[str]) -> Iterable[str]:
    """One task: what it is, what is shown there, a line a method, and what is to be known of these runs alone."""
    yield f"## {name}"
    classes = {len(board.results.study.task.classes) for board in one.boards}
    data = f"{words.joined(map(str, sorted(classes)))} classes, {trained(one.board)} to train on"
    if one.folds:
        queries = one.mean(b.ACCURACY, one.board.reference)
        asked = f", {words.counted(queries.n, 'test cloud')} in all" if queries else ""
        yield f"{len(one.folds)} folds ({', '.join(map(str, one.folds))}) of `{_of(one)}`: {data} in each{asked}."
    else:
        yield f"{data}."
    than = one.called(one.board.reference)
    yield " ".join(differences(quantity, than, gains) for quantity in known if (gains := one.gains(quantity)))
    if one.lacking:
        left = words.joined(f"{method} ({count} of {len(one.boards)})" for method, count in one.lacking.items())
        yield f"Not in every fold, and left out: {left}."
    columns = ["tuning", *(cell for quantity in known for cell in (quantity, *(["sd"] if one.folds else []), "difference"))]
    yield grid(columns, [_line(one, method, known) for method in one.methods])
    own = [facts(board, bool(one.folds)) for board in one.boards]
    mine = [fact for fact in shared(own) if fact not in common]
    mine += [
        f"Fold {fold}: {fact}"
        for fold, said in zip(one.folds, own, strict=False)
        for fact in said
        if fact not in mine and fact not in common
    ]
    # What no fold alone can show is judged by all of them.
    mine += unfit(one.boards, one.gain(b.ACCURACY, "ft", than="lp")) if one.folds and {"ft", "lp"} <= set(one.methods) else []
    if mine:
        yield "\n".join(f"- {fact}" for fact in mine)


def _of(one: Comparison) -> str:
    return str(one.board.results.study.task.protocol[FOLDS_OF])


def _line(one: Comparison, method: str, known: Sequence[str]) -> Sequence[str]:
    cells = [one.called(method)]
    for quantity in known:
        mean = one.mean(quantity, method)
        cells += [mean_cell(mean), *([words.percent(mean.sd if mean else None)] if one.folds else [])]
        cells.append(difference_cell(one.gain(quantity, method)))
    return cells


def _spread(one: Comparison, method: str) -> str:
    mean = one.mean(b.ACCURACY, method) if method in one.methods else None
    return f"{words.percent(mean.value)} ± {words.percent(mean.sd)}" if mean else words.NOTHING


def _costs(found: Sequence[Comparison], called: Sequence[str]) -> Iterable[str]:
    """What each method costs, told once, of the first that was told of the most methods."""
    told = [(len(costs_table(one.board).rows), one, name) for one, name in zip(found, called, strict=True)]
    most, one, name = max(told, key=lambda each: each[0])
    if most:
        yield "## What each costs"
        if len(told) > 1:
            differ = [
                said
                for said, ways in (
                    ("the head has another number of classes", [len(each.board.results.study.task.classes) for each in found]),
                    ("a batch may be of another size", [trained(each.board) for each in found]),
                )
                if len(set(ways)) > 1
            ]
            yield f"Counted and timed on {name}{f'; on others {words.joined(differ)}' if differ else ''}."
        yield from costs_blocks(one.board)
