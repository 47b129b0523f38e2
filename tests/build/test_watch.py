"""How long a job took, over all its calls."""

from __future__ import annotations

from wisetune.build import watch
from wisetune.build.meter import Silent
from wisetune.build.watch import Spent


def test_the_time_of_a_short_call_that_is_killed_is_kept(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watch, "monotonic", lambda: now[0])
    kept, killed = list[Spent](), watch.Watch(Silent())
    killed.start(Spent(10.0, 1), 2, kept.append)
    for now[0] in (103.0, 104.0, 109.0, 112.0, 125.0):
        killed.advance(1, "train")
    assert kept == [Spent(13.0, 1), Spent(19.0, 1), Spent(35.0, 1)]
