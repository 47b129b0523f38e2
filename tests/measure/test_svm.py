from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from told import Told, data

from wisetune.errors import DataError, UsageError
from wisetune.measure.svm import FOLDS, GRID, Svm
from wisetune.runtime import generator, seed_of

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
    assert fixed.detail == {"c": 0.25, "c_by": "fixed", "right": "1111"}
    # All are perfect: of equals the smallest.
    assert {"c": GRID[0], "c_by": "cross-validation", "right": "1111"} == chosen.detail


def test_c_is_chosen_by_cross_validation_on_the_train_part():
    """By scikit-learn's own search, over sets on which it finds different values."""
    found = set()
    for key in "abcd":
        answers = features(0.5, key)
        chosen = probed(Svm("there"), answers)[0].detail["c"]
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed_of("svm", "folds") % 2**32)
        pipeline = make_pipeline(StandardScaler(), LinearSVC(max_iter=20_000, tol=1e-3, random_state=0, dual=True))
        search = GridSearchCV(pipeline, {"linearsvc__C": GRID}, cv=folds).fit(answers[PROBE.train.digest], LABELS)
        assert chosen == search.best_params_["linearsvc__C"]
        found.add(chosen)
    assert len(found) > 1


def test_c_matters():
    weak, strong = ([record.value for record in probed(Svm("there", c), features(0.7))] for c in ("0.00000001", "1"))
    assert weak != strong


def test_features_of_any_scale_are_one():
    answers = features(0.5)
    scaled = {digest: value * np.array([1, 1e3, 1e-3, 1, 1, 1, 1e2, 1], np.float32) + 7 for digest, value in answers.items()}
    assert [record.value for record in probed(Svm("there"), answers)] == [record.value for record in probed(Svm("there"), scaled)]


def test_the_machine_sees_the_train_part_alone():
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
        DataError, match=r"3-fold cross-validation, but a class of 'there' has 2 training clouds\. .*svm:on=\[there\],c=0\.01"
    ):
        probed(Svm("there"), {}, few)
    answers = {few.train.digest: np.eye(8, dtype=np.float32), few.val.digest: np.zeros((1, 8)), few.test.digest: np.zeros((1, 8))}
    assert len(probed(Svm("there", "0.01"), answers, few)) == 4


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
