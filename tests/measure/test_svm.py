from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from told import Told, data, split

from wisetune.data.task import Data
from wisetune.errors import DataError, UsageError
from wisetune.measure import svm as svm_module
from wisetune.measure.svm import FOLDS, GRID, Svm, folds
from wisetune.runtime import generator

LABELS = [0, 1, 2] * 12
PROBE = data("abc", LABELS, [0, 1, 2, 2], [2, 1, 0], name="probe")
DOWNSTREAM = data("xy", [0, 1], [0], [1])
PARTS = (PROBE.train, PROBE.val, PROBE.test)


def features(noise: float, key: str = "svm") -> dict[str, np.ndarray]:
    random = generator("test", key)
    centres = np.eye(3, 8, dtype=np.float32)
    return {part.digest: (centres[part.labels] + noise * random.normal(size=(len(part), 8))).astype(np.float32) for part in PARTS}


def probed(spec: Svm, answers: dict[str, np.ndarray], probe=PROBE):
    asked = []
    spec.check(DOWNSTREAM, lambda _: probe)
    found = list(spec.of(Told(answers), DOWNSTREAM, lambda text: asked.append(text) or probe))
    assert set(asked) == {spec.on}
    return found


@pytest.mark.parametrize("c", ["cv", "0.01", "10"])
def test_classes_far_apart_are_told_apart(c):
    records = probed(Svm("there", c), features(0.01))
    assert [(record.split, record.name, record.value, record.n) for record in records] == [
        ("val", "probe accuracy", 1.0, 4),
        ("val", "probe class-mean accuracy", 1.0, 4),
        ("test", "probe accuracy", 1.0, 3),
        ("test", "probe class-mean accuracy", 1.0, 3),
    ]
    assert {record.data_digest for record in records} == {PROBE.digest}
    assert {record.measure for record in records} == {str(Svm("there", c))}


def test_the_c_used_and_how_it_was_found_stand_in_the_record():
    fixed, chosen = probed(Svm("there", "0.25"), features(0.01))[0], probed(Svm("there"), features(0.01))[0]
    assert fixed.detail == {"c": 0.25, "c_by": "fixed", "trained_on": 36, "right": "1111"}
    # All are perfect: of equals the smallest.
    assert {"c": GRID[0], "c_by": "cross-validation", "trained_on": 36, "right": "1111"} == chosen.detail


def test_c_is_chosen_by_cross_validation_on_the_train_part():
    """By a loop of our own, over sets on which it finds different values."""
    found = set()
    for key in "abcd":
        answers = features(0.5, key)
        known, labels = answers[PROBE.train.digest], PROBE.train.labels
        mean = {}
        for c in GRID:
            machine = make_pipeline(StandardScaler(), LinearSVC(C=c, max_iter=20_000, tol=1e-3, random_state=0, dual=True))
            mean[c] = np.mean(
                [machine.fit(known[one], labels[one]).score(known[other], labels[other]) for one, other in folds(PROBE.train)]
            )
        (chosen,) = {record.detail["c"] for record in probed(Svm("there"), answers) if "c" in record.detail}
        assert mean[chosen] == max(mean.values())
        assert chosen == next(c for c in GRID if mean[c] == mean[chosen])
        found.add(chosen)
    assert len(found) > 1


OBJECTS = split([0, 1, 2] * 12, 100, [f"object {row % 3} {row // 6}" for row in range(36)])


@pytest.mark.parametrize("part", [PROBE.train, OBJECTS], ids=["clouds", "objects"])
def test_each_cloud_is_tested_in_one_fold_by_who_has_seen_neither_it_nor_its_object(part):
    found = folds(part)
    assert len(found) == FOLDS
    assert sorted(row for _, tested in found for row in tested) == list(range(len(part)))
    for taught, tested in found:
        assert sorted([*taught, *tested]) == list(range(len(part)))
        if part.groups is not None:
            assert not {part.groups[row] for row in taught} & {part.groups[row] for row in tested}
        assert np.bincount(part.labels[tested], minlength=3).tolist() == [4, 4, 4]


