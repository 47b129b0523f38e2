from __future__ import annotations

import contextlib
import io

import pytest

from wisetune.build import bar


class Clock:
    """Time goes by when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bar, "time", clock)
    return clock


def test_what_an_earlier_session_did_is_no_work_of_this_one(clock):
    """33 of 150 epochs were done; one more took 54 s, so the other 116 take an hour and three quarters."""
    error = io.StringIO()
    with contextlib.redirect_stderr(error), bar.Bar() as progress:
        progress.stage("reading data")
        clock.now += 500  # which is not work either
        progress.expect(150.0, 33.0)
        assert progress.left() is None
        for _ in range(3):
            clock.now += 54
            progress.advance(1.0)
    assert progress.left() == pytest.approx(54 * 114)
    assert error.getvalue().splitlines()[-1].startswith(" 24 % after 3 min, about 1 h 43 min left: ")
    clock.now += 100
    assert progress.left() == pytest.approx(54 * 114 - 100)


def test_from_the_beginning(clock):
    progress = bar.Bar(quiet=True)
    progress.expect(10.0)
    clock.now += 30
    progress.advance(2.5)
    assert progress.left() == pytest.approx(90)
    progress.advance(7.5)
    assert progress.left() == 0
