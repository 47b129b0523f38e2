"""Pre-training from files to a weights file: which shapes may be seen, the state between kills, what the file says of itself."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from wisetune.build.builder import Resume
from wisetune.build.meter import TRAIN, Meter
from wisetune.canonical import digest_of
from wisetune.data.files import PARTS, FileTask, Item
from wisetune.data.findings import Known, twins
from wisetune.data.folder import Folder
from wisetune.data.formats import Cloud, Shape, places
from wisetune.data.task import Data, Task
from wisetune.data.tasks import parse_task
from wisetune.data.unlabelled import Unlabelled
from wisetune.errors import UsageError, WisetuneError, counted, naming, part_of
from wisetune.files import write_text
from wisetune.fit.pretrain import Pretrain, Shapes, pretrain
from wisetune.nets.backbone import BackboneSpec, build_empty
from wisetune.nets.files.save import save_backbone
from wisetune.points.content import signature
from wisetune.runtime import stamp
from wisetune.store.store import Store

Up = Literal["y", "z"]
POOL = 2
"""Times as many points of a shape are held as a view takes, where the files have them, so that views differ in their points."""


def run_pretraining(
    spec: BackboneSpec,
    options: Pretrain,
    sources: Sequence[tuple[str, Up]],
    out: Path,
    meter: Meter,
    device: torch.device,
    *,
    half: bool = False,
    command: str = "",
    begun: Callable[[str], None] = lambda _: None,
) -> tuple[Path, list[dict[str, float]]]:
    """Pre-train on the train parts of tasks and write ``out/backbone.safetensors`` with its log; returns the file and the log.

    ``begun`` is told the name of the state in ``out/store`` before the first epoch.

    Raises:
        UsageError: a backbone that cannot be pre-trained, or nothing to learn from.
        DataError: files that cannot be used.
        Busy: another process writes there.
    """
    options = options.of(spec)
    meter.stage("reading data")
    shapes, seen = _shapes(sources, build_empty(spec).points, meter)
    total = sum(len(source.points) for source in shapes)
    key = digest_of(["pretrain", spec.canonical(), options.canonical(), [facts["digest"] for facts in seen]])
    store = Store(out / "store", tell=meter.tell)
    with store.lock("pretrain"):
        begun(key)
        # Of a state that turns out to be damaged when it is loaded, less was done.
        done = store.left([key]).begun.get(key, 0)
        if 0 < done < options.epochs:
            meter.tell(f"{part_of(done, options.epochs, 'epoch', 'was', 'were')} done before; going on with epoch {done + 1}.")
        meter.stage(f"pre-training on {total} shapes")
        meter.expect({TRAIN: float(total * (options.epochs - done))}, {TRAIN: float(total * done)})

        def progress(done: int, epochs: int, line: Mapping[str, float]) -> None:
            meter.stage(f"epoch {done} of {epochs}, loss {line['loss']:.4f}")
            meter.advance(float(total), TRAIN)

        backbone, log = pretrain(spec, shapes, options, Resume(store, key), progress, device)
        about = {
            "command": command,
            "options": str(options),
            "shapes": total,
            "data": [{name: facts[name] for name in ("name", "used", "left_out", "up", "held_out")} for facts in seen],
            "stamp": stamp(str(device)),
            "loss": log[-1]["loss"],
        }
        file = out / "backbone.safetensors"
        save_backbone(file, backbone, about, half=half)
        write_text(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log))
        write_text(out / "about.json", json.dumps(about, indent=2) + "\n")
    return file, log


def held_out(data: Data) -> str:
    """A digest of the names of the test part: a card says by it which clouds were not seen."""
    return digest_of(sorted(data.test.names))


def _shapes(sources: Sequence[tuple[str, Up]], points: int, meter: Meter) -> tuple[list[Shapes], list[dict[str, Any]]]:
    """The train parts of tasks, without shapes that any of the tasks holds out, and each shape once."""
    tasks = [_task(text, up) for text, up in sources]
    loaded = [_load(task, points, up) for task, (_, up) in zip(tasks, sources, strict=True)]
    meter.stage("looking for shapes that are held out")
    kept = _unseen([_identified(task, data) for task, data in zip(tasks, loaded, strict=True)])
    shapes: list[Shapes] = []
    facts: list[dict[str, Any]] = []
    for (_, up), task, data, names in zip(sources, tasks, loaded, kept, strict=True):
        fresh = np.array([row for row, name in enumerate(data.train.names) if name in names], np.int64)
        left_out = len(data.train) - len(fresh)
        why = f", {left_out} left out, held out or of an earlier task" if left_out else ""
        meter.tell(f"{data.name}: {counted(len(fresh), 'shape')}{why}{_kept_back(task, data)}")
        for warning in data.protocol.get("warnings", ()):
            meter.tell(f"warning: {warning}")
        if len(fresh):
            part = data.train.take(fresh)
            shapes.append(Shapes(part.points.astype(np.float16), up))
            facts.append(
                {"name": data.name, "used": len(fresh), "left_out": left_out, "up": up, "held_out": held_out(data), "digest": part.digest}
            )
    if sum(len(source.points) for source in shapes) < 2:
        raise UsageError(
            "there is nothing to pre-train on: the train parts of the tasks given hold fewer than two shapes that may be seen."
        )
    return shapes, facts


def _option(up: Up) -> str:
    return "--on" if up == "z" else "--on-y"


def _task(text: str, up: Up) -> Task:
    """A task as it was asked for; of a folder the classes do not matter."""
    with naming(_option(up)):
        task = parse_task(text)
    return Unlabelled.of(task) if isinstance(task, Folder) else task


def _load(task: Task, points: int, up: Up) -> Data:
    """With a pool of points where the files have them; repeats would only make patches smaller than they look."""
    with naming(_option(up)):
        data = task.load(POOL * points)
        return task.load(points) if data.protocol.get("repeated", 0) else data


def _kept_back(task: Task, data: Data) -> str:
    """How many shapes the task holds out, and how to have them too."""
    count = len(data.val) + len(data.test)
    if not count:
        return ""
    drawn = [part for part in ("val", "test") if len(data.split(part)) and data.protocol.get(part) != "given"]
    how = f"; {','.join(f'{part}=0' for part in drawn)} behind the task holds out none{'' if len(drawn) > 1 else ' there'}" if drawn else ""
    return f", {count} held out ({len(data.val)} val, {len(data.test)} test{how if isinstance(task, FileTask) else ''})"


@dataclasses.dataclass(frozen=True)
class _Seen:
    """One cloud of a task, and the object that its name says it is, None where names say nothing."""

    cloud: Known
    thing: str | None


def _identified(task: Task, data: Data) -> list[_Seen]:
    """Every cloud of a task, identified by what its file holds, as drawn from it where there is no file."""
    split = {name: part for part in PARTS for name in data.split(part).names}
    rows = re.compile(rf"\d{{{len(str(len(split)))},}}")
    # A path says where a file lies: 'chair/0001.off' is another chair in another folder. A number may be that of a row.
    named = not isinstance(task, Folder) and not all(rows.fullmatch(name) for name in split)
    seen: list[_Seen] = []
    for item, shape in _contents(task, data):
        if item.name in split and not isinstance(shape, WisetuneError):
            # The scans of one object are numbered: m12/0, m12/1.
            cloud = Known(name=item.name, label=item.label, group=item.group, signature=signature(places(shape)), part=split[item.name])
            seen.append(_Seen(cloud, re.sub(r"/\d+$", "", item.name) if named else None))
    return seen


def _contents(task: Task, data: Data) -> Iterator[tuple[Item, Shape | WisetuneError]]:
    if isinstance(task, FileTask):
        yield from task.looked(task.open())
        return
    for part in PARTS:
        for name, cloud in zip(data.split(part).names, data.split(part).points, strict=True):
            yield Item(name, "", part, name), Cloud(cloud.astype(np.float64))


def _unseen(tasks: Sequence[Sequence[_Seen]]) -> list[set[str]]:
    """Of each task the names in its train part that no task holds out and that no earlier task has.

    Two clouds are one shape if their files hold the same (``twins``: in another order, place or size too), or their names say so. Neither is
    enough: two collections may have the same objects with other points drawn of them, and the same file under another name.
    """
    of_task = {seen.cloud: number for number, task in enumerate(tasks) for seen in task}
    things: dict[str, list[Known]] = defaultdict(list)
    for seen in (seen for task in tasks for seen in task):
        if seen.thing is not None:
            things[seen.thing].append(seen.cloud)
    out: set[Known] = set()
    for group in [*twins(list(of_task)), *things.values()]:
        held = any(cloud.part != "train" for cloud in group)
        first = min(of_task[cloud] for cloud in group)
        out |= {cloud for cloud in group if held or of_task[cloud] > first}
    return [{seen.cloud.name for seen in task if seen.cloud.part == "train" and seen.cloud not in out} for task in tasks]
