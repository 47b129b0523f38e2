"""``wisetune doctor``: whether this machine has what wisetune needs, and what results made here depend on."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from pathlib import Path

from wisetune.errors import BadFile, WeightsError, counted


def doctor(run: Path | None = None, *, json: bool = False) -> int:
    """Check the installation; with a run's folder, check every file of its store, and say how far the run is.

    Parameters
    ----------
    run
        A run's OUT folder.
    json
        As JSON.
    """
    import importlib.util

    import torch

    from wisetune.cli.listing import store_of
    from wisetune.cli.session import Session
    from wisetune.errors import DataError
    from wisetune.nets.files.pretrained import PRETRAINED, resolve
    from wisetune.points.neighbours import patches
    from wisetune.runtime import device, stamp
    from wisetune.store.store import Store

    where = device("auto")
    facts = stamp(str(where))
    problems, left = list[str](), ""
    patches(torch.rand(1, 64, 3, device=where), 8, 8)
    for name in PRETRAINED:
        facts[name] = resolve(name).digest
    for library, extra in (("laspy", "las"), ("lazrs", "las")):
        facts[library] = "installed" if importlib.util.find_spec(library) else f"not installed (optional: pip install 'wisetune[{extra}]')"
    if run is not None:
        store, session = Store(store_of(run), create=False), Session.read(run)
        problems = [f"{problem.path}: {problem.wrong}" for problem in (*store.verify(), *_written(run))]
        left = session.left(store) if session and not problems else ""
        if not problems:
            facts[str(run)] = ", ".join([counted(len(store.list()), "object"), *(name for name in _READERS if (run / name).exists())])
    if json:
        print(jsonlib.dumps({**facts, "problems": problems, "left": left}, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:16} {value}")
        for problem in problems:
            print(f"damaged: {problem}")
        if left:
            print(f"{run} is {left}")
        well = "Its files are sound." if left else "All is well."
        print(
            f"{counted(len(problems), 'damaged file')}; the run's command builds {'it' if len(problems) == 1 else 'them'} again."
            if problems
            else well
        )
    return DataError.exit_code if problems else 0


def _written(run: Path) -> list[BadFile]:
    """What is damaged of the files that a run or a pre-training leaves beside its store."""
    found = [_damage(run / name, read) for name, read in _READERS.items() if (run / name).exists()]
    return [problem for problem in found if problem is not None]


def _damage(file: Path, read: Callable[[Path], object]) -> BadFile | None:
    try:
        read(file)
    except BadFile as problem:
        return problem
    except WeightsError as problem:
        return BadFile(file, str(problem), "run the run's command again, which writes it anew")
    return None


def _weights(path: Path) -> None:
    from wisetune.nets.files.save import load_backbone, read_card

    if not read_card(path).grafts:  # a file imports nothing by itself, so what was grafted may not be there to read it
        load_backbone(path)


def _results(path: Path) -> None:
    from wisetune.results import Results

    Results.read(path)


_READERS: dict[str, Callable[[Path], None]] = {"results.json": _results, "model.safetensors": _weights, "backbone.safetensors": _weights}
"""What a run or a pre-training leaves beside its store, and what finds damage in it."""
