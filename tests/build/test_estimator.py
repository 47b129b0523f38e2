from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import pico
from wisetune.build.estimator import Classifier
from wisetune.data.formats import write
from wisetune.errors import DataError, UsageError

SOLIDS = pico.split(("ball", "stick", "plate"), 10, "estimator")
START = (
    "random:[point-mae:points=64,groups=8,group-size=8,width=16,depth=2,heads=2,tokenizer=8+8+8,class-token=false,"
    "readout=max+mean,initial=fan-in]"
)
QUICK = {"start": START, "story": "lp", "fit_options": "epochs=2,batch=8", "head_fit_options": "epochs=20,batch=8,lr=0.05,warmup=0"}


@pytest.fixture(autouse=True)
def no_demo(monkeypatch):
    """The probe is a small one."""
    from wisetune.data import tasks
    from wisetune.data.demo import Demo

    monkeypatch.setattr(Demo, "load", lambda _, points: pico.task("others", points))
    assert tasks.parse_task("demo:objects").load(64).name == "others"


def fitted(labels: np.ndarray | list, **options: object) -> Classifier:
    return Classifier(**{**QUICK, **options}).fit(SOLIDS.points, labels)


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    return np.array(("ball", "stick", "plate"))[SOLIDS.labels]


@pytest.mark.parametrize(
    "names",
    [np.array([2, 10, 1]), np.array(["2", "10", "1"]), np.array(["b", "c", "a"], object), np.array([True, False, False])],
    ids=["whole numbers", "texts", "objects", "booleans"],
)
def test_labels_keep_their_type_and_order(names):
    labels = names[SOLIDS.labels]
    classifier = fitted(labels)
    assert classifier.classes_.tolist() == sorted(set(names.tolist()))
    found = classifier.predict(SOLIDS.points)
    assert found.dtype.kind == np.asarray(names.tolist()).dtype.kind
    assert classifier.score(SOLIDS.points, labels) == (found == labels).mean() > 0.5
    assert classifier.score(SOLIDS.points, labels.tolist()) == classifier.score(SOLIDS.points, labels)
    assert classifier.score(X=SOLIDS.points, y=labels, sample_weight=found == labels) == 1
    assert classifier.results_ is not None


def test_what_is_said_of_a_cloud_follows_from_it_alone(words):
    classifier = fitted(words)
    many = np.concatenate([SOLIDS.points + noise for noise in (0, 0.05, -0.05)], axis=1)  # thrice the points that are taken
    probability = classifier.predict_proba(many)
    assert probability.shape == (30, 3)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(classifier.predict_proba(many[::-1]), probability[::-1], rtol=1e-4)
    np.testing.assert_allclose(classifier.predict_proba(many[7:8]), probability[7:8], rtol=1e-4)


def test_arrays_and_files_are_brought_to_the_frame_of_the_folder(tmp_path):
    for row, (points, label) in enumerate(zip(SOLIDS.points, SOLIDS.labels, strict=True)):
        file = tmp_path / "scans" / f"class {label}" / f"{row}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, points @ np.diag([1.0, 5.0, 1.0]))
    answers = []
    for task in ("folder:[{}]", "folder:[{}],up=y,normalise=centre"):
        classifier = Classifier(**QUICK).fit(task.format(tmp_path / "scans"))
        assert classifier.classes_.tolist() == ["class 0", "class 1", "class 2"]
        files = sorted(Path(tmp_path / "scans").rglob("*.npy"))
        answers.append(classifier.predict_proba(files))
        np.testing.assert_allclose(classifier.predict_proba([np.load(file) for file in files]), answers[-1], rtol=1e-4)
        assert set(classifier.predict(files)) <= set(classifier.classes_)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3


def test_scikit_learn_can_clone_and_cross_validate(words):
    classifier = Classifier(**QUICK, seed=3)
    assert clone(classifier).get_params() == classifier.get_params()
    assert clone(classifier).set_params(seed=4).seed == 4
    scores = cross_val_score(classifier, SOLIDS.points, words, cv=2, error_score="raise")
    assert ((scores >= 0) & (scores <= 1)).all()
    assert classifier.model_ is None


def test_mistakes_are_named(words):
    points = SOLIDS.points
    with pytest.raises(UsageError, match="not fitted yet"):
        Classifier().predict(points)
    with pytest.raises(UsageError, match="without labels takes a folder"):
        Classifier().fit(points)
    with pytest.raises(UsageError, match="30 clouds were given with 29 labels"):
        fitted(words[1:])
    with pytest.raises(UsageError, match=r"labels are float64 \[30\]; give one text or one whole number"):
        fitted(SOLIDS.labels / 2)
    with pytest.raises(UsageError, match=r"labels are object \[30\]"):
        fitted(np.array([None, *words[1:]], object))
    with pytest.raises(DataError, match="all labels are 1"):
        fitted(np.ones(30, int))
    classifier = fitted(words)
    for clouds, message in (
        ([], "no clouds were given"),
        (points[0], r"cloud 0 is float32 \[3\]; .* clouds\[None\]"),
        ([points[0], points[1][:5]], "cloud 1: holds 5 points; a shape needs at least 16"),
        ([points[0] * np.nan], "cloud 0: 64 of 64 points are not finite"),
        (points[:, :, :2], r"cloud 0 is float32 \[64, 2\]"),
    ):
        with pytest.raises(DataError, match=message):
            classifier.predict(clouds)
    with pytest.raises(UsageError, match="30 clouds were given with 3 labels"):
        classifier.score(points, words[:3])
