"""Progress on stderr: one bar with an ETA on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_PLAIN_EVERY_S = 10.0


class Bar:
    """A meter (see ``wisetune.build.meter``) that a person can watch. ``quiet`` shows only what must be read."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.total, self.done = 0.0, 0.0
        self._text, self._started, self._shown = "", time.monotonic(), 0.0
        self._console = Console(stderr=True, highlight=False)
        self._live = Progress(
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            speed_estimate_period=120,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._live.add_task("", total=None)

    def expect(self, clouds: float) -> None:
        """How much there is to do in all, from now on."""
        self.total = max(clouds, 1.0)
        self._live.update(self._task, total=self.total)

    def stage(self, text: str) -> None:
        """What is being done now."""
        self._text = text
        self._live.update(self._task, description=text)
        self._plain()

    def advance(self, clouds: float) -> None:
        """So many more clouds are done."""
        self.done += clouds
        self._live.update(self._task, completed=min(self.done, self.total))
        self._plain()

    def tell(self, text: str) -> None:
        """A line that the user should read."""
        print(text, file=sys.stderr, flush=True) if self._live.disable else self._console.print(text, markup=False, soft_wrap=True)

    def _plain(self) -> None:
        now = time.monotonic() - self._started
        if self.quiet or self._console.is_terminal or now - self._shown < _PLAIN_EVERY_S:
            return
        self._shown = now
        share = min(self.done / self.total, 1.0) if self.total else 0.0
        left = f", about {duration(now * (1 - share) / share)} left" if share > 0.02 else ""
        print(f"{100 * share:3.0f} % after {duration(now)}{left}: {self._text}", file=sys.stderr, flush=True)

    def __enter__(self) -> Bar:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
