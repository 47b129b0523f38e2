"""Figures as text: matplotlib without its global state, the same bytes every time, colours that follow the page into the dark.

An SVG names its colours as CSS variables of the page (``var(--ink)``), a PNG has those of the light page.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

THEME = {
    "ink": "#1c2330",
    "muted": "#5b6475",
    "grid": "#e3e6ec",
    "paper": "#fefefe",
    "trained": "#0b66c3",  # blue and vermilion stay apart for every kind of colour blindness (Okabe and Ito's pair, darkened)
    "kept": "#c2500a",
    "gain": "#17805a",
}
"""Colours by the name of their CSS variable. Each value occurs once, so that it can be replaced."""
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.parse_math": False,  # a dollar sign in a file name is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "wisetune",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": THEME["muted"],
    "axes.labelcolor": THEME["ink"],
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "text.color": THEME["ink"],
    "xtick.color": THEME["muted"],
    "ytick.color": THEME["muted"],
    "grid.color": THEME["grid"],
}
_NEAR = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.75, 0.75), (-0.75, 0.75), (0.75, -0.75), (-0.75, -0.75)]
_WAYS = [*_NEAR, *((math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)) for turn in range(1, 16, 2))]
_RINGS = (1.0, 2.2, 3.8)
"""How far from a point its text may stand, in gaps. From the second on a thin line leads to the point."""
_FAR = (6.0, 9.0, 12.5)
"""The same of a text that has to stand somewhere, where points are many."""
Box = tuple[float, float, float, float]
Draw = Callable[[Figure], None]


def svg(name: str, size: tuple[float, float], draw: Draw, label: str) -> str:
    """An inline SVG of a figure of ``size`` inches. ``label`` is what a screen reader says; ``name`` keeps ids apart on one page."""
    with _styled():
        figure = _figure(size, draw)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    for variable, colour in THEME.items():
        text = text.replace(colour, f"var(--{variable})")
    # The page gives width and font; namespaces are those of HTML.
    attributes = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg {attributes.group() if attributes else ""} role="img" aria-label="{_attribute(label)}">'
    body = re.sub(r"^<svg[^>]*>", "", text, count=1)
    return head + body.replace("xlink:href", "href").strip()


def png(size: tuple[float, float], draw: Draw) -> bytes:
    """A PNG of a figure, on white, 160 dots an inch."""
    with _styled():
        figure = _figure(size, draw)
        figure.set_facecolor("white")
        figure.set_dpi(160)
        for text in figure.findobj(Text):
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # in a page its style does that
        out = io.BytesIO()
        FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()


class Labels:
    """Puts texts beside points so that they cover neither points nor each other: of places in rings around a point the nearest free one."""

    def __init__(self, axes: Axes, points: Sequence[tuple[float, float]], size: float = 10.5) -> None:
        self.axes, self._size = axes, size
        figure = axes.get_figure()
        self._scale = 72 / (figure.dpi if figure is not None else 72)
        self._taken: list[Box] = []
        self._texts: list[Box] = []
        for point in points:
            self.avoid(point, 5)

    def avoid(self, at: tuple[float, float], radius: float) -> None:
        """Keep texts off a mark at ``at`` (in data units) of ``radius`` points."""
        x, y = self._place(at)
        self._taken.append((x - radius, y - radius, x + radius, y + radius))

    def avoid_path(self, path: Sequence[tuple[float, float]]) -> None:
        """Keep texts off the straight lines between these points (in data units)."""
        for (x, y), (to_x, to_y) in itertools.pairwise(path):
            for part in range(1, 8):
                self.avoid((x + (to_x - x) * part / 8, y + (to_y - y) * part / 8), 2)

    def avoid_text(self, text: Text) -> None:
        """Keep texts off one that stands already."""
        box = text.get_window_extent()
        self._taken.append((box.x0 * self._scale, box.y0 * self._scale, box.x1 * self._scale, box.y1 * self._scale))

    def put(
        self,
        text: str,
        at: tuple[float, float],
        colour: str,
        *,
        weight: str = "normal",
        size: float | None = None,
        gap: float = 8,
        needed: bool = True,
    ) -> None:
        """Write ``text`` beside the point ``at`` (in data units), in the best place there is; unless it is ``needed`` only in a free one."""
        size = size or self._size
        x, y = self._place(at)
        width, height = 0.58 * size * max(map(len, text.split("\n"))), 1.3 * size * len(text.split("\n"))
        rings = (*_RINGS, *_FAR) if needed else _RINGS
        ways = [(ring, way) for ring in rings for way in (_WAYS if ring in _FAR else _NEAR)]
        places = [(_beside(x, y, (ring * across, ring * up), width, height, gap), ring, across) for ring, (across, up) in ways]
        box, ring, across = min(places, key=lambda place: self._cost(place[0], (x, y)) + 40 * rings.index(place[1]))
        if not needed and self._cost(box, (x, y)) > 0:
            return
        self._taken.append(box)
        self._texts.append(box)
        side = "center" if across == 0 else "left" if across > 0 else "right"
        offset = (ring * across * gap, (box[1] + box[3]) / 2 - y)
        style = {"color": colour, "fontweight": weight, "fontsize": size, "zorder": 9}
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.7, "alpha": 0.7, "shrinkA": 0, "shrinkB": gap / 2} if ring > 1 else None
        self.axes.annotate(text, at, offset, textcoords="offset points", ha=side, va="center", arrowprops=leader, **style)

    def _place(self, point: tuple[float, float]) -> tuple[float, float]:
        x, y = self.axes.transData.transform(point)
        return float(x) * self._scale, float(y) * self._scale

    def _cost(self, box: Box, point: tuple[float, float]) -> float:
        """How much of a text there would lie outside or on something, and how much its line would cross other texts."""
        (left, bottom), (right, top) = self.axes.transAxes.transform([(0, 0), (1, 1)]) * self._scale
        outside = max(0, left - box[0]) + max(0, bottom - box[1]) + max(0, box[2] - right - 4) + max(0, box[3] - top)
        covered = sum(_overlap(box, other) for other in self._taken)
        (x, y), middle = point, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        way = [(x + (middle[0] - x) * part / 12, y + (middle[1] - y) * part / 12) for part in range(1, 12)]
        crossed = sum(_overlap((x - 1, y - 1, x + 1, y + 1), other) for x, y in way for other in self._texts)
        return 1000 * outside + 8 * covered + 40 * crossed


def _beside(x: float, y: float, way: tuple[float, float], width: float, height: float, gap: float) -> Box:
    left = x + way[0] * gap - (width / 2 if way[0] == 0 else 0 if way[0] > 0 else width)
    middle = y + way[1] * (gap + height / 2) if way[0] == 0 else y + way[1] * gap
    return left, middle - height / 2, left + width, middle + height / 2


def _overlap(a: Box, b: Box) -> float:
    if a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]:
        return 0.0  # most: this is asked some hundred thousand times a page
    return (min(a[2], b[2]) - max(a[0], b[0])) * (min(a[3], b[3]) - max(a[1], b[1]))


def _figure(size: tuple[float, float], draw: Draw) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0.0)
    draw(figure)
    return figure


@contextlib.contextmanager
def _styled() -> Iterator[None]:
    """Our style, and no warnings of names in scripts that matplotlib's font lacks: the page's browser has them."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def _attribute(text: str) -> str:
    for mark, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, entity)
    return text
