"""Mixing coefficients: 0 is the start, 1 the fine-tuned model."""

from __future__ import annotations

from wisetune.errors import UsageError

_ALPHA = "a number from 0, which gives the start, to 1, which gives the fine-tuned model; 0.5 is halfway"


def tidy(alpha: float) -> float:
    """Alpha without the dust of floating-point steps: 0.30000000000000004 and 0.3 must name the same weights.

    Raises:
        UsageError: alpha is not a number in [0, 1].
    """
    try:
        number = float(alpha)
    except (TypeError, ValueError):
        raise UsageError(f"alpha is {alpha!r}; it must be {_ALPHA}.") from None
    # Adding zero turns -0.0, which would be spelled and digested differently, into 0.0.
    tidied = round(number, 12) + 0.0
    if not 0.0 <= tidied <= 1.0:
        percent = f" Of percent give the hundredth part: {number / 100:g}." if 1 < number <= 100 else ""
        raise UsageError(f"alpha is {alpha}; it must be {_ALPHA}.{percent}")
    return tidied


def grid(steps: int = 10) -> tuple[float, ...]:
    """``steps + 1`` evenly spaced alphas from 0 to 1; 10 steps are the grid of Wortsman et al. (2022).

    Raises:
        UsageError: fewer than one step.
    """
    if steps < 1:
        raise UsageError(f"a grid of alphas was asked with {steps} steps; it needs at least 1.")
    return tuple(tidy(step / steps) for step in range(steps + 1))
