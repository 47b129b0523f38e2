"""The two pictures of a study: what accuracy costs in robustness, and both along alpha. Each is drawn wide and narrow (for phones)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.text import Text

from wisetune.report import board as b
from wisetune.report import words
from wisetune.report.board import Board, Estimate, alpha_words
from wisetune.report.drawing import THEME, Labels, png, svg
from wisetune.results import Variant

_WIDE, _NARROW = (9.2, 6.0), (4.3, 5.4)
_CURVES = (THEME["trained"], THEME["kept"], THEME["muted"])
"""The colours of the swept methods, the headline's first."""
Spot = tuple[Estimate, Estimate]
"""Robustness and accuracy of one model."""


def tradeoff_svgs(board: Board) -> dict[str, str]:
    """The trade-off plot for wide pages and for phones; empty when no two models have both numbers."""
    if not _drawn(board):
        return {}
    label = f"Accuracy against robustness ({board.where}): "
    if any(alpha is not None for _, alpha in _spots(board)):
        label += "one curve for each method through alpha, baselines as separate marks. The sweep table below holds the same numbers."
    else:
        label += "a mark for each model. The table of models below holds the same numbers."
    drawn = functools.partial(_tradeoff, board)
    return {
        "wide": svg("tradeoff", _WIDE, functools.partial(drawn, wide=True), label),
        "narrow": svg("tradeoff-narrow", _NARROW, functools.partial(drawn, wide=False), label),
    }


def tradeoff_png(board: Board) -> bytes | None:
    """The wide trade-off plot as a PNG; None when no two models have both numbers."""
    return png(_WIDE, functools.partial(_tradeoff, board, wide=True)) if _drawn(board) else None


def curve_svgs(board: Board) -> dict[str, str]:
    """Accuracy and robustness along alpha, with intervals, wide and narrow; empty when no alpha was measured."""
    if not any(board.alphas(method) for method in board.sweeps):
        return {}
    label = f"Accuracy and robustness along alpha ({board.where}), with 95 percent intervals. The sweep table holds the same numbers."
    drawn = functools.partial(_curves, board)
    tall = 2 if board.probes else 1
    return {
        "wide": svg("curves", (9.2, 4.1), functools.partial(drawn, wide=True), label),
        "narrow": svg("curves-narrow", (4.3, 3.6 * tall), functools.partial(drawn, wide=False), label),
    }


def _colour(board: Board, method: str) -> str:
    return _CURVES[min(board.sweeps.index(method), len(_CURVES) - 1)]


def _spot(board: Board, place: b.Place) -> Spot | None:
    robustness, accuracy = board.mean(b.ROBUSTNESS, place), board.mean(b.ACCURACY, place)
    return (robustness, accuracy) if robustness and accuracy else None


def _spots(board: Board) -> dict[Variant, Spot]:
    """Every model that has both numbers."""
    models = [*_swept(board), *map(Variant, board.baselines())]
    found = {model: _spot(board, board.fixed(*model)) for model in models}
    return {model: spot for model, spot in found.items() if spot}


def _drawn(board: Board) -> bool:
    """Whether there is anything to trade: a single model has nothing to be compared with."""
    return len(_spots(board)) > 1


