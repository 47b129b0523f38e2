from __future__ import annotations

import numpy as np
import pytest
import torch

import pico
from wisetune.data.task import Split
from wisetune.errors import DataError, UsageError
from wisetune.measure import corruption
from wisetune.measure.corruption import Corruption
from wisetune.measure.subject import Subject
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.points.corrupt import KINDS, LEVELS, corrupt


def subject(seed=0) -> Subject:
    torch.manual_seed(seed)
    model = Model(pico.backbone(seed=seed), LinearHead().build(32, 4)).eval()
    return Subject(model, f"weights {seed}", f"backbone {seed}", FeatureBank(pico.CPU))


def no_task(text):
    raise AssertionError(text)


@pytest.fixture(scope="module")
def task():
    return pico.data()


@pytest.fixture(scope="module")
def records(task):
    return list(Corruption(items=8).of(subject(), task, no_task))


def test_one_record_a_kind_and_level_after_the_clean_one(records):
    assert len(records) == 36
    assert [(record.detail["kind"], record.detail["level"]) for record in records] == [
        ("clean", 0),
        *((kind, level) for kind in KINDS for level in LEVELS),
    ]
    assert {(record.name, record.split, record.n, record.measure) for record in records} == {
        ("corrupted accuracy", "test", 8, "corruption:items=8")
    }
    assert all(len(record.detail["right"]) == 8 for record in records)


def test_each_number_is_the_accuracy_on_clouds_corrupted_by_hand(task, records):
    one = subject()
    chosen = Corruption(items=8)._subset(task.test)
    for record in records[1::7]:
        spoilt = corrupt(chosen.points, record.detail["kind"], record.detail["level"], 0, pico.POINTS)
        with torch.inference_mode():
            right = one.model(torch.from_numpy(spoilt)).argmax(dim=1).numpy() == chosen.labels
        assert record.value == right.mean()


def test_the_same_clouds_are_corrupted_in_the_same_way_for_every_model(task, monkeypatch):
    seen = []
    monkeypatch.setattr(Subject, "once", lambda _, split: seen.append(split.digest) or np.zeros((len(split), 4)))
    for seed in range(2):
        list(Corruption(items=8).of(subject(seed), task, no_task))
    assert len(seen) == 70
    assert seen[:35] == seen[35:]
    assert len(set(seen)) == 35


def test_more_clouds_leave_those_there_were_as_they_were(task, monkeypatch):
    """The corrupted clouds of ``items=8`` are among those of ``items=16``."""
    seen: list[set[bytes]] = []
    monkeypatch.setattr(Subject, "once", lambda _, split: seen.append({*map(bytes, split.points)}) or np.zeros((len(split), 4)))
    for items in (8, 16):
        list(Corruption(items=items).of(subject(), task, no_task))
    assert all(few < many for few, many in zip(seen[:35], seen[35:], strict=True))


def test_the_seed_draws_the_corruption_and_the_clouds(task):
    first, other = (Corruption(items=8, seed=seed)._subset(task.test) for seed in (0, 1))
    assert first.names != other.names
    assert Corruption(items=8)._subset(task.test).names == first.names


def test_a_subset_is_in_proportion_to_the_classes_and_in_order():
    labels = np.repeat(np.arange(3), [40, 20, 10])
    split = Split(np.random.Generator(np.random.PCG64(0)).random((70, 4, 3), np.float32), labels, tuple(map(str, range(70))))
    for items, expected in ((7, [4, 2, 1]), (35, [20, 10, 5]), (69, None), (70, [40, 20, 10]), (0, [40, 20, 10]), (71, [40, 20, 10])):
        part = Corruption(items=items)._subset(split)
        assert len(part) == (items if 0 < items < 70 else 70)
        assert expected is None or np.bincount(part.labels, minlength=3).tolist() == expected
        rows = [int(name) for name in part.names]
        assert rows == sorted(set(rows))
        assert np.array_equal(part.points, split.points[rows])


def test_the_validation_part_may_be_asked_for(task):
    assert {record.split for record in Corruption(split="val", items=4).of(subject(), task, no_task)} == {"val"}


def test_a_task_without_a_test_part_is_measured_on_val_as_its_accuracy_is():
    task = pico.data(test=0)
    Corruption(items=4).check(task, no_task)
    assert Corruption(items=4).cost(task, no_task) == 36 * 4
    records = list(Corruption(items=4).of(subject(), task, no_task))
    assert {(record.split, record.n) for record in records} == {("val", 4)}
    assert len(records) == 36


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_task_without_held_out_clouds_is_refused(split):
    with pytest.raises(DataError, match=r"spoils held-out clouds, and 'solids' has none: give it a test part, for example test=0\.2"):
        Corruption(split).check(pico.data(val=0, test=0), no_task)


def test_nothing_of_corrupted_clouds_is_kept(task, monkeypatch):
    one, looked = subject(), []
    encode = Model.encode
    monkeypatch.setattr(Model, "encode", lambda model, groups: looked.append(len(groups[0])) or encode(model, groups))
    monkeypatch.setattr(corruption, "LEVELS", (1,))
    size = len(task.test)
    for again in range(2):
        list(Corruption().of(one, task, no_task))
        # The clean clouds are looked at once, the corrupted ones every time.
        assert sum(looked) == size + (again + 1) * len(KINDS) * size


@pytest.mark.parametrize(
    ("options", "message"), [({"split": "train"}, "it can be val, test"), ({"items": -1}, "a whole number, at least 0")]
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Corruption(**options)