def test_siblings_do_not_choose_c():
    """Features that tell objects apart and say nothing of classes: across objects no C is better than chance, within them all are perfect."""
    labels, owners = [row // 3 % 2 for row in range(72)], [f"object {row // 3}" for row in range(72)]
    random = generator("test", "siblings")
    each = np.repeat(random.normal(size=(24, 64)), 3, axis=0)
    siblings = split(labels, 100, owners)
    leaky, honest = folds(split(labels, 100)), folds(siblings)
    machine = make_pipeline(StandardScaler(), LinearSVC(random_state=0))
    score = [
        np.mean([machine.fit(each[a], siblings.labels[a]).score(each[b], siblings.labels[b]) for a, b in one]) for one in (leaky, honest)
    ]
    assert score[0] > 0.9
    assert score[1] < 0.75


def test_the_numbers_of_val_are_by_train_alone_and_those_of_test_by_train_and_val():
    answers = features(0.5)
    first = probed(Svm("there", "0.01"), answers)
    assert [record.detail["trained_on"] for record in first[::2]] == [36, 40]
    spoilt = {**answers, PROBE.val.digest: answers[PROBE.val.digest][::-1] * -100}
    second = probed(Svm("there", "0.01"), spoilt)
    assert second[2] != first[2]
    machine = make_pipeline(StandardScaler(), LinearSVC(C=0.01, max_iter=20_000, tol=1e-3, random_state=0, dual=True))
    machine.fit(np.concatenate([answers[part.digest] for part in PARTS[:2]]), np.concatenate([part.labels for part in PARTS[:2]]))
    right = machine.predict(answers[PROBE.test.digest]) == PROBE.test.labels
    assert first[2].detail["right"] == "".join(map(str, right.astype(int)))
    # What val says changes no number of val but its own, and not the C.
    assert {record.detail["c"] for record in [*probed(Svm("there"), answers)[::2], *probed(Svm("there"), spoilt)[::2]]} == {
        probed(Svm("there"), answers)[0].detail["c"]
    }


def test_scans_of_one_object_widen_the_intervals_and_both_counts_are_told():
    parts = {
        name: split([row // 4 % 3 for row in range(24)], first, [f"{name} {row // 4}" for row in range(24)])
        for name, first in FIRST.items()
    }
    grouped = Data("siblings", tuple("abc"), parts["train"], parts["val"], parts["test"], {})
    plain = Data("alone", tuple("abc"), *(dataclasses.replace(part, groups=None) for part in parts.values()), {})
    centres = np.eye(3, 8, dtype=np.float32)
    random = generator("test", "siblings")
    # All scans of an object are mistaken together.
    answers = {
        part.digest: (centres[part.labels] + np.repeat(0.7 * random.normal(size=(6, 8)), 4, axis=0)).astype(np.float32)
        for part in parts.values()
    }
    ours, theirs = probed(Svm("there", "0.01"), answers, grouped), probed(Svm("there", "0.01"), answers, plain)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.n, one.objects, other.objects) == (24, 6, None)
        assert one.value == other.value
        assert one.high - one.low > 1.4 * (other.high - other.low)
    assert ours[0].groups == [row // 4 for row in range(24)]
    assert theirs[0].groups is None


FIRST = {"train": 100, "val": 200, "test": 300}


def test_c_matters():
    weak, strong = ([record.value for record in probed(Svm("there", c), features(0.7))] for c in ("0.00000001", "1"))
    assert weak != strong


def test_features_of_any_scale_are_one():
    answers = features(0.5)
    scaled = {digest: value * np.array([1, 1e3, 1e-3, 1, 1, 1, 1e2, 1], np.float32) + 7 for digest, value in answers.items()}
    assert [record.value for record in probed(Svm("there"), answers)] == [record.value for record in probed(Svm("there"), scaled)]


def test_the_machine_never_sees_the_test_part():
    answers = features(0.5)
    other = {**answers, PROBE.test.digest: answers[PROBE.test.digest][::-1] * 100}
    ours, theirs = probed(Svm("there"), answers), probed(Svm("there"), other)
    assert ours[:2] == theirs[:2]
    assert ours[2:] != theirs[2:]


def test_the_same_features_give_the_same_records():
    assert probed(Svm("there"), features(0.5)) == probed(Svm("there"), features(0.5))


def test_too_few_clouds_for_cross_validation_are_refused_with_the_way_out():
    few = data("abc", [0, 0, 0, 1, 1, 1, 2, 2], [0], [0], name="few")
    with pytest.raises(
        DataError, match=r"3-fold cross-validation, but a class of 'there' has 2 training clouds\. .*c=0\.01 .*--probe-c 0\.01 .*--c 0\.01"
    ):
        probed(Svm("there"), {}, few)
    answers = {few.train.digest: np.eye(8, dtype=np.float32), few.val.digest: np.zeros((1, 8)), few.test.digest: np.zeros((1, 8))}
    assert len(probed(Svm("there", "0.01"), answers, few)) == 4


def test_folds_are_found_once_for_the_check_and_once_for_each_backbone(monkeypatch):
    calls = []
    monkeypatch.setattr(svm_module, "folds", lambda train: calls.append(1) or folds(train))
    Svm("there").check(DOWNSTREAM, lambda _: PROBE)
    for key in "ab":
        list(Svm("there").of(Told(features(0.5, key)), DOWNSTREAM, lambda _: PROBE))
    assert len(calls) == 1 + 2


def test_too_few_objects_for_cross_validation_are_refused_too():
    two = dataclasses.replace(PROBE, train=split([0, 1] * 6, 100, ["a", "b"] * 6))
    with pytest.raises(DataError, match=r"6 training clouds and all of them are scans of 2 objects\. Fix it"):
        probed(Svm("there"), {}, two)


@pytest.mark.parametrize("labels", [[], [1, 1, 1, 1]])
@pytest.mark.parametrize("c", ["cv", "0.1"])
def test_fewer_than_two_classes_are_refused(labels, c):
    with pytest.raises(DataError, match="train part of 'there' has fewer than two"):
        probed(Svm("there", c), {}, data("ab", labels, [0], [0]))


def test_a_class_without_clouds_does_not_count_as_too_small():
    gap = data("abc", [0, 2] * 6, [0, 2], [0], name="gap")
    answers = {part.digest: np.eye(3, dtype=np.float32)[part.labels] for part in (gap.train, gap.val, gap.test)}
    assert probed(Svm("there"), answers, gap)[0].value == 1.0


@pytest.mark.parametrize("c", ["0", "-1", "much", "", "nan"])
def test_c_is_a_positive_number_or_cv(c):
    with pytest.raises(UsageError, match="it can be cv or a positive number"):
        Svm("there", c)


def test_a_probe_depends_on_the_backbone_alone_and_says_what_it_needs():
    assert Svm("there").of_backbone
    assert Svm("there").needs == ("there",)
