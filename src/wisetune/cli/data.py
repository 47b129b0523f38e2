"""``wisetune data``: look at data before training, simulate scans, write a data set as files."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wisetune.cli.kinds import Count, Formats, Options, Task
from wisetune.errors import counted


def check(task: Task, *, points: Count = 1024, json: bool = False) -> int:
    """Say what a data set holds, and list everything that is wrong or suspicious in it, with file names, without training.

    Exit code 0 when there is no error (warnings may be), 65 when there is one.

    Parameters
    ----------
    task
        A folder, an .npz file, or the task that reads one: folder:scans,up=y.
    points
        Points a cloud that the backbone takes.
    json
        What there is and every finding as JSON; without it findings that are alike are one line.
    """
    from wisetune.data.check import survey
    from wisetune.errors import DataError, UsageError

    if points < 1:
        raise UsageError(f"--points is {points}; it must be at least 1.")
    seen = survey(task, points)
    found, overview = seen.findings, seen.overview
    errors = sum(finding.severity == "error" for finding in found)
    if json:
        rows = [vars(finding) | {"files": list(finding.files)} for finding in found]
        summary = None if overview is None else overview.to_json()
        print(jsonlib.dumps({"task": task, "errors": errors, "summary": summary, "findings": rows}, indent=2))
    else:
        for line in (*(overview.lines() if overview else ()), *seen.lines()):
            print(line)
        print(
            f"{counted(errors, 'error')}, {counted(len(found) - errors, 'warning')} in {task}"
            if found
            else f"Nothing wrong or suspicious found in {task}."
        )
    return DataError.exit_code if errors else 0


def simulate_scans(
    source: Task, *, out: Path, setting: Options = "pb_t50_rs", per_object: Count = 8, points: Count = 1024, seed: Count = 0
) -> int:
    """Scan CAD objects with a simulated depth camera: partial, noisy clouds, with clutter if wanted.

    Parameters
    ----------
    source
        Objects: folder:DIR of CAD files or npz:FILE; up=y turns them upright.
    out
        The .npz file to write; wisetune reads it as npz:OUT.
    setting
        obj_only, obj_bg (floor, wall, clutter) or pb_t50_rs (that, in a box moved, scaled and turned), with options of the scanner:
        pb_t50_rs,views=1.
    per_object
        Scans of each object; an object is in train or in test, never in both.
    points
        Points a scan.
    seed
        Every draw follows from it.
    """
    import numpy as np

    from wisetune.data.files import FileTask
    from wisetune.data.scanner import Scanner
    from wisetune.data.simulate import simulate_task
    from wisetune.data.tasks import parse_task
    from wisetune.errors import StorageError, UsageError

    # Before the scanning, which may take hours.
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file in it, for example {out / 'scans.npz'}.")
    if not out.parent.is_dir():
        raise StorageError(f"{out}: cannot be written. There is no folder {out.parent}: make it, or choose another place.")
    task = parse_task(source)
    if not isinstance(task, FileTask):
        raise UsageError(f"'{source}' is not read from files. Give a folder of CAD files or an .npz file.")
    scanner = Scanner.from_options(setting if "=" in setting.partition(",")[0] else f"setting={setting}")
    scans, left_out = simulate_task(task, scanner, per_object, points, seed, out)
    for problem in left_out:
        print(f"left out: {problem}")
    test = int(np.sum(scans.is_test))
    objects = len(np.unique(scans.object_id))
    held = f"{counted(len(scans.labels), 'scan')} of {counted(objects, 'object')} in {counted(len(scans.class_names), 'class')}"
    print(f"{out}: {held} ({len(scans.labels) - test} train, {test} test)")
    return 0


def export(
    task: Task,
    *,
    out: Path,
    formats: Annotated[Formats, Parameter(name="--format")] = ("ply",),
    points: Count = 1024,
) -> int:
    """Write a task as a folder of files, OUT/train/CLASS/... and so on, going round the formats given.

    Parameters
    ----------
    task
        What to write: npz:FILE, demo:scans, folder:DIR.
    out
        A new folder.
    formats
        ply, xyz, npy, off, pcd ...; may be given several times.
    points
        Points a cloud.
    """
    from wisetune.data.tasks import parse_task
    from wisetune.data.write import write_folder

    count = write_folder(parse_task(task).load(points), out, formats)
    print(f"{out}: {counted(count, 'file')} ({', '.join(formats)})")
    return 0
