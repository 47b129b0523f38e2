"""What an option takes, as its help calls it: ``--on TASK``, ``--seeds N``, and not by Python's types."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

Task = Annotated[str, Parameter(metavar="TASK")]
Tasks = Annotated[tuple[str, ...], Parameter(metavar="TASK...")]
Tunings = Annotated[tuple[str, ...], Parameter(metavar="TUNING...", consume_multiple=True)]
Measures = Annotated[tuple[str, ...], Parameter(metavar="MEASURE...")]
Formats = Annotated[tuple[str, ...], Parameter(metavar="FORMAT...")]
Weights = Annotated[str, Parameter(metavar="WEIGHTS")]
Options = Annotated[str, Parameter(metavar="OPTIONS")]
Word = Annotated[str, Parameter(metavar="WORD")]
WordOrNone = Annotated[str | None, Parameter(metavar="WORD")]
Words = Annotated[tuple[str, ...], Parameter(metavar="WORD...")]
TextOrNone = Annotated[str | None, Parameter(metavar="TEXT")]
Count = Annotated[int, Parameter(metavar="N")]
CountOrNone = Annotated[int | None, Parameter(metavar="N")]
Counts = Annotated[tuple[int, ...], Parameter(metavar="N...")]


def shown(default: object) -> str | None:
    """A default as it would be typed; None of what is off, empty or not there by itself."""
    if default is None or default is False or default in ("", ()):
        return None
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
