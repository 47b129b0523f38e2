"""Write docs/memory.md: what every tuning's training asks for, beside simulations of the official codes and what was published.

python -m benchmarks.memory_page

All of ours is computed in a few minutes, without a GPU. Run it again when a tuning has come or changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wisetune.build.memory import ALL, MemoryTable, compare_memory

ROOT = Path(__file__).parent.parent
BATCH, PARTS_BATCH = 512, 16
"""Clouds a step: of DAPT's figure, and of the released part segmentation."""
GIB, MIB = 1 << 30, 1 << 20


class Official(NamedTuple):
    """A simulation of an official code: values that train (15 classes), and of 128 and 64 patches the peak in GiB and what a cloud saves in MiB."""

    name: str
    trainable: int
    peak: tuple[float, float]
    saved: tuple[float, float]


OFFICIAL = (
    Official("full fine-tuning", 22_093_327, (35.73, 17.54), (69.88, 33.96)),
    Official("probing, as released (class token trains)", 268_303, (13.63, 6.38), (25.21, 11.57)),
    Official("probing, head only", 267_535, (12.17, 6.13), (0.01, 0.01)),
    Official("LoRA, rank 32 on q and v", 858_127, (14.96, 7.05), (27.85, 12.90)),
    Official("Adapter (Houlsby), 2 x 32", 868_111, (16.18, 7.67), (30.50, 14.23)),
    Official("AdaptFormer, 64", 863_503, (13.81, 6.47), (25.58, 11.76)),
    Official("Prefix, 50", 729_103, (15.40, 7.71), (28.74, 14.22)),
    Official("VPT-Deep, 10, frozen", 360_463, (14.95, 7.47), (27.54, 13.55)),
    Official("SSF", 371_215, (26.29, 12.76), (50.53, 24.32)),
    Official("DAPT, rank 64", 1_087_771, (32.40, 16.46), (63.18, 31.90)),
    Official("IDPT, frozen", 1_696_783, (40.85, 20.03), (73.18, 35.53)),
    Official("IDPT, as released (nothing frozen)", 23_522_191, (62.66, 31.05), (117.84, 57.97)),
)
CLAIMED = {"full fine-tuning": 0.35, "IDPT, as released (nothing frozen)": 0.49}
"""How much less DAPT is said to take than these."""
OUR_NAMES = {
    "full": "full fine-tuning",
    "linear": "probing, head only",
    "lora": "LoRA, rank 32 on q and v",
    "adapter": "Adapter (Houlsby), 2 x 32",
    "adaptformer": "AdaptFormer, 64",
    "prefix": "Prefix, 50",
    "vpt": "VPT-Deep, 10, frozen",
    "ssf": "SSF",
    "dapt": "DAPT, rank 64",
    "idpt": "IDPT, frozen",
}
"""Tunings, and the official code that each is nearest to; the others have none."""


class Size(NamedTuple):
    """What is counted: a setting of a backbone, its patches, clouds a step, and which column of the simulations is of that size, if one is."""

    backbone: str
    patches: int
    batch: int
    official: int | None


SIZES = (
    Size("point-mae-scanobjectnn", 128, BATCH, 0),
    Size("point-mae-modelnet-1k", 64, BATCH, 1),
    Size("point-mae-shapenetpart", 128, PARTS_BATCH, None),
)


_COUNTED = """\
One training step in float32 is run on tensors without values (torch's `meta` device): forward, cross-entropy, backward. A ledger adds the
bytes of every storage from the operation that makes it until nothing refers to it. In place from the start are the weights, the patches of
the batch and AdamW's two moments of every value that trains; gradients come as the backward pass makes them.

* **peak**: the most that is held at once. **held**: after the forward pass. **saved**: of that, what the graph keeps for one cloud.
* **Not counted**: workspaces inside an operation, the optimiser's own step (after the backward pass, when the graph is gone), data that
  wait, sampling and neighbours, an allocator's rounding and fragments, the CUDA context. A GPU's own counter shows more; ratios carry
  over better than sizes. None of this was measured on a GPU.
* **Attention** is `fused`: a kernel that keeps its output and one number a row, which is what torch takes on GPUs and CPUs for what is
  written here. With `math` it is written out as in the released codes, which keeps the softmax of all pairs of tokens: only that
  is to be compared with the simulations.
* The code is that of a GPU. On a CPU the tokenizer keeps less in training, as it computes its widest layer twice (`nets/linear_max.py`).
* Drop path and dropout are those of the training. Where nothing in the tokenizer trains, it has no graph and goes in chunks of 65,536
  points; a frozen part is in eval mode. `linear` has no graph before its head, and where no cloud is augmented features are computed once.
* **Recomputed**: `--fit recompute=true` (activation checkpointing) keeps what enters each block, and computes the block again in the
  backward pass: the same weights to the last bit on a CPU, for more time. A block with a BatchNorm that trains is kept as it is.
"""
_OFFICIAL = """\
The official codes on tensors without values, counted in the same way by other code than this package's: batch 512, 15 classes, attention
written out, no drop path. They stand in the last columns above, beside the tuning that is nearest in kind; ranks and numbers of prompts
may differ. That our ledger says the same of a plain stand-in of the official classifier is a test
(`tests/measure/test_training_memory.py`: nine of these rows, all within 3 %).
"""


