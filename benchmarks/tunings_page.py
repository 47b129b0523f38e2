"""Write docs/tunings.md: every tuning of the catalog, from its own words, with what it trains, what it holds, and what was published of it.

python -m benchmarks.tunings_page
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from wisetune.build.memory import ALL, MemoryTable, compare_memory
from wisetune.spec import options_of
from wisetune.spelling import dashed, spell
from wisetune.tune.full import FULL
from wisetune.tune.linear import Linear
from wisetune.tune.tuning import Tuning, in_common
from wisetune.tune.tunings import TUNINGS

ROOT = Path(__file__).resolve().parent.parent
BACKBONE, BATCH = "point-mae-scanobjectnn", 512
PARTS, PARTS_BATCH = "point-mae-shapenetpart", 16


_HEAD = f"""# Ways to tune

Made by `python -m benchmarks.tunings_page` from the catalog. Each is a file in `src/wisetune/tune` that puts small modules into a backbone, whose own
names never change: `wisetune run ft --tuning lora:rank=8 ...`, `wisetune compare --tunings all ...`, `wisetune memory dapt ...`.

A tuning that grafts trains what it grafted, the head, and the class token with its position where a backbone has one (`class-token=false` leaves
these as they are). PPT and PointLoRA also train the map of positions and the first half of the tokenizer (`position=false`, `tokenizer=false`); BitFit
grafts nothing and trains biases. What is frozen rests: it is in eval mode, so that its BatchNorm statistics stay and no drop path is active.
`reading=as_published` puts the whole model into training mode, as the released codes do.

**Published accuracies are too good**: every released code takes the test part for validation, and what is published is the best epoch on it, of one
seed or of the best of several. Nothing here is chosen so. They say which methods their authors found better, not what to expect.

**Mixed with its start** (WiSE-FT along alpha) a graft counts by its `share`, which is alpha: at 0 the backbone is the pre-trained one, at 1 the tuned
one. Where a graft is a change of weights (LoRA, SSF, BitFit) that is the line between those weights; where it is not, that part of what it adds:
an adapter's output, and of prompts and prefixes the weight that attention gives them (the logarithm of the share is added to their scores).
**Several tuned models in one soup** are mixed as weights, folded first (LoRA, SSF; BitFit is weights); the others are refused, but for a model that was
trained on from another.

## All of them

`{BACKBONE}` (width 384, 12 blocks, 128 patches), head `mlp3`. **trains**: values for 15 classes. **peak**: memory of a training step on {BATCH}
clouds against full fine-tuning here, counted as docs/memory.md says. **published**: million values and accuracy on PB_T50_RS with the official
Point-MAE weights, and by whom: those of Zhou et al. are of one table, the others each of its own. They are of other data and sizes than
anything measured here: docs/results has what was measured.

| tuning | spelled | trains | peak | published values | published accuracy | by |
|---|---|---|---|---|---|---|
"""


_PARTS_HEAD = f"""
### For part segmentation

`{PARTS}` (50 parts), {PARTS_BATCH} clouds a step; every tuning above works there too (docs/memory.md), this one was made for it.

| tuning | spelled | trains | peak |
|---|---|---|---|
"""


def page() -> str:
    """The whole text."""
    memory, names = compare_memory([ALL], BACKBONE, batch=BATCH), TUNINGS.names()
    of_parts = [name for name in names if TUNINGS.entry(name).of_parts]
    rows = "".join(f"{_row(name, memory)} {_published(name)} |\n" for name in names if name not in of_parts)
    parts = compare_memory(of_parts, PARTS, batch=PARTS_BATCH)
    return (
        _HEAD
        + rows
        + _PARTS_HEAD
        + "".join(f"{_row(name, parts)}\n" for name in of_parts)
        + "".join("\n" + "\n".join(_section(name)) + "\n" for name in names)
    )


def _row(name: str, memory: MemoryTable) -> str:
    tuning = TUNINGS.parse(name)
    cost = memory.memory[str(tuning)]
    peak = "-" if name == "full" else f"{memory.against_full(cost):+.0%}"
    return f"| {_title(tuning)} | `{name}` | {cost.trainable:,} | {peak} |"


def _published(name: str) -> str:
    known = TUNINGS.entry(name).figures
    return f"{known.trainable or '-'} | {known.accuracy:.2f} | {known.source}" if known else "- | - | -"


def _section(name: str) -> Iterator[str]:
    tuning = TUNINGS.parse(name)
    yield f"## {_title(tuning)}\n"
    yield inspect.cleandoc(type(tuning).__doc__ or "").replace("``", "`") + "\n"
    begun = "the pre-trained function" if tuning.begins == "unchanged" else "another function than the pre-trained one"
    folds = (
        f"It cannot be folded into weights: {tuning.lasting}." if tuning.lasting else "`wisetune export --fold` makes plain weights of it."
    )
    if tuning not in (FULL, Linear()):
        yield f"Before training it gives {begun}. {folds}\n"
    yield from _settings(type(tuning))
    rows = options_of(type(tuning))
    if rows:
        yield "| option | takes | by itself | what it is |\n|---|---|---|---|"
        yield from (f"| `{row.name}` | {_cell(row.takes)} | {_cell(row.default)} | {_cell(row.means)} |" for row in rows)


def _settings(kind: type[Tuning]) -> Iterator[str]:
    """Published settings, and what their codes do otherwise than the paper: of all of them once."""
    presets = kind.presets()
    every = in_common(presets)
    for name, one in presets.items():
        options = ",".join(f"{dashed(option)}={spell(value)}" for option, value in one.options.items())
        yield f"* `preset={name}`: {f'`{options}`' if options else 'no options'} ({one.source})"
        yield from (f"  * {differs}" for differs in one.differs if differs not in every)
    if every:
        yield "\nOf " + ("this setting" if len(presets) == 1 else "all of these") + ":\n"
        yield from (f"* {differs}" for differs in every)
    if presets:
        yield ""


def _title(tuning: Tuning) -> str:
    return tuning.called[:1].upper() + tuning.called[1:]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    (ROOT / "docs" / "tunings.md").write_text(page())
