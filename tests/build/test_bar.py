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
        progress.expect({"train": 117.0}, {"train": 33.0})
        assert progress.left() is None
        for _ in range(3):
            clock.now += 54
            progress.advance(1.0, "train")
    assert progress.left() == pytest.approx(54 * 114)
    assert error.getvalue().splitlines()[-1].startswith(" 24 % after 3 min, about 1 h 43 min left: ")
    clock.now += 100
    assert progress.left() == pytest.approx(54 * 114 - 100)


def test_from_the_beginning(clock):
    progress = bar.Bar(quiet=True)
    progress.expect({"look": 10.0})
    clock.now += 30
    progress.advance(2.5, "look")
    assert progress.left() == pytest.approx(90)
    progress.advance(7.5, "look")
    assert progress.left() == 0


JOB = {"train": 800.0, "look": 1000.0, "head": 100_000.0, "svm": 1000.0, "corruption": 500.0}
SECONDS = {"train": 0.3, "look": 0.1, "head": 0.01, "svm": 0.2, "corruption": 0.1}
"""A cloud: a head's, and a probe's, take ten times and twice as long as they are taken for."""
COURSE = [("train", 100.0)] * 8 + [("svm", 100.0)] + [("look", 100.0), *[("head", 100.0)] * 100, ("svm", 100.0)] * 9
COURSE += [("look", 100.0), *[("head", 100.0)] * 100, ("corruption", 500.0)]


def test_heads_that_train_on_features_are_timed_by_themselves(clock):
    """Their clouds take a thousandth of another's, or a tenth: once one head was trained the time left is right, and does not climb."""
    progress = bar.Bar(quiet=True)
    progress.expect(JOB)
    course = [*COURSE]
    assert {kind: sum(clouds for one, clouds in course if one == kind) for kind in JOB} == JOB
    whole = sum(clouds * SECONDS[kind] for kind, clouds in course)
    shares, heads = [], 0
    while course:
        kind, clouds = course.pop(0)
        clock.now += clouds * SECONDS[kind]
        progress.advance(clouds, kind)
        shares.append(progress.done / progress.total)
        heads += kind == "head"
        if heads:
            left = sum(clouds * SECONDS[kind] for kind, clouds in course)
            assert progress.left() == pytest.approx(left, abs=0.02 * whole)
    assert progress.left() == 0
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_what_was_not_met_yet_is_weighed_against_what_a_backbone_looked_at(clock):
    progress = bar.Bar(quiet=True)
    progress.expect({"train": 100.0, "head": 10_000.0, "corruption": 50.0})
    clock.now += 30
    progress.advance(50.0, "train")
    assert progress.left() == pytest.approx(30 + 10_000 * 0.01 * 0.2 + 50 * 0.2)
    clock.now += 700
    progress.advance(10_000.0, "head")
    assert progress.left() == pytest.approx(30 + 50 * 0.2), "a slow head makes no slow backbone"