def _tradeoff(board: Board, figure: Figure, wide: bool) -> None:
    axes = figure.add_subplot()
    spots = _spots(board)
    floor = _limits(board, axes, spots)
    axes.set_xlabel(f"Robustness: {'what linear probes get right' if wide else 'probes'} on other data (%, {words.split(board.probed)}) →")
    axes.set_ylabel(f"Accuracy on your task (%, {words.split(board.split)}) →")
    axes.grid(visible=True, lw=0.8)
    axes.tick_params(length=0)
    _legend(board, axes, spots, wide)
    figure.draw_without_rendering()  # fixes the layout, so that labels can be placed in points
    shown = {model: spot for model, spot in spots.items() if spot[1].value >= floor}
    labels = Labels(axes, [_at(spot) for spot in shown.values()], 10.5 if wide else 9.5)
    tuned, chosen = spots.get(Variant(board.reference)), _spot(board, board.chosen()) if board.chose else None
    if tuned:
        labels.avoid_text(_better(axes, tuned, board.called(board.reference), wide))
        axes.add_patch(_ellipse(tuned, THEME["ink"]))
    if below := _fallen(board, axes, spots, floor, wide):
        labels.avoid_text(below)
    for method in board.sweeps:
        path = [_at(spot) for (name, _), spot in spots.items() if name == method]
        if path:
            axes.plot(*zip(*path, strict=True), color=_colour(board, method), lw=2.4, alpha=0.9, zorder=4, solid_joinstyle="round")
            labels.avoid_path(path)
        for at in [_at(spot) for (name, _), spot in shown.items() if name == method]:
            # Not clipped: at 100 % half of a mark stands outside.
            axes.plot(*at, "o", color=_colour(board, method), mec=THEME["paper"], mew=1.2, ms=7, zorder=5, clip_on=False)
    if chosen:
        axes.add_patch(_ellipse(chosen, THEME["gain"]))
        # Below the curves, whose points stay seen.
        axes.plot(*_at(chosen), "*", color=THEME["gain"], mec=THEME["paper"], mew=1.3, ms=26, zorder=3, clip_on=chosen[1].value < floor)
        labels.avoid(_at(chosen), 11)
        labels.put(f"chosen: {alpha_words(board.chosen())}", _at(chosen), THEME["gain"], weight="bold", size=12.5 if wide else 10.5, gap=13)
    # The reference is named first, while there is room.
    more = itertools.cycle(words.MORE_MARKS)
    for (method, alpha), spot in sorted(shown.items(), key=lambda item: item[0] != Variant(board.reference)):
        if alpha is None:
            mark = words.MARKS.get(method) or next(more)
            _cross(axes, spot, THEME["ink"], 0.22)
            axes.plot(*_at(spot), mark, color=THEME["ink"], mec=THEME["paper"], mew=1.2, ms=9.5, zorder=7, clip_on=False)
            labels.avoid(_at(spot), 6)
            name = board.called(method)
            ends = [end for _, end in _ends(board, method) if end is not None]
            labels.put(
                (name if wide else _broken(name)) + (f" ({words.ALPHA} {ends[0]:g})" if ends else ""),
                _at(spot),
                THEME["ink"],
                weight="bold" if method == board.reference else "normal",
            )
    _alpha_labels(board, labels, shown, wide)


def _swept(board: Board) -> list[Variant]:
    """Every place of every curve."""
    return [Variant(method, alpha) for method in board.sweeps for alpha in board.alphas(method)]


def _ends(board: Board, baseline: str) -> list[Variant]:
    """The places of the curves at which they are this baseline."""
    return [model for model in _swept(board) if board.is_model(board.fixed(*model), baseline)]


def _legend(board: Board, axes: Axes, spots: dict[Variant, Spot], wide: bool) -> None:
    """What the colours mean, above the picture where nothing can lie under it."""
    present = [method for method in board.sweeps if any(name == method for name, _ in spots)]
    for row, method in enumerate(present):
        place = (0.36 * row, 1.03) if wide else (0.0, 1.02 + 0.045 * (len(present) - 1 - row))
        name = board.words(method)
        axes.text(*place, f"●  {name.name}{name.head}", transform=axes.transAxes, color=_colour(board, method),
                  fontsize=11 if wide else 9.5, fontweight="bold", va="bottom")  # fmt: skip
    if wide:
        axes.text(
            1.0,
            1.03,
            "ellipses and bars: 95 % intervals",
            transform=axes.transAxes,
            ha="right",
            va="bottom",
            color=THEME["muted"],
            fontsize=9.5,
        )


