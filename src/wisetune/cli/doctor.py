"""``wisetune doctor``: whether this machine has what wisetune needs, and what results made here depend on."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path


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
    from wisetune.nets.pretrained import PRETRAINED, resolve
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
        problems = [f"{problem.path}: {problem.wrong}" for problem in store.verify()]
        left = session.left(store) if session and not problems else ""
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
        print(f"{len(problems)} damaged files; the run's command builds them again." if problems else well)
    return DataError.exit_code if problems else 0
