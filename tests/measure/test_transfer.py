from __future__ import annotations

import numpy as np
import pytest
from told import Told, data

from wisetune.errors import DataError
from wisetune.measure.transfer import Transfer
from wisetune.records import wilson

DOWNSTREAM = data("abcd", [0, 1, 2, 3], [0], [1], name="ours")
OTHER = data("cxba", [0], [0, 1, 2, 3], [0, 0, 2, 1, 3], name="theirs")


class Logits(dict):
    """The same logits for whatever split of that many clouds is asked for."""

    def __missing__(self, digest):
        raise AssertionError("asked about clouds that no logits were given for")


def records(logits, options="on=there,map=shared"):
    shared = OTHER.test.take(np.array([row for row, label in enumerate(OTHER.test.labels) if label != 1]))
    answers = Logits({shared.digest: np.array(logits, np.float32)})
    return list(Transfer.from_options(options).of(Told(answers), DOWNSTREAM, {"there": OTHER}.__getitem__))


# Four clouds have a class of both: c, c, b, a (2, 2, 1, 0 in our numbers).
LOGITS = [
    [0, 0, 1, 9],  # d is out of the race: c, right
    [5, 0, 1, 0],  # a
    [0, 3, 1, 9],  # b, right
    [0, 1, 0, 0],  # b
]


def test_answers_are_limited_to_the_shared_classes_before_the_arg_max():
    overall, mean = records(LOGITS)
    assert (overall.name, overall.split, overall.value, overall.n) == ("transfer accuracy", "test", 0.5, 4)
    assert overall.detail["right"] == "1010"
    assert (overall.low, overall.high) == wilson(2, 4)
    assert (mean.name, mean.n) == ("transfer class-mean accuracy", 4)
    assert mean.value == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert mean.detail == {"per_class": {"c": [1, 2], "b": [1, 1], "a": [0, 1]}}
    assert {overall.data, mean.data} == {"theirs"}
    assert overall.data_digest == OTHER.digest


def test_the_map_is_in_the_record():
    assert records(LOGITS)[0].detail["map"] == [["a", "a"], ["b", "b"], ["c", "c"]]


def test_further_pairs_may_be_named():
    answers = {OTHER.test.digest: np.eye(4, dtype=np.float32)[[2, 2, 1, 3, 0]]}
    overall, mean = Transfer("there", "d=x").of(Told(answers), DOWNSTREAM, {"there": OTHER}.__getitem__)
    assert (overall.value, overall.n) == (1.0, 5)
    assert ["d", "x"] in overall.detail["map"]
    assert mean.detail["per_class"]["x"] == [1, 1]


def test_two_of_their_classes_may_be_one_of_ours():
    answers = {OTHER.test.digest: np.eye(4, dtype=np.float32)[[2, 2, 1, 0, 0]]}
    overall, mean = Transfer("there", "a=x").of(Told(answers), DOWNSTREAM, {"there": OTHER}.__getitem__)
    assert overall.value == 1.0
    assert mean.detail["per_class"] == {"c": [2, 2], "x": [1, 1], "b": [1, 1], "a": [1, 1]}


def test_a_class_without_partner_is_an_error_unless_left_out_by_word():
    with pytest.raises(DataError, match="no partner"):
        records(LOGITS, "on=there")


@pytest.mark.parametrize(("test", "has"), [([], "has no test part"), ([1, 1], "has test clouds only of classes that are not shared")])
def test_no_test_clouds_of_shared_classes_are_refused(test, has):
    other = data("ax", [0], [0], test)
    with pytest.raises(DataError, match=rf"'transfer:on=there,map=shared' measures on test clouds, and 'there' {has}\. .*test=0\.2"):
        Transfer("there", "shared").check(DOWNSTREAM, {"there": other}.__getitem__)
    assert list(Transfer("there", "shared").of(Told({}), DOWNSTREAM, {"there": other}.__getitem__)) == []


def test_a_transfer_depends_on_the_head_and_says_what_it_needs():
    assert not Transfer("there").of_backbone
    assert Transfer("there").needs == ("there",)
    assert str(Transfer("there", "sofa=couch,desk=table")) == "transfer:on=there,map=[sofa=couch,desk=table]"
