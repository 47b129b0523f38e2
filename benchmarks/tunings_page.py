"""Write docs/tunings.md: every tuning of the catalog, from its own words, with what it trains, what it holds, and what was published of it.

python -m benchmarks.tunings_page
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from benchmarks.published import PUBLISHED
from wisetune.build.memory import ALL, Compared, compare_memory
from wisetune.spec import dashed, options_of, spell
from wisetune.tune.full import FULL
from wisetune.tune.linear import Linear
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS

ROOT = Path(__file__).resolve().parent.parent
BACKBONE, BATCH = "point-mae-scanobjectnn", 512


_HEAD = f"""# Ways to tune

Made by `python -m benchmarks.tunings_page` from the catalog. Each is a file in `src/wisetune/tune` that puts small modules into a backbone, whose own
names never change: `wisetune run ft --tuning lora:rank=8 ...`, `wisetune compare --tunings all ...`, `wisetune memory dapt ...`.

A tuning that grafts trains what it grafted, the head, and the class token with its position where a backbone has one (`class-token=false` leaves
these as they are). What is frozen rests: it is in eval mode, so that its BatchNorm statistics stay and no drop path is active.
`reading=as_published` puts the whole model into training mode, as the released codes do.

**Mixed with its start** (WiSE-FT along alpha) a graft counts by its `share`, which is alpha: at 0 the backbone is the pre-trained one, at 1 the tuned
one. Where a graft is a change of weights (LoRA, SSF, BitFit) that is the line between those weights; where it is not, that part of what it adds:
an adapter's output, and of prompts and prefixes the weight that attention gives them (the logarithm of the share is added to their scores).
**Several tuned models in one soup** are mixed as weights, folded first (LoRA, SSF; BitFit is weights); the others are refused, but for a model that was
trained on from another.

## All of them

`{BACKBONE}` (width 384, 12 blocks, 128 patches), head `mlp3`. **trains**: values for 15 classes. **peak**: memory of a training step on {BATCH}
clouds against full fine-tuning here, counted as docs/memory.md says. **published**: million values and accuracy on PB_T50_RS by Zhou et al. (CVPR 2024)
with the official Point-MAE weights, which are other data and sizes than anything measured here: docs/results has what was measured.

| tuning | spelled | trains | peak | published values | published accuracy |
|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole text."""
    memory = compare_memory([ALL], BACKBONE, batch=BATCH)
    names = TUNINGS.names()
    rows = "".join(_row(name, memory) for name in names)
    return _HEAD + rows + "".join("\n" + "\n".join(_section(name)) + "\n" for name in names)


def _row(name: str, memory: Compared) -> str:
    tuning = TUNINGS.parse(name)
    cost = memory.memory[str(tuning)]
    peak = "-" if name == "full" else f"{memory.against_full(cost):+.0%}"
    known = PUBLISHED.get(name)
    published = f"{known.trainable} | {known.accuracy}" if known else "- | -"
    return f"| {_title(tuning)} | `{name}` | {cost.trainable:,} | {peak} | {published} |\n"


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
    for name, one in type(tuning).presets().items():
        options = ",".join(f"{dashed(option)}={spell(value)}" for option, value in one.options.items())
        yield f"* `preset={name}`: {f'`{options}`' if options else 'no options'} ({one.source})"
    if type(tuning).presets():
        yield ""
    rows = options_of(type(tuning))
    if rows:
        yield "| option | takes | by itself | what it is |\n|---|---|---|---|"
        yield from (f"| `{row.name}` | {_cell(row.takes)} | {_cell(row.default)} | {_cell(row.means)} |" for row in rows)


def _title(tuning: Tuning) -> str:
    return tuning.called[:1].upper() + tuning.called[1:]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    (ROOT / "docs" / "tunings.md").write_text(page())