def _fallen(board: Board, axes: Axes, spots: dict[Variant, Spot], floor: float, wide: bool) -> Text | None:
    """Says what lies below the picture, on the side where the curve does not leave it."""
    below = [(model, spot) for model, spot in spots.items() if spot[1].value < floor and model[1] is not None]
    if not below:
        return None
    method = below[-1][0][0]
    lost = [(alpha or 0.0, spot) for (name, alpha), spot in below if name == method]
    alphas, low = [alpha for alpha, _ in lost], min(spot[1].value for _, spot in lost)
    left, right = axes.get_xlim()
    on_right = lost[-1][1][0].value * 100 < (left + right) / 2
    where = " this picture, " if wide else "\n"
    at = f"{words.ALPHA} {'≤' if max(alphas) > min(alphas) else '='} {max(alphas):g}"
    text = f"{board.called(method)} at {at} lies below{where}down to {words.percent(low)} %"
    return axes.text(0.99 if on_right else 0.012, 0.015, text, transform=axes.transAxes, ha="right" if on_right else "left", va="bottom",
              color=_colour(board, method), fontsize=9.5 if wide else 8.5)  # fmt: skip


def _limits(board: Board, axes: Axes, spots: dict[Variant, Spot]) -> float:
    """Limits that show what matters; returns the accuracy below which points fall out.

    A kept head on a backbone that is almost the pre-trained one is near chance. Shown in full, it would press all else into a line.
    """
    core = [spot for (method, alpha), spot in spots.items() if method not in board.sweeps[1:] or (alpha or 0) >= 0.7] or list(
        spots.values()
    )
    low, high = min(spot[1].value for spot in core), max(spot[1].value for spot in core)
    # Half an interval of room lets a reader see that most differences are smaller than what is known.
    room = max(spot[1].high - spot[1].low for spot in core) / 2
    bottom = max(min(spot[1].value for spot in spots.values()), low - room)
    bottom -= 0.35 * room
    axes.set_ylim(max(0.0, 100 * bottom), min(100.0, 100 * (high + 1.15 * room)))
    left, right = min(spot[0].value for spot in spots.values()), max(spot[0].value for spot in spots.values())
    wider = max(spot[0].high - spot[0].low for spot in spots.values()) / 2
    axes.set_xlim(max(0.0, 100 * (left - 0.9 * wider)), min(100.0, 100 * (right + 0.9 * wider)))
    return max(0.0, bottom)


