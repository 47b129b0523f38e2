"""Progress on stderr: one bar with an ETA on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from wisetune.build.meter import NOTHING, Pace, Work, weigh
from wisetune.runtime import duration

_PLAIN_EVERY_S = 10.0
_TRUSTED = 0.02
"""So much of what there was to do has to be done before it says how long the rest takes."""


class Bar:
    """A meter (see ``wisetune.build.meter``) that a person can watch. ``quiet`` shows only what must be read."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.total, self.done = 0.0, 0.0
        self._pace, self._text = Pace(NOTHING), ""
        self._started = self._moved = self._shown = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._live = Progress(
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            _Left(self),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._live.add_task("", total=None)

    def expect(self, work: Work, done: Work = NOTHING) -> None:
        """How much there is to do, and how much an earlier session did; the clock starts now."""
        self._pace, self.done = Pace(work), weigh(done)
        self.total = max(weigh(work) + self.done, 1.0)
        self._started = self._moved = time.monotonic()
        self._live.reset(self._task, total=self.total, completed=int(self.done), description=self._text)

    def stage(self, text: str) -> None:
        """What is being done now."""
        self._text = text
        self._live.update(self._task, description=text)
        self._plain()

    def advance(self, clouds: float, kind: str) -> None:
        """So many more clouds are done."""
        now = time.monotonic()
        self._pace.advance(clouds, kind, now - self._moved)
        self.done, self._moved = self.done + weigh({kind: clouds}), now
        self._live.update(self._task, completed=min(self.done, self.total))
        self._plain()

    def tell(self, text: str) -> None:
        """A line that the user should read."""
        print(text, file=sys.stderr, flush=True) if self._live.disable else self._console.print(text, markup=False, soft_wrap=True)

    def left(self) -> float | None:
        """Seconds to the end, by how fast this session is: what an earlier one did says nothing of that. None where little is done yet."""
        here, rest = weigh(self._pace.did), weigh(self._pace.rest)
        if here <= _TRUSTED * (here + rest):
            return None
        return max(self._pace.left() - (time.monotonic() - self._moved), 0.0)

    def _plain(self) -> None:
        now = time.monotonic()
        if self.quiet or self._console.is_terminal or now - self._shown < _PLAIN_EVERY_S:
            return
        self._shown = now
        share = min(self.done / self.total, 1.0) if self.total else 0.0
        left = self.left()
        rest = "" if left is None else f", about {duration(left)} left"
        print(f"{100 * share:3.0f} % after {duration(now - self._started)}{rest}: {self._text}", file=sys.stderr, flush=True)

    def __enter__(self) -> Bar:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()


class _Left(ProgressColumn):
    """The bar's own estimate: rich's would count what an earlier session did."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:
        """About how long it still takes."""
        left = None if task.finished else self._bar.left()
        return Text("" if left is None else f"{duration(left)} left", style="progress.remaining")
