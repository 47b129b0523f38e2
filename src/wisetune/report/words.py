"""Every number and name of the page is spelled here: percent with one decimal, intervals as ``76.2 (73.0–79.1)``, methods in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from wisetune import runtime
from wisetune.errors import counted as counted

ALPHA, DASH, MINUS, NBSP = "\u03b1", "\u2013", "\u2212", "\u00a0"
"""The letter, the dash of ranges, a minus sign as wide as the plus, a space at which no line breaks."""


MARKS = {"ft": "D", "lp": "s", "lp-ft": "^", "ft-low-lr": "v"}
"""In pictures, and in the order in which pages list them after the sweeps; any other method comes last."""
MORE_MARKS = "PhX<>pd8Ho"
"""Of methods that have none of their own."""

SPLITS = {"val": "validation", "test": "test", "train": "training"}
NOTHING = DASH


def split(name: str) -> str:
    """A split's name in words."""
    return SPLITS.get(name, name)


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal, without the sign: ``76.2``."""
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.1f}"


def chance(value: float) -> str:
    """A probability: ``99.7 %``; what is not zero does not read so, nor one that is not certain as 100."""
    if 0 < value < 0.0005:
        return f"under 0.1{NBSP}%"
    return f"over 99.9{NBSP}%" if 0.9995 <= value < 1 else f"{percent(value)}{NBSP}%"


def interval(value: float | None, low: float | None, high: float | None, unit: str = "") -> str:
    """A fraction with its interval: ``76.2 (73.0–79.1)``; with a unit ``76.2 % (73.0–79.1)`` that stays on its line."""
    if low is None or high is None:
        return percent(value) + (unit and NBSP + unit)
    return f"{percent(value)}{unit and NBSP + unit} ({percent(low)}{DASH}{percent(high)})"


def points(value: float | None) -> str:
    """A difference of two fractions in percentage points, with its sign: ``+0.7``, ``−1.2``."""
    return NOTHING if value is None or not math.isfinite(value) else signed(100 * value)


def signed(value: float | None) -> str:
    """A number with one decimal and a sign; what rounds to zero has none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{abs(value):.1f}"
    return text if float(text) == 0 else f"{MINUS if value < 0 else '+'}{text}"


def difference(value: float | None, low: float | None, high: float | None) -> str:
    """A difference with its interval: ``+0.7 (−1.0 to +2.4)``."""
    return points(value) if low is None or high is None else f"{points(value)} ({points(low)} to {points(high)})"


def spread(value: float | None, sd: float | None, seeds: int) -> str:
    """How far seeds are apart: ``sd 0.4``; of two, of which that says little, both values: ``seeds 75.9–76.5``; of one nothing."""
    if value is None or sd is None:
        return ""
    # Two values lie sd / sqrt(2) to either side of their mean.
    half = sd / math.sqrt(2)
    return f"sd {percent(sd)}" if seeds != 2 else f"seeds {percent(value - half)}{DASH}{percent(value + half)}"


def equals(low: float, high: float | None = None) -> str:
    """An alpha or a range of alphas in a sentence."""
    return f"{ALPHA}{NBSP}={NBSP}{low:g}{DASH + f'{high:g}' if high not in (None, low) else ''}"


def alpha(value: float | None) -> str:
    """An alpha: ``0.3``."""
    return NOTHING if value is None else f"{value:g}"


def clouds(n: int, objects: int | None, noun: str = "cloud") -> str:
    """How many were measured: ``570 clouds of 84 objects``, ``570 clouds``."""
    return counted(n, noun) + ("" if objects is None else f" of {counted(objects, 'object')}")


def short(count: float) -> str:
    """A large number of values: ``22.1 M``, ``14.6 k``, ``132``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return f"{count:.0f}"


def giga(count: float | None) -> str:
    """Multiply-accumulates: ``4.957 G``, ``0.074 G``."""
    return NOTHING if count is None else f"{count / 1e9:.3f} G"


def size(count: float | None) -> str:
    """Bytes: ``25.30 GiB``, ``0.3 MiB``, ``9.0 KiB``."""
    if count is None:
        return NOTHING
    if count >= 1 << 30:
        return f"{count / 2**30:.2f} GiB"
    return f"{count / 2**20:.1f} MiB" if count >= 0.1 * 2**20 else f"{count / 2**10:.1f} KiB"


def times(ratio: float | None) -> str:
    """How many times as much: ``0.61x``; below a hundredth ``<0.01x``."""
    if ratio is None:
        return NOTHING
    return "<0.01x" if 0 < ratio < 0.005 else f"{ratio:.2f}x"


def less(ratio: float | None) -> str:
    """By how much a size differs from another, of which it is so many parts: ``−53 %``."""
    if ratio is None:
        return NOTHING
    text = f"{abs(100 * (ratio - 1)):.0f}"
    return f"{'' if text == '0' else MINUS if ratio < 1 else '+'}{text} %"


def seconds(value: float | None) -> str:
    """A short time: ``1.05 s``, ``8.5 ms``."""
    if value is None:
        return NOTHING
    return f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.1f} ms"


def capital(text: str) -> str:
    """A text as the beginning of a sentence; the address of a class, ``my_lab.gains:Gains``, stays as it is spelled."""
    return text if re.match(r"[\w.]+:\w", text) else text[:1].upper() + text[1:]


def joined(words: Iterable[str], last_by: str = "and") -> str:
    """Words in a row: ``a, b and c``."""
    *most, last = list(words) or [NOTHING]
    return f"{', '.join(most)} {last_by} {last}" if most else last


def duration(seconds: float) -> str:
    """A time that stays on its line."""
    return runtime.duration(seconds).replace(" ", NBSP)