def _better(axes: Axes, tuned: Spot, reference: str, wide: bool) -> Text:
    """The quarter of the picture in which a model beats the reference on both sides."""
    x, y = tuned[0].value * 100, tuned[1].value * 100
    (_, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    axes.add_patch(Rectangle((x, y), right - x, top - y, color=THEME["gain"], alpha=0.07, lw=0, zorder=0))
    axes.plot([x, x, right], [top, y, y], color=THEME["gain"], lw=1, ls=(0, (4, 4)), alpha=0.6, zorder=1)
    text = f"better than{' ' if wide else chr(10)}{reference} in both"
    return axes.annotate(
        text + "  ↗",
        (0.99, 0.985),
        xycoords="axes fraction",
        ha="right",
        va="top",
        color=THEME["gain"],
        fontsize=11 if wide else 9.5,
        style="italic",
    )


def _alpha_labels(board: Board, labels: Labels, shown: dict[Variant, Spot], wide: bool) -> None:
    """The alphas along the curves where there is room, the ends first; not again those that are named: the chosen one, and baselines."""
    named = {model for baseline in board.baselines() for model in _ends(board, baseline) if (baseline, None) in shown}
    if board.chose and len(chosen := set(board.chosen().values())) == 1:
        named |= chosen
    for method in board.sweeps:
        path = {alpha: spot for (name, alpha), spot in shown.items() if name == method and alpha is not None}
        ends = [alpha for alpha in (max(path, default=None), min(path, default=None)) if alpha is not None]
        inside = [alpha for number, alpha in enumerate(path) if alpha not in ends and (wide or number % 2 == 0)]
        for alpha in [*ends, *inside]:
            if (method, alpha) not in named:
                text = f"{words.ALPHA} {alpha:g}" if alpha in ends else f"{alpha:g}"
                labels.put(text, _at(path[alpha]), _colour(board, method), size=9, needed=False)


def _broken(name: str) -> str:
    """A name on two lines where one would be long for a narrow picture."""
    return name.replace(", ", ",\n") if ", " in name or len(name) < 12 else name.replace(" ", "\n", 1)


def _at(spot: Spot) -> tuple[float, float]:
    return 100 * spot[0].value, 100 * spot[1].value


def _cross(axes: Axes, spot: Spot, colour: str, strength: float) -> None:
    (x, y) = spot
    axes.plot([100 * x.low, 100 * x.high], [100 * y.value] * 2, color=colour, lw=1.2, alpha=strength, zorder=2)
    axes.plot([100 * x.value] * 2, [100 * y.low, 100 * y.high], color=colour, lw=1.2, alpha=strength, zorder=2)


def _ellipse(spot: Spot, colour: str) -> Ellipse:
    """A thin line and next to no shade: two of them overlap where the curves are."""
    (x, y) = spot
    centre = (50 * (x.low + x.high), 50 * (y.low + y.high))
    return Ellipse(
        centre, 100 * (x.high - x.low), 100 * (y.high - y.low), fc=to_rgba(colour, 0.03), ec=to_rgba(colour, 0.5), lw=0.9, zorder=1
    )


def _curves(board: Board, figure: Figure, wide: bool) -> None:
    panels = 2 if board.probes else 1
    grid = figure.subplots(1 if wide else panels, panels if wide else 1, squeeze=False)
    left, *right = grid.ravel().tolist()
    chosen = [alpha for _, alpha in board.chosen().values() if alpha is not None] if board.chose else []
    for method in board.sweeps:
        _curve(left, board, b.ACCURACY, method, _colour(board, method), board.called(method))
    _finish(left, "Accuracy on your task (%)", chosen)
    for axes in right:
        if len(board.probes) > 1:
            for number, probe in enumerate(board.probes):
                _curve(
                    axes,
                    board,
                    probe,
                    board.headline,
                    THEME["muted"],
                    probe[1],
                    ((0, (5, 2)), (0, (1, 1.5)), "-.")[number % 3],
                    ribbon=False,
                )
        _curve(
            axes, board, b.ROBUSTNESS, board.headline, THEME["ink"], "mean of the probes" if len(board.probes) > 1 else board.probes[0][1]
        )
        _finish(axes, "Robustness: probe accuracy (%)", chosen)


def _curve(
    axes: Axes,
    board: Board,
    quantity: str | tuple[str, str],
    method: str,
    colour: str,
    name: str,
    dashes: object = "-",
    *,
    ribbon: bool = True,
) -> None:
    found = [(alpha, board.mean(quantity, board.fixed(method, alpha))) for alpha in board.alphas(method)]
    known = [(alpha, estimate) for alpha, estimate in found if estimate]
    if not known:
        return
    alphas = [alpha for alpha, _ in known]
    if ribbon:
        low, high = [100 * one.low for _, one in known], [100 * one.high for _, one in known]
        axes.fill_between(alphas, low, high, color=colour, alpha=0.13, lw=0)
    axes.plot(alphas, [100 * one.value for _, one in known], color=colour, lw=2.2 if ribbon else 1.3, ls=dashes, label=name,
              marker="o" if ribbon else None, ms=4, clip_on=False)  # fmt: skip


def _finish(axes: Axes, title: str, chosen: Sequence[float]) -> None:
    for alpha in sorted(set(chosen)):
        axes.axvline(
            alpha, color=THEME["gain"], lw=1.6, alpha=0.8, zorder=1, label=f"chosen {words.ALPHA}" if alpha == min(chosen) else None
        )
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low), min(100.0, high))
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(f"{words.ALPHA}: 0 = pre-trained, 1 = fine-tuned backbone")
    axes.grid(visible=True, lw=0.8)
    axes.tick_params(length=0)
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
