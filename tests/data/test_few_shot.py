"""A few classes of another task, a few clouds of each."""

from __future__ import annotations

import numpy as np
import pytest

from wisetune.data.tasks import parse_task
from wisetune.errors import DataError


def test_ways_and_shots_of_different_objects():
    whole = parse_task("demo:scans").load(64)
    data = parse_task("few-shot:on=[demo:scans],ways=4,shots=3,queries=2,fold=1").load(64)
    assert len(data.classes) == 4
    assert set(data.classes) < set(whole.classes)
    assert np.bincount(data.train.labels).tolist() == [3] * 4
    assert np.bincount(data.test.labels).tolist() == [2] * 4
    assert len(data.val) == 0
    for split, origin in ((data.train, whole.train), (data.test, whole.test)):
        assert len(set(split.groups)) == len(split)
        for name, label, points in zip(split.names, split.labels, split.points, strict=True):
            row = origin.names.index(name)
            assert whole.classes[origin.labels[row]] == data.classes[label]
            assert np.array_equal(points, origin.points[row])


def test_folds_differ_and_are_drawn_again():
    first, again, other = (parse_task(f"few-shot:on=[demo:scans],shots=3,queries=2,fold={fold}").load(64) for fold in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert first.train.names != other.train.names
    assert [data.protocol["fold"] for data in (first, other)] == [0, 1]
    assert first.protocol["folds_of"] == other.protocol["folds_of"] == "few-shot:on=demo:scans,shots=3,queries=2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ways=99", r"asks for 99 classes, and demo:scans has 9\. Ask for at most that"),
        (
            "shots=500",
            r"draws 500 shots a class, and demo:scans has (\d+) different clouds of .*\. Ask for fewer, with shots=\1, or",
        ),
        ("shots=2,queries=500", "in its test part"),
    ],
)
def test_more_than_there_is(options, message):
    with pytest.raises(DataError, match=message):
        parse_task(f"few-shot:on=[demo:scans],{options}").load(64)
