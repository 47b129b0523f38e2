"""What the study found, in a few sentences with numbers and as a dict: the top of the page and the end of the command's output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board, Estimate, Place, alpha_words
from wisetune.report.conclusion import Conclusion, concluded
from wisetune.report.differences import differences_of
from wisetune.report.rival import Rival, itself, judged, rival_of, told
from wisetune.report.tables import costs_table
from wisetune.results import OVER_SEEDS, Results

_STORIES = ("ft", "lp", "lp-ft")
"""Baselines that are stories of their own."""
_FEW_EPOCHS = 10
"""Fewer than these hardly make a fine-tuning."""
_FALLING = 0.95
"""A last epoch that leaves less than this of the loss before it was not the last that helps; the end of a cosine changes less."""
_SCORES: tuple[str, ...] = (b.ACCURACY, b.ROBUSTNESS, b.CORRUPTED)


def summary(results: Results) -> dict[str, Any]:
    """What a job found, in brief: JSON-able, with ``sentences`` that a person can read, the first of them the ``conclusion`` if there is one.

    ``before`` is the study's reference (full fine-tuning as a rule), ``after`` the chosen model, ``linear_probing`` the pre-trained backbone
    as it is. Each holds ``accuracy``, ``robustness`` and ``corruption`` (mean accuracy under corruption) as
    ``{value, low, high, n, objects, seeds, sd, text}`` or None. ``gain`` is after
    minus before, and None where they are one model, of robustness where they are one backbone. Where no alpha was chosen ``rule`` and
    ``selected_on`` are None; without a sweep ``alpha`` is empty. ``rival`` is the baseline that the chosen model has to stand up to
    (``report.rival``), or None: its ``method``, scores as above, ``gain`` (after minus it), and whether it ``dominates``, here and ``on_val``
    (None without validation data). ``model`` says which model the run's file is. A study that compares ways to tune has no rival, but ``costs``: what
    each gains and costs (the rows of that table).
    """
    board = Board(results)
    after, before, probing = board.chosen(), board.fixed(board.reference), board.fixed("lp")
    gain = {name: _plain(board.gain(name, after), words.difference) for name in _SCORES}
    rival = None if board.compares else rival_of(board, after)
    conclusion = concluded(board, after, rival)
    beside = _beside(board, after, rival)
    if board.compares:
        text, beside = differences_of(board)
        conclusion = Conclusion(text)
    return {
        "method": board.headline,
        "rule": board.rule if board.chose else None,
        "alpha": {str(seed): alpha for seed, (_, alpha) in sorted(after.items()) if alpha is not None},
        "selected_on": "val" if board.chose else None,
        "shown_on": board.split,
        "seeds": len(board.seeds),
        "before": _scores(board, before),
        "after": _scores(board, after),
        "linear_probing": _scores(board, probing),
        "gain": gain,
        "rival": None if rival is None else _rival(rival),
        "conclusion": conclusion.text,
        "model": _file(board, conclusion.instead),
        **({"costs": rows} if (rows := costs_table(board).rows) else {}),
        "sentences": [*filter(None, [conclusion.text]), *_verdict(board, after, before), *beside, _where(board)],
        "notes": notes(board),
    }


def _file(board: Board, instead: str | None) -> str:
    """Which model a run saves, and its numbers: the recommended one, of the first seed; and how to have another that the conclusion takes instead."""
    study = board.results.study
    seed, best = next(iter([*study.seeds, *board.seeds]), 0), study.recommended
    scores = _scored(board, {seed: best}) if best else ""
    called = f"{board.named({seed: best})}, " if best else ""
    told = f"This file is {called}the model of training seed {seed}" + (
        f", which has {scores} on the {words.split(board.split)} split." if scores else "."
    )
    if board.compares:
        return f"{told} Those of others: wisetune run ft --tuning TUNING, or wisetune run lp, with the same options."
    if instead is None:
        return told
    way = f": wisetune run {instead} with the same options makes its file" if instead in _STORIES else ""
    return f"{told} {words.capital(board.called(instead))} is another model{way}."


def notes(board: Board, repeated: bool = False) -> list[str]:
    """What a reader must know before believing the numbers.

    Of one of several runs that are counted together (``repeated``) nothing is said of few seeds, nor judged what it alone shows.
    """
    found = [*_uninformed(board), *board.results.study.warnings]
    bad = [key for key, lines in board.results.audits.items() if not all(line.get("ok", True) for line in lines)]
    if bad:
        found.append(
            f"The audit of {words.counted(len(bad), 'merge')} failed ({', '.join(bad)}); the merge audit of the report says where."
        )
    if not repeated:
        found += unfit([board], _behind(board))
    if len(board.seeds) == 1 and not repeated:
        found.append(
            "One seed: each model was trained once. The intervals say how sure the numbers are given how many items were measured; "
            "another seed would train other models. Run with more seeds to see that spread."
        )
    if len(board.seeds) == 2 and not repeated:
        found.append(
            "Two seeds: how far another seed would be from them is not known from two, so that the intervals are those over the items measured, "
            "and the tables show both seeds' values. Run with at least 3 seeds for intervals that know of their spread."
        )
    why = "on which alpha was chosen, and too good" if board.chose else "and too good where anything was selected on it"
    if board.split != "test" and board.results.rows:
        known = "the numbers are those" if board.probed == board.split else "accuracy is that"
        rest = "" if board.probed == board.split else "; robustness is that of the probes' test parts"
        found.append(f"There is no test split here: {known} of the validation split, {why}{rest}.")
    elif board.probed != board.split:
        found.append(f"Not every probe has a test part: robustness is that of their validation parts, {why}.")
    return found


def _uninformed(board: Board) -> list[str]:
    """That robustness was the same wherever the rule could choose, so that it did not choose."""
    choices = sorted(board.choices(board.headline, board.rule), key=lambda choice: choice.seed != OVER_SEEDS)
    if not choices:
        return []
    found = {alpha: board.mean(b.ROBUSTNESS, board.fixed(board.headline, alpha), "val") for alpha in board.alphas(board.headline)}
    kept = {1.0, *(step.alpha for step in choices[0].steps if step.accepted)}
    # The greedy rule tests no further than its first refusal, which equal robustness does not make.
    accepted = {alpha: one for alpha, one in found.items() if alpha in kept} if board.rule == "interval" else {}
    for where, here in (("every alpha", found), (f"every alpha that the {board.rule} rule accepts", accepted)):
        known = [one for one in here.values() if one]
        if len(known) > 1 and len({round(one.value, 11) for one in known}) == 1:
            same, measured = f"{words.percent(known[0].value)}{words.NBSP}%", words.clouds(known[0].n, known[0].objects)
            return [
                f"On validation data robustness is the same, {same}, at {where}: {measured} of the probe cannot tell these models apart, so "
                "robustness had no say in the choice of alpha among them. A probe with more scans (--probe) may."
            ]
    return []


def _behind(board: Board) -> Estimate | None:
    """How far full fine-tuning is above linear probing in accuracy."""
    return board.gain(b.ACCURACY, board.fixed("ft"), than="lp") if {"ft", "lp"} <= set(board.baselines()) else None


def unfit(boards: Sequence[Board], behind: Estimate | None) -> list[str]:
    """That full fine-tuning is shown to be less accurate than linear probing: its recipe is at fault, and all mixes of its weights with it.

    ``behind`` is how far it is above, in one run or over several that are counted together.
    """
    if behind is None or behind.shown >= 0:
        return []
    board, study = boards[0], boards[0].results.study
    ft, lp = board.called("ft"), board.called("lp")
    scans = sum(study.task.counts.get("train", {}).values())
    trained = f"trained on {words.counted(scans, 'scan')}{f' by {study.fit}' if study.fit else ''}" if scans else "as it was trained here"
    below = f"{words.capital(ft)} is below {lp} in accuracy: {words.difference(behind.value, behind.low, behind.high)} points."
    carried = ", and mixes of its weights carry that on" if board.sweeps else ""
    epochs, rate, more = "more epochs (--fit epochs=...)", "a lower rate (--fit lr=...)", "more labelled scans"
    if short := _cut_short([one.results for one in boards]):
        return [
            f"{below} So {ft}, {trained}, is no model to judge these data by{carried}: {short}. Try {epochs} first, then {rate} or {more}."
        ]
    return [
        f"{below} So {ft}, {trained}, does not suit these data{carried}. The usual reasons are too few epochs, too "
        f"few labelled scans and too high a learning rate. Try {epochs}, {rate} or {more}."
    ]


def _cut_short(runs: Sequence[Results]) -> str:
    """What shows that full fine-tuning ended too early, by its logs, seeds and runs averaged; empty where nothing does or none is there."""
    logs = [lines for results in runs for seed in results.study.seeds if (lines := results.log.get(f"ft seed {seed}"))]
    if not logs:
        return ""
    epochs = min(map(len, logs))
    told = [f"it was trained for only {words.counted(epochs, 'epoch')}"] if epochs < _FEW_EPOCHS else []
    ends = [[lines[at]["loss"] for lines in logs if len(lines) > 1 and "loss" in lines[at]] for at in (-2, -1)]
    if all(ends):
        before, last = (math.fsum(losses) / len(losses) for losses in ends)
        if last < _FALLING * before:
            told.append(f"its loss was still falling when it ended ({before:.3g} to {last:.3g} in the last epoch)")
    return words.joined(told) if told else ""


def two_splits(board: Board) -> str:
    """Why the numbers by which alpha was chosen are not those of the same model everywhere else on the page; empty where they are."""
    place = board.chosen()
    if not board.chose or board.split == board.probed == "val":
        return ""
    quantities = [name for name in (b.ACCURACY, b.ROBUSTNESS) if board.shown(name) != "val"]
    here, there = ([board.mean(name, place, split) for name in quantities] for split in ("val", "test"))
    if not all(here) or not all(there):
        return ""
    pairs = [
        f"{name} {words.percent(one.value)}{words.NBSP}% here, {words.percent(other.value)}{words.NBSP}% there"
        for name, one, other in zip(quantities, here, there, strict=True)
        if one and other
    ]
    text = "All numbers below are those of the validation split. Those of the same models on the test split, shown in the rest of "
    text += "this page, differ, "
    text += f"as these are other scans: of the chosen model {words.joined(pairs)}."
    svm = b.ROBUSTNESS in quantities and any(measure.partition(":")[0] == "svm" for measure, _ in board.probes)
    return text + (
        " The SVM that measures robustness here has learnt from the probe's training part, there from its validation part too."
        if svm
        else ""
    )


def named(board: Board, method: str, alpha: float | None) -> str:
    """A model in words; the recommended one with the alphas chosen for it."""
    if method != b.CHOSEN:
        return board.called(method, alpha)
    place = board.chosen()
    if board.chose:
        return f"{board.called(board.headline)} at the chosen {alpha_words(place)}"
    return words.joined(dict.fromkeys(board.called(*model) for model in place.values()))


def _verdict(board: Board, after: Place, before: Place) -> list[str]:
    scores, reference = _scored(board, before), board.called(board.reference)
    if not after:
        known = f"{words.capital(reference)} has {scores}. " if scores else ""
        why = "No alpha was chosen in this study, so there" if board.sweeps else "There"
        return [f"{known}{why} is nothing to recommend."]
    ours = board.called(board.headline)
    first = f"{words.capital(board.named(after))} has {_scored(board, after)}"
    if board.is_reference(after):
        return [f"{first}.", *_corrupted(board, after, None)]
    first += f"; {reference} has {scores}" if scores else ""
    changes = [
        f"{words.difference(found.value, found.low, found.high)} points of {name} ({judged(found)})"
        for name in (b.ACCURACY, b.ROBUSTNESS)
        if (found := board.gain(name, after))
    ]
    one = "; both have the same backbone" if changes and board.same_backbone(after, {seed: before[seed] for seed in after}) else ""
    against = [f"Against {reference} {ours} has {words.joined(changes)}{one}."] if changes else []
    return [f"{first}.", *against, *_corrupted(board, after, before)]


def _corrupted(board: Board, after: Place, before: Place | None) -> list[str]:
    """The mean accuracy under corruption, and how far that is above the reference's."""
    ours = board.mean(b.CORRUPTED, after)
    if ours is None:
        return []
    cells = max(len(board.parts(b.CORRUPTED, model, seed, board.split)) for seed, model in after.items())
    name, mean = board.called(board.headline), f"the mean of {words.counted(cells, 'corruption')} of {words.clouds(ours.n, ours.objects)}"
    said = f"Under corruption ({mean}) {name} has an accuracy of {words.interval(ours.value, ours.low, ours.high, '%')}"
    theirs, gain = (board.mean(b.CORRUPTED, before), board.gain(b.CORRUPTED, after)) if before else (None, None)
    if theirs and gain:
        said += f", {board.called(board.reference)} one of {words.interval(theirs.value, theirs.low, theirs.high, '%')}: "
        said += f"{words.difference(gain.value, gain.low, gain.high)} points ({judged(gain)})"
    return [f"{said}."]