class Counts(NamedTuple):
    """Ours of one size: as it is, with attention written out, with blocks recomputed."""

    fused: MemoryTable
    math: MemoryTable
    again: MemoryTable


def count(backbone: str, batch: int) -> Counts:
    """All tunings of the catalog."""
    fused, math = (compare_memory([ALL], backbone, batch=batch, attention=attention) for attention in ("fused", "math"))
    return Counts(fused, math, compare_memory([ALL], backbone, batch=batch, recompute=True))


def main() -> None:
    """Write the page."""
    (ROOT / "docs" / "memory.md").write_text("\n".join(page([count(size.backbone, size.batch) for size in SIZES])) + "\n")


def page(counted: Sequence[Counts]) -> Iterator[str]:
    """Its lines."""
    yield "# Training memory\n"
    yield "Made by `python -m benchmarks.memory_page`. For your own choice of method, backbone and batch, on any machine and in seconds:\n"
    yield "    wisetune memory all --backbone point-mae-scanobjectnn --batch 512\n"
    yield "Of part segmentation too: the last table. What was made for it alone (`idpt-parts`) is in no table of a classifier.\n"
    yield "## What is counted\n"
    yield from _COUNTED.splitlines()
    yield ""
    for size, one in zip(SIZES, counted, strict=True):
        yield from _ours(size, one)
    yield "## The official codes\n"
    yield from _OFFICIAL.splitlines()
    yield ""
    rows = [
        [one.name, f"{one.trainable:,}", *(f"{one.peak[which]:.2f}" for which in (0, 1)), *(f"{one.saved[which]:.2f}" for which in (0, 1))]
        for one in OFFICIAL
    ]
    yield from _table(["official code", "trainable", "peak, GiB, 128 patches", "64", "saved, MiB a cloud, 128", "64"], rows)
    yield "\n## What was claimed for DAPT\n"
    yield from _claim(counted)


def _ours(size: Size, one: Counts) -> Iterator[str]:
    fused, math, again = one
    yield f"## `{size.backbone}`, {size.patches} patches, batch {size.batch}\n"
    told_apart = f"{fused.classes} {'parts of points' if fused.parts else 'classes'}"
    yield f"{fused.points} points, head `{fused.head}`, {told_apart}; in GiB where nothing else is said.\n"
    rows = []
    for tuning, mine in fused.memory.items():
        others = [] if size.official is None else _nearest(tuning, size.official)
        peaks = [f"{side.memory[tuning].peak / GIB:.2f}" for side in (math, again)]
        held = [f"{mine.held / GIB:.2f}", f"{mine.saved / MIB:.2f}"]
        ours = [f"`{tuning}`", f"{mine.trainable:,}", f"{mine.peak / GIB:.2f}", _percent(fused.against_full(mine))]
        rows.append([*ours, *held, *peaks, *others])
    head = ["tuning", "trainable", "peak", "against full", "held", "saved, MiB a cloud", "peak, math", "peak, recomputed"]
    yield from _table(head if size.official is None else [*head, "official code, peak", "against full"], rows)
    for tuning, why in fused.left_out.items():
        yield f"\n`{tuning}` is left out: {why.rstrip('.')}."
    yield ""


def _nearest(tuning: str, which: int) -> list[str]:
    """The peak of the official code that a tuning is nearest to, and against the official full fine-tuning."""
    near = next((other for other in OFFICIAL if other.name == OUR_NAMES.get(tuning.partition(":")[0])), None)
    return ["-", "-"] if near is None else [f"{near.peak[which]:.2f}", _percent(near.peak[which] / OFFICIAL[0].peak[which] - 1)]


def _claim(counted: Sequence[Counts]) -> Iterator[str]:
    official = {one.name: one for one in OFFICIAL}
    dapt = official["DAPT, rank 64"]
    yield "DAPT's authors report 35 % less training memory than full fine-tuning and 49 % less than IDPT; how it was measured is not said. In the"
    yield "simulation of both codes, DAPT against"
    for name, claimed in CLAIMED.items():
        found = " and ".join(_percent(dapt.peak[which] / official[name].peak[which] - 1) for which in (0, 1))
        yield f"* {name}: {found} (128 and 64 patches); claimed -{100 * claimed:.0f} %."
    found = " and ".join(_percent(dapt.peak[which] / official["IDPT, frozen"].peak[which] - 1) for which in (0, 1))
    yield f"* IDPT with what it does not train frozen: {found}. Most of what was won over IDPT is that IDPT's code freezes nothing."
    for size, one in zip(SIZES, counted, strict=True):
        for tuning, mine in one.fused.memory.items():
            if tuning.partition(":")[0] == "dapt" and size.official is not None:
                yield f"* Ours, `{tuning}` of `{size.backbone}`: {_percent(one.fused.against_full(mine))} against our full fine-tuning."


def _percent(part: float) -> str:
    return "-" if part == 0 else f"{100 * part:+.0f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
