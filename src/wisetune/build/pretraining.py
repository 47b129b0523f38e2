"""Pre-training from files to a weights file: which shapes may be seen, the state between kills, what the file says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from wisetune.build.builder import Resume
from wisetune.build.meter import Meter
from wisetune.data.task import Data
from wisetune.data.tasks import parse_task
from wisetune.errors import UsageError
from wisetune.files import write_text
from wisetune.fit.pretrain import Pretrain, Shapes, pretrain
from wisetune.nets.point_mae import PointMAESpec
from wisetune.nets.save import save_backbone
from wisetune.runtime import stamp
from wisetune.spec import Spec, digest_of
from wisetune.store.store import Store

Up = Literal["y", "z"]
POOL = 2
"""Times as many points of a shape are held as a view takes, where the files have them, so that views differ in their points."""


def run_pretraining(
    spec: Spec,
    options: Pretrain,
    sources: Sequence[tuple[str, Up]],
    out: Path,
    meter: Meter,
    device: torch.device,
    *,
    half: bool = False,
    command: str = "",
) -> tuple[Path, list[dict[str, float]]]:
    """Pre-train on the train parts of tasks and write ``out/backbone.safetensors`` with its log; returns the file and the log.

    Raises:
        UsageError: a backbone that cannot be pre-trained, or nothing to learn from.
        DataError: files that cannot be used.
        Busy: another process writes there.
    """
    if not isinstance(spec, PointMAESpec):
        raise UsageError(f"'{spec}' cannot be pre-trained by wisetune; point-mae can.")
    meter.stage("reading data")
    shapes, seen = _shapes(sources, spec.points, meter)
    total = sum(len(source.points) for source in shapes)
    key = digest_of(["pretrain", spec.canonical(), options.canonical(), [facts["digest"] for facts in seen]])
    store = Store(out / "store", tell=meter.tell)
    with store.lock("pretrain"):
        meter.expect(float(total * options.epochs))
        meter.stage(f"pre-training on {total} shapes")
        resume = Resume(store, key)
        began = resume.load()
        meter.advance(float(total * (began[1]["epoch"] if began else 0)))

        def progress(done: int, epochs: int, line: Mapping[str, float]) -> None:
            meter.stage(f"epoch {done} of {epochs}, loss {line['loss']:.4f}")
            meter.advance(float(total))

        backbone, log = pretrain(spec, shapes, options, resume, progress, device)
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
    """The train parts of tasks, each shape once; what any part of an earlier task held is left out."""
    known: set[str] = set()
    shapes: list[Shapes] = []
    facts: list[dict[str, Any]] = []
    for text, up in sources:
        data = _load(text, points)
        fresh = np.array([row for row, name in enumerate(data.train.names) if name not in known], np.int64)
        known.update(name for part in (data.train, data.val, data.test) for name in part.names)
        left_out = len(data.train) - len(fresh)
        meter.tell(f"{data.name}: {len(fresh)} shapes" + (f", {left_out} left out that an earlier task holds" if left_out else ""))
        if len(fresh):
            part = data.train.take(fresh)
            shapes.append(Shapes(part.points.astype(np.float16), up))
            facts.append(
                {"name": data.name, "used": len(fresh), "left_out": left_out, "up": up, "held_out": held_out(data), "digest": part.digest}
            )
    if sum(len(source.points) for source in shapes) < 2:
        raise UsageError("there is nothing to pre-train on: the train parts of the tasks given hold fewer than two shapes.")
    return shapes, facts


def _load(text: str, points: int) -> Data:
    """With a pool of points where the files have them; repeats would only make patches smaller than they look."""
    data = parse_task(text).load(POOL * points)
    return parse_task(text).load(points) if data.protocol.get("repeated", 0) else data
