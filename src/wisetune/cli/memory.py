"""``wisetune memory``: what a training asks for, before there is a machine to train on."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from wisetune.cli.kinds import Count, CountOrNone, Word, WordOrNone

if TYPE_CHECKING:
    from wisetune.build.memory import MemoryTable

_HEADER = ("tuning", "trainable", "peak", "against full", "held", "saved a cloud", "weights", "gradients, AdamW")


def memory(
    *method: str,
    backbone: Word,
    batch: Count = 512,
    classes: CountOrNone = None,
    head: WordOrNone = None,
    attention: Literal["fused", "math"] = "fused",
    recompute: bool = False,
    json: bool = False,
) -> int:
    """The memory of one training step, on any machine and in seconds: shapes are enough, no GPU and no weights are needed.

    Beside each method stands full fine-tuning of the same backbone. docs/memory.md says what is counted.
    For example: wisetune memory linear --backbone point-mae-scanobjectnn

    Parameters
    ----------
    method
        Tunings: full, linear, with options if wanted; all is the whole catalog.
    backbone
        A backbone, or a setting of one: point-mae, point-mae-scanobjectnn, point-mae:width=192,heads=3.
    batch
        Clouds a training step.
    classes
        How many the head tells apart, of part segmentation parts. Default: those of the setting, else 40.
    head
        linear, mlp1, mlp2, mlp3, or one of part segmentation, such as parts, with options if wanted. Default: the setting's, else mlp3.
    attention
        fused, as it is computed here; or math, as the released codes write it out.
    recompute
        Blocks are computed again in the backward pass rather than kept, as with --fit recompute=true.
    json
        As JSON, sizes in bytes.
    """  # noqa: D405, D411, D416 - "attention" is a parameter here
    from wisetune.build.memory import compare_memory

    found = compare_memory(method, backbone, batch=batch, classes=classes, head=head, attention=attention, recompute=recompute)
    print(jsonlib.dumps(found.to_json(), indent=2) if json else "\n".join(_told(found)))
    return 0


def _told(found: MemoryTable) -> Iterator[str]:
    from wisetune.errors import counted
    from wisetune.report.words import size

    again = ", blocks recomputed" if found.recompute else ""
    told_apart = counted(found.classes, "part" if found.parts else "class")
    yield f"{found.backbone} with head {found.head} for {told_apart}: one step on {found.batch} clouds of {found.points} points"
    yield f"in float32, {found.attention} attention{again}; peak and held are everything, weights and AdamW's moments too."
    rows: list[tuple[str, ...]] = [_HEADER]
    for name, one in found.memory.items():
        against = f"{100 * found.against_full(one):+.0f} %" if one is not found.full else "-"
        sizes = map(size, (one.held, one.saved, one.weights, one.gradients + one.moments))
        rows.append((name, f"{one.trainable:,}", size(one.peak), against, *sizes))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        yield "  ".join([first.ljust(wide[0]), *(cell.rjust(width) for cell, width in zip(others, wide[1:], strict=True))])
    yield from (f"left out: {name}: {why}" for name, why in found.left_out.items())
