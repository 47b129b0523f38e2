from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wisetune.data.splits import assign, at_most_per_class, hold_out, numbered, parted, rank, without_val
from wisetune.data.task import Data, Split
from wisetune.errors import UsageError


def names_of(count):
    return [f"item {at}" for at in range(count)]


def test_each_class_gives_its_share():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    held = hold_out(labels, names_of(160), 0.2, 0, "val")
    assert np.bincount(labels[held]).tolist() == [20, 10, 2]


@pytest.mark.parametrize(("size", "held_out"), [(1, 0), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2)])
def test_small_classes_keep_one_on_each_side_where_they_can(size, held_out):
    assert hold_out(np.zeros(size, np.int64), names_of(size), 0.2, 0, "val").sum() == held_out


def test_a_high_share_leaves_one():
    assert hold_out(np.zeros(5, np.int64), names_of(5), 0.99, 0, "val").sum() == 4


def test_share_zero_holds_nothing_out():
    assert not hold_out(np.zeros(5, np.int64), names_of(5), 0.0, 0, "val").any()


@pytest.mark.parametrize("share", [-0.1, 1.0, 20.0, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(UsageError, match="share held out for val"):
        hold_out(np.zeros(5, np.int64), names_of(5), share, 0, "val")


def test_order_does_not_matter():
    labels, names = np.arange(60) % 3, names_of(60)
    turned = np.random.default_rng(0).permutation(60)
    held = hold_out(labels, names, 0.3, 5, "val")
    again = hold_out(labels[turned], [names[at] for at in turned], 0.3, 5, "val")
    np.testing.assert_array_equal(held[turned], again)


def test_seed_and_purpose_matter():
    labels, names = np.zeros(60, np.int64), names_of(60)
    drawn = [hold_out(labels, names, 0.3, seed, purpose).tolist() for seed, purpose in ((0, "val"), (1, "val"), (0, "test"))]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_words_are_numbered_in_their_sorted_order():
    words, places = numbered(["plate", "box", "box", "Zebra"])
    assert (words, places.tolist(), places.dtype) == (("Zebra", "box", "plate"), [2, 1, 1, 0], np.int64)
    assert numbered([])[0] == ()


def test_groups_in_more_than_one_part_are_found():
    items = [("b", "train"), ("b", "val"), ("c", "test"), ("a", "test"), ("a", "train"), ("c", "test")]
    assert parted(items) == {"a": ("test", "train"), "b": ("train", "val")}
    assert parted([]) == {}


def test_a_new_item_moves_few_others():
    order = [names_of(50)[at] for at in rank(names_of(50), 0, "val")]
    longer = [names_of(51)[at] for at in rank(names_of(51), 0, "val")]
    longer.remove("item 50")
    assert order == longer


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=80), st.floats(0, 0.99), st.integers(0, 3))
@settings(max_examples=60)
def test_groups_stay_whole(items, share, seed):
    labels = np.array([group % 4 for _, group in items])
    groups = [str(group) for _, group in items]
    held = hold_out(labels, groups, share, seed, "val")
    for group in set(groups):
        assert len({bool(held[at]) for at in range(len(items)) if groups[at] == group}) == 1
    for label in set(labels.tolist()):
        of_class = {groups[at] for at in range(len(items)) if labels[at] == label}
        assert not held[labels == label].all()
        assert held[labels == label].any() == (len(of_class) > 1 and share > 0)


def test_large_groups_do_not_overshoot():
    groups = ["a"] * 50 + names_of(50)
    for seed in range(10):
        held = hold_out(np.zeros(100, np.int64), groups, 0.2, seed, "val")
        assert held.sum() in range(10, 31) or held[:50].all()


def test_what_is_given_stays():
    labels, names = np.zeros(20, np.int64), names_of(20)
    given = ["test" if at < 5 else "train" for at in range(20)]
    parts = assign(labels, names, names, given, 0.2, 0.2, 0)
    assert [part == "test" for part in parts] == [part == "test" for part in given]
    assert parts.count("val") == 3
    everything = ["val" if at < 3 else part for at, part in enumerate(given)]
    assert assign(labels, names, names, everything, 0.2, 0.2, 0) == everything


def test_nothing_given():
    labels, names = np.zeros(100, np.int64), names_of(100)
    parts = assign(labels, names, names, [None] * 100, 0.2, 0.2, 0)
    assert [parts.count(part) for part in ("train", "val", "test")] == [64, 16, 20]


def test_names_must_differ():
    with pytest.raises(UsageError, match="two items are named 'a'"):
        assign(np.zeros(2, np.int64), ["a", "a"], ["a", "a"], [None, None], 0.2, 0.2, 0)


def test_few_of_each_class_are_part_of_more_and_of_another_seed_others():
    labels = np.array([0] * 9 + [1] * 4 + [2] * 2)
    split = Split(np.zeros((15, 16, 3), np.float32), labels, tuple(f"n{row}" for row in range(15)))
    three, five = at_most_per_class(split, 3, 0), at_most_per_class(split, 5, 0)
    assert np.bincount(three.labels).tolist() == [3, 3, 2]
    assert np.bincount(five.labels).tolist() == [5, 4, 2]
    assert set(three.names) < set(five.names)
    assert [split.names.index(name) for name in three.names] == sorted(split.names.index(name) for name in three.names)
    assert set(at_most_per_class(split, 3, 1).names) != set(three.names)
    assert at_most_per_class(split, None, 0) is split


def few_clouds(each, val, groups=None, test=0.2, told=True):
    """Two classes of so many clouds, parted as a task parts them, which has told of it or not."""
    labels = np.repeat([0, 1], each)
    names = tuple(names_of(2 * each))
    part = np.array(assign(labels, names, groups or names, [None] * len(names), val, test, 0))
    every = Split(np.zeros((len(names), 4, 3), np.float32), labels, names, groups)
    protocol = {"val": f"{val} of train, by class", "test": f"{test} of all, by class"} if told else {}
    return Data("few", ("a", "b"), *(every.take(np.flatnonzero(part == name)) for name in ("train", "val", "test")), protocol)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (few_clouds(1, 0.2), r"no class has two clouds .* at least 3, one each for train, val and test \(2 with test=0"),
        (few_clouds(2, 0.2), "no class has two clouds"),
        (few_clouds(6, 0.2, ("one",) * 6 + ("two",) * 6), r"no class has two clouds \(or scanned objects\)"),
        (few_clouds(6, 0.0), "give a share above 0, such as val=0.2"),
        (few_clouds(1, 0.2, test=0.0), "at least 2, one each for train and val, and 20 or more"),
        (few_clouds(1, 0.2, told=False), "at least 2, one each for train and val, and 20 or more"),
        (few_clouds(6, 0.0, told=False), "chosen: give data that have one.$"),
        (few_clouds(3, 0.2), "^$"),
    ],
)
def test_why_there_is_no_validation_part_is_told(data, says):
    assert re.search(says, without_val(data, "folder:few", chooses=True))


def test_without_a_choice_a_test_part_is_enough():
    assert without_val(few_clouds(6, 0.0), "folder:few", chooses=False) == ""
    assert "no validation and no test part" in without_val(few_clouds(1, 0.2), "folder:few", chooses=False)
