"""What the store's tests keep in stores, and a training in miniature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from faults import ignore
from wisetune.files import clean, write_text
from wisetune.recipe import Start, Tune, digest
from wisetune.records import Record
from wisetune.spec import Spec
from wisetune.store import Store


@dataclasses.dataclass(frozen=True)
class Part(Spec):
    name = "part"
    size: int = 3


START = Start(Part(), "random:0")
RECIPE = Tune(START, Part(4), Part(), "0123456789abcdef", Part())
DIGEST = digest(RECIPE)
KEY = "feedfeedfeedfeed"
LOG = [{"epoch": 0, "loss": 0.1 + 0.2}, {"epoch": 1, "loss": float("inf"), "note": "Größe"}]
EXTRA = {"classes": ["chair", "table"], "seed": 2**80}
RECORDS = [
    Record(DIGEST, "accuracy", "scans", "0123", "val", name, 0.1 * n, n, 0.0, 1.0, {"confusion": [[n, 0], [0, 1]]})
    for n, name in enumerate(["balanced", "plain"])
]
STEPS = 4
Tree = dict[str, bytes | None]


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Small weights with what is awkward to keep."""
    random = torch.Generator().manual_seed(seed)
    return {"b.weight": torch.randn(3, 2, generator=random), "a.count": torch.tensor(seed), "empty": torch.zeros(0, 5)}


def run(root: Path, saved: Callable[[int], object] = ignore) -> list[int]:
    """What `wisetune tune` does, in miniature; returns the steps done, and calls ``saved`` after each save."""
    clean(root.parent)
    store, done = Store(root, tell=ignore), []
    with store.lock(DIGEST):
        if store.load(DIGEST) is None:
            found = store.load_state(DIGEST)
            state, meta = found if found is not None else ({"w": torch.zeros(5, dtype=torch.float64)}, {"step": 0, "log": []})
            for step in range(meta["step"] + 1, STEPS + 1):
                state = {"w": torch.sin(state["w"] + step)}
                meta = {"step": step, "log": [*meta["log"], {"step": step, "loss": float(state["w"].sum())}]}
                done.append(step)
                if step < STEPS:
                    store.save_state(DIGEST, state, meta)
                    saved(step)
            store.commit(RECIPE, state, meta["log"], {"steps": STEPS})
            saved(STEPS)
        if store.get_records(DIGEST, KEY) is None:
            store.put_records(DIGEST, KEY, RECORDS)
        write_text(root.parent / "report.html", "new")
    return done


def tree(root: Path) -> Tree:
    """Every file with its bytes and every folder (None), hidden ones too, but for what is in quarantine and for lock files."""
    found = {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}
    return {path: data for path, data in found.items() if not path.startswith(("quarantine", "locks"))}


def damage(path: Path, at: int = -1) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
