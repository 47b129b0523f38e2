"""What papers report of ways to tune, and a page of results with that beside what was measured here.

python -m benchmarks.published PAGE.md RUN...        PAGE.md is that of wisetune report RUN... --markdown PAGE.md
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wisetune.report import words
from wisetune.report.board import ACCURACY, Board, Estimate
from wisetune.report.comparison import Comparison, compared_on, names
from wisetune.report.markdown import difference_cell, grid
from wisetune.results import Results
from wisetune.tune.tuning import DAPTS_TABLE, Figures
from wisetune.tune.tunings import TUNINGS

HEADING = "## Beside what was published"
_BEFORE = "## What each costs"
_OWN = {"ft": "full", "lp": "linear"}
"""How a comparison spells what the catalog calls otherwise."""


def in_dapts_table() -> dict[str, Figures]:
    """The tunings of that table, the best of it first, and what it says of each; full fine-tuning too."""
    found = {name: figures for name in TUNINGS.names() if (figures := TUNINGS.entry(name).figures) and figures.source == DAPTS_TABLE}
    return dict(sorted(found.items(), key=lambda item: -item[1].accuracy))


PUBLISHED = in_dapts_table()

SETTINGS = ("5 ways, 10 shots", "5 ways, 20 shots", "10 ways, 10 shots", "10 ways, 20 shots")
FEW_SHOT = {
    "full": ((96.3, 2.5), (97.8, 1.8), (92.6, 4.1), (95.0, 3.0)),
    "idpt": ((97.3, 2.1), (97.9, 1.1), (92.8, 4.1), (95.4, 2.9)),
    "dapt": ((96.8, 1.8), (98.0, 1.0), (93.0, 3.5), (95.5, 3.2)),
}
"""Point-MAE on ModelNet40, mean and standard deviation over ten folds: Pang et al., ECCV 2022; Zha et al., ICCV 2023; Zhou et al., CVPR 2024."""

_TABLE = """Zhou et al. (CVPR 2024, DAPT) report these accuracies on the hardest part of ScanObjectNN. **They are of other data and another size of
network**: real scans, the official Point-MAE of 22.1 M values, 300 epochs, one seed, and the best epoch on the test part; here simulated scans
or other sets, a backbone of 1.2 M values, few labelled clouds and few epochs. The figures do not compare; if anything, the order may be looked
at. Differences are from full fine-tuning, in points, those measured here bold where they are shown."""
_FEW = """Point-MAE's own figures (Pang et al., ECCV 2022), those of IDPT (Zha et al., ICCV 2023) and of DAPT (Zhou et al., CVPR 2024), mean ± standard
deviation over ten folds. **They are of other data and another size of network**: classes of ModelNet40, the official Point-MAE of 22.1 M values,
150 epochs, and of each fold the best epoch on its queries; here the ten classes of ModelNet10 (ten ways are always the same ten), a backbone of
1.2 M values, few epochs, and the last one. The figures do not compare; if anything, the order may be looked at."""


def beside(boards: Sequence[Board]) -> str:
    """The section: of folds the few-shot table, of other comparisons that of tunings.

    Raises:
        SystemExit: nothing was published of what these runs compare.
    """
    found = compared_on(boards)
    blocks = list(_few_shot(found) if all(one.folds for one in found) else _tunings(found))
    if not blocks:
        raise SystemExit("nothing was published of what these runs compare.")
    return "\n\n".join([HEADING, *blocks])


def _tunings(found: Sequence[Comparison]) -> Iterator[str]:
    ours = [_gains(one) for one in found]
    known = [name for name in PUBLISHED if name != "full" and any(name in gains for gains in ours)]
    if not known:
        return
    full = PUBLISHED["full"]
    rows = [(_called("full"), f"{full.trainable}", f"{full.accuracy:.2f}", words.NOTHING, *([words.NOTHING] * len(found)))]
    for name in known:
        one = PUBLISHED[name]
        cells = [_short(gains.get(name)) for gains in ours]
        rows.append((_called(name), f"{one.trainable}", f"{one.accuracy:.2f}", words.signed(one.accuracy - full.accuracy), *cells))
    yield _TABLE
    yield grid(("tuning", "values, M", "published accuracy", "published difference", *(f"here, {name}" for name in names(found))), rows)
    told = [
        f"{alike} of {pairs} on {name}"
        for name, gains in zip(names(found), ours, strict=True)
        for alike, pairs in [same_order(gains)]
        if pairs
    ]
    yield f"Pairs of these tunings and full fine-tuning that stand in the published order: {words.joined(told)}; by luck alone about half would."


def same_order(gains: Mapping[str, Estimate]) -> tuple[int, int]:
    """How many pairs of tunings stand in the published order, and how many pairs there are; those that are equal in either are none."""
    ours = {"full": 0.0} | {name: one.value for name, one in gains.items()}
    pairs = [
        (ours[a] - ours[b]) * (PUBLISHED[a].accuracy - PUBLISHED[b].accuracy)
        for a, b in itertools.combinations([name for name in PUBLISHED if name in ours], 2)
    ]
    return sum(pair > 0 for pair in pairs), sum(pair != 0 for pair in pairs)


def _few_shot(found: Sequence[Comparison]) -> Iterator[str]:
    places = [next((at for at, setting in enumerate(SETTINGS) if one.name.startswith(f"{setting},")), None) for one in found]
    kept = [(one, at) for one, at in zip(found, places, strict=True) if at is not None]
    if not kept:
        return
    rows = list[Sequence[str]]()
    for name, figures in FEW_SHOT.items():
        rows.append((f"{_called(name)}, published", *(f"{figures[at][0]} ± {figures[at][1]}" for _, at in kept)))
        if name != "full":
            apart = (words.signed(figures[at][0] - FEW_SHOT["full"][at][0]) for _, at in kept)
            rows.append((f"{_called(name)}, published difference", *apart))
            rows.append((f"{_called(name)}, difference here", *(difference_cell(_gains(one).get(name)) for one, _ in kept)))
    yield _FEW
    yield grid(("tuning", *(SETTINGS[at] for _, at in kept)), rows)


def _called(name: str) -> str:
    return TUNINGS.parse(name).called


def _gains(one: Comparison) -> dict[str, Estimate]:
    return {_OWN.get(name, name): gain for name in one.others if (gain := one.gain(ACCURACY, name))}


def _short(gain: Estimate | None) -> str:
    if gain is None:
        return words.NOTHING
    return f"**{words.points(gain.value)}**" if gain.shown else words.points(gain.value)


def with_beside(page: str, boards: Sequence[Board]) -> str:
    """The page with the section before its costs, or at its end; one that it has already is made anew."""
    before, heading, rest = page.partition(f"{HEADING}\n")
    if heading:
        page = before + rest[rest.index("\n## ") + 1 :] if "\n## " in rest else before
    head, costs, tail = page.partition(f"{_BEFORE}\n")
    return f"{head.rstrip()}\n\n{beside(boards)}\n" + (f"\n{costs}{tail}" if costs else "")


def main(page: str, *runs: str) -> None:
    """Put the section into the page of these runs."""
    boards = [Board(Results.read(Path(run) / "results.json")) for run in runs]
    Path(page).write_text(with_beside(Path(page).read_text(encoding="utf-8"), boards), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
