from __future__ import annotations

import numpy as np
import pytest
from told import Told, data, votes

from wisetune.errors import UsageError
from wisetune.measure.accuracy import Accuracy
from wisetune.measure.measure import Measure
from wisetune.records import class_mean_interval, wilson

TASK = data("abc", [0, 1, 2], val=[0, 0, 0, 1, 1, 2], test=[1, 0])
ANSWERS = {TASK.val.digest: votes([0, 0, 1, 1, 0, 0], 3), TASK.test.digest: votes([1, 2], 3)}


def no_task(text):
    raise AssertionError(f"nothing else is needed, {text} least of all")


@pytest.fixture
def records():
    return list(Accuracy().of(Told(ANSWERS), TASK, no_task))


def test_two_records_a_split_train_never(records):
    assert [(record.split, record.name) for record in records] == [
        ("val", "accuracy"),
        ("val", "class-mean accuracy"),
        ("test", "accuracy"),
        ("test", "class-mean accuracy"),
    ]
    for record in records:
        assert (record.weights, record.measure, record.data, record.data_digest) == ("the weights", "accuracy", "toy", TASK.digest)


def test_overall_accuracy_by_hand(records):
    val, test = records[0], records[2]
    assert (val.value, val.n) == (3 / 6, 6)
    assert (test.value, test.n) == (1 / 2, 2)
    assert (val.low, val.high) == wilson(3, 6)


def test_class_mean_accuracy_by_hand(records):
    val, test = records[1], records[3]
    assert val.value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert (val.low, val.high) == class_mean_interval([2, 1, 0], [3, 2, 1])
    assert val.detail == {"per_class": {"a": [2, 3], "b": [1, 2], "c": [0, 1]}}
    # A class without clouds has no accuracy, and does not count as 0.
    assert test.value == pytest.approx((1 + 0) / 2)
    assert test.detail == {"per_class": {"a": [0, 1], "b": [1, 1]}}


def test_the_confusion_matrix_has_true_classes_in_rows(records):
    assert records[0].detail["confusion"] == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert records[2].detail["confusion"] == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert records[0].detail["classes"] == ["a", "b", "c"]


def test_which_answers_were_right_is_kept_item_by_item(records):
    assert records[0].detail["right"] == "110100"
    assert records[2].detail["right"] == "10"
    for record in records[::2]:
        assert len(record.detail["right"]) == record.n
        assert record.detail["right"].count("1") == record.value * record.n


def test_a_split_without_clouds_has_no_records():
    task = data("ab", [0, 1], val=[], test=[0])
    found = list(Accuracy().of(Told({task.test.digest: votes([0], 2)}), task, no_task))
    assert [record.split for record in found] == ["test", "test"]
    assert list(Accuracy().of(Told({}), data("ab", [0, 1], [], []), no_task)) == []


def test_equal_logits_count_as_the_first_class():
    task = data("ab", [0, 1], val=[0, 1], test=[])
    found = next(Accuracy().of(Told({task.val.digest: np.zeros((2, 2), np.float32)}), task, no_task))
    assert found.detail["right"] == "10"


def test_a_measure_needs_nothing_else_and_depends_on_the_head_unless_it_says_so():
    assert Measure().needs == ()
    assert not Accuracy().of_backbone
    with pytest.raises(NotImplementedError, match="Measure must define of"):
        Measure().of(Told({}), TASK, no_task)
    with pytest.raises(UsageError, match="no option"):
        Accuracy.from_options("split=val")