def _beside(board: Board, after: Place, rival: Rival | None) -> list[str]:
    same = itself(board, after)
    known = [f"{words.capital(board.named(after))} is {board.called(same)} itself, which needs no sweep."] if same else []
    return [*known, *([told(board, after, rival)] if rival else [])]


def _where(board: Board) -> str:
    chosen = f"Alpha was chosen on the validation split by the {board.rule} rule" if board.chose else ""
    if board.sweeps and not board.chose and board.chosen():
        chosen = "No alpha was chosen"
    place = board.chosen() or board.fixed(board.reference)
    measured = board.mean(b.ACCURACY, place)
    shown = f"every number here is from the {words.split(board.split)} split" if board.results.rows else "nothing was measured"
    if board.probed != board.split:
        shown = f"accuracy is from the {words.split(board.split)} split, robustness from the probes' {words.split(board.probed)} parts"
    shown += f", accuracy over {words.clouds(measured.n, measured.objects)}" if measured else ""
    return " ".join([f"{words.capital(f'{chosen}; {shown}' if chosen else shown)}.", *_robustness(board, place)])


def _robustness(board: Board, place: Place) -> list[str]:
    """What is called so here: which classifier, on which data."""
    sets = dict[str, list[str]]()
    for measure, data in board.probes:
        if found := board.mean((measure, data), place):
            name = measure.partition(":")[0]
            how = "accuracy of a linear SVM on the backbone's features" if name == "svm" else f"accuracy that '{name}' measures"
            sets.setdefault(how, []).append(f"{data} ({words.clouds(found.n, found.objects)})")
    several = "mean " if sum(map(len, sets.values())) > 1 else ""
    said = words.joined(f"{how} of {words.joined(names)}" for how, names in sets.items())
    return [f"Robustness is the {several}{said}."] if sets else []


def _scored(board: Board, place: Place) -> str:
    found = [(name, board.mean(name, place)) for name in (b.ACCURACY, b.ROBUSTNESS)]
    return " and ".join(
        f"{'an' if name == b.ACCURACY else 'a'} {name} of {words.interval(one.value, one.low, one.high, '%')}" for name, one in found if one
    )


def _scores(board: Board, place: Place) -> dict[str, Any]:
    return {name: _plain(board.mean(name, place), words.interval) for name in _SCORES}


def _rival(rival: Rival) -> dict[str, Any]:
    scores = {name: _plain(found, words.interval) for name, found in rival.scores.items()}
    gain = {name: _plain(found, words.difference) for name, found in rival.gain.items()}
    return {"method": rival.method, **scores, "gain": gain, "dominates": rival.dominates, "on_val": rival.on_val}


def _plain(estimate: Estimate | None, spelled: Any) -> dict[str, Any] | None:
    if estimate is None:
        return None
    text = spelled(estimate.value, estimate.low, estimate.high)
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "objects": estimate.objects,
        "seeds": estimate.seeds,
        "sd": estimate.sd,
        "text": text,
    }
