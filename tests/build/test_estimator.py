from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import pico
from wisetune.build.estimator import Classifier
from wisetune.build.predict import Predictor
from wisetune.data.formats import write
from wisetune.errors import DataError, UsageError, WeightsError
from wisetune.nets.create import create
from wisetune.stories.lp import Lp

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
        classifier.save(tmp_path / "saved.safetensors")
        found = Predictor(tmp_path / "saved.safetensors", torch.device("cpu")).probabilities(files[0])
        np.testing.assert_allclose(list(found.values()), answers[-1][0], rtol=1e-4)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3


def test_scikit_learn_can_clone_and_cross_validate(words):
    classifier = Classifier(**QUICK, seed=3)
    assert clone(classifier).get_params() == classifier.get_params()
    assert clone(classifier).set_params(seed=4).seed == 4
    scores = cross_val_score(classifier, SOLIDS.points, words, cv=2, error_score="raise")
    assert ((scores >= 0) & (scores <= 1)).all()
    assert classifier.model_ is None


def kept(classifier: Classifier) -> tuple[dict[str, int], set[str], str]:
    """How many clouds each part of the task had, the parts whose accuracy was measured, and what the protocol says of them."""
    study = classifier.results_.study
    measured = {row.record.split for row in classifier.results_.rows if row.record.role == "accuracy"}
    return {part: sum(counts.values()) for part, counts in study.task.counts.items()}, measured, study.selection


def saved(folder: Path) -> list[Path]:
    """The solids as files, one folder a class; their paths in the solids' order."""
    files = [folder / f"class {label}" / f"{row:02d}.npy" for row, label in enumerate(SOLIDS.labels)]
    for file, points in zip(files, SOLIDS.points, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, points)
    return files


def test_of_what_is_given_a_fifth_is_held_out_for_validation_and_none_for_a_test(words, tmp_path):
    files = saved(tmp_path / "scans")
    whole = {"train": 24, "val": 6, "test": 0}
    for given in (fitted(words), Classifier(**QUICK).fit(files, words), Classifier(**QUICK).fit(tmp_path / "scans")):
        sizes, measured, said = kept(given)
        assert (sizes, measured) == (whole, {"val"})
        assert "no test part: what is shown of it was measured on its validation part" in said


def test_what_is_held_out_does_not_follow_from_the_training_seed(words, tmp_path):
    saved(tmp_path)
    arrays, folders = ([Classifier(**QUICK, seed=seed).fit(*given) for seed in (0, 3)] for given in ((SOLIDS.points, words), (tmp_path,)))
    for pair in (arrays, folders):
        first, other = (classifier.results_.study for classifier in pair)
        assert (first.seeds, other.seeds) == ([0], [3])
        assert first.task.digest == other.task.digest


def test_too_few_clouds_are_told_what_a_classifier_needs():
    with pytest.raises(DataError, match="A class needs at least 2, one each for train and val, and 20 or more"):
        Classifier(**QUICK | {"story": "wise-ft"}).fit(SOLIDS.points[:2], ["a", "b"])


def test_a_test_part_is_used_where_the_data_have_one_or_it_is_asked_for(tmp_path):
    saved(tmp_path / "scans")
    sizes, measured, _ = kept(Classifier(**QUICK).fit(f"folder:[{tmp_path / 'scans'}],test=0.2"))
    assert (sizes, measured) == ({"train": 18, "val": 6, "test": 6}, {"val", "test"})
    saved(tmp_path / "parts/train")
    saved(tmp_path / "parts/test")
    sizes, measured, _ = kept(Classifier(**QUICK).fit(str(tmp_path / "parts")))
    assert (sizes, measured) == ({"train": 24, "val": 6, "test": 30}, {"val", "test"})


def test_a_folder_stands_for_its_files_by_path(words, tmp_path):
    files = saved(tmp_path)
    classifier = fitted(words)
    (tmp_path / ".hidden").touch()
    (tmp_path / "class 0/deeper").mkdir()
    files.append((tmp_path / "class 0/00.npy").rename(tmp_path / "class 0/deeper/00.npy"))
    there = sorted(file for file in files if file.exists())
    np.testing.assert_array_equal(classifier.predict_proba(tmp_path), classifier.predict_proba(there))
    assert len(classifier.predict(str(tmp_path))) == 30
    for name in ("a.ply", "b.txt"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"2 of 32 clouds cannot be used; leave them out:\n.*a\.ply: is empty.*\n.*b\.txt: is empty"):
        classifier.predict(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="there is no file in the folder"):
        classifier.predict(tmp_path / "none")


def test_verbose_shows_how_far_it_is_and_else_it_is_silent(words, monkeypatch, capsys):
    monkeypatch.setattr("wisetune.build.bar._PLAIN_EVERY_S", 0.0)
    fitted(words)
    assert capsys.readouterr().err == ""
    fitted(words, verbose=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ": training linear probing, seed 0" in shown.err
    assert "100 % after" in shown.err


def test_a_pool_of_repeated_points_is_told_of_arrays_as_of_files(words, tmp_path):
    options = {"story": "ft", "fit_options": "epochs=1,batch=8,pool=80"}
    for given in (SOLIDS.points, saved(tmp_path)):
        study = Classifier(**QUICK | options).fit(given, words).results_.study
        assert any("30 scans of arrays have fewer than 80 points" in text for text in study.warnings)
        assert study.task.protocol["repeated"] == 0  # of what is measured
    many = np.concatenate([SOLIDS.points, SOLIDS.points * np.float32(0.9)], axis=1)
    study = Classifier(**QUICK | options).fit(many, words).results_.study
    assert not any("fewer than" in text for text in study.warnings)


def test_mistakes_are_named(words):
    points = SOLIDS.points
    with pytest.raises(UsageError, match="not fitted yet"):
        Classifier().predict(points)
    with pytest.raises(UsageError, match="not fitted yet"):
        Classifier().save("mine.safetensors")
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
    with pytest.raises(UsageError, match=r"fit was given 'scans' with labels\. A folder or task names its classes itself"):
        Classifier().fit("scans", words)
    with pytest.raises(DataError, match="clouds are int; give an array"):
        Classifier(**QUICK).fit(5, [1])
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


WRONG = {
    "start": (5, None, ["point-mae-mini"]),
    "story": (5, None, Lp()),
    "probes": (5, None, [5], {"folder:other": 1}),
    "fit_options": (5, None, {"epochs": 3}),
    "head_fit_options": (None, {"epochs": 3}),
    "head": (5, None),
    "rule": (5, None),
    "keep": (5, True, ["l2-sp"]),
    "seed": ("3", None, 1.5, True, -1),
    "out": (5, ["a"], b"a"),
    "device": (5, None, torch.device("cpu")),
    "verbose": ("yes", None),
    "backbone": (5, True),
    "family": (5, True),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values], ids=str)
def test_arguments_of_another_kind_are_refused_by_name(name, value, words):
    with pytest.raises(UsageError, match=rf"^Classifier was given {name}={re.escape(repr(value))}; it takes .+\.$"):
        fitted(words, **{name: value})


def test_every_argument_is_looked_at():
    assert WRONG.keys() == Classifier().get_params().keys()


def test_a_penalty_holds_it_near_its_start(words):
    classifier = fitted(words, story="ft", keep="l2-sp:weight=0.5")
    assert classifier.results_.study.keep == "l2-sp:weight=0.5"
    assert all(line["penalty"] > 0 for line in classifier.results_.log["ft seed 0"])
    assert fitted(words).results_.study.keep is None
    with pytest.raises(UsageError, match=r"^'ewc' needs weight"):
        fitted(words, story="ft", keep="ewc")


def test_a_released_checkpoint_is_a_start_with_its_backbone_and_family(words, tmp_path):
    spec = START.removeprefix("random:[").removesuffix("]")
    torch.save({"base_model": create(spec, classes=4, head="mlp3").state_dict()}, tmp_path / "released.pth")
    given = {"start": tmp_path / "released.pth", "backbone": spec}
    assert fitted(words, **given).results_.study.warnings[-1] == "released.pth: its classification head (4 outputs) is left out."
    with pytest.raises(UsageError, match="give backbone='point-mae:width=16"):
        fitted(words, start=tmp_path / "released.pth")
    with pytest.raises(WeightsError, match="family='act' was given, and it is none of that family's"):
        fitted(words, **given, family="act")


def test_paths_and_numbers_of_numpy_are_fine(words, tmp_path):
    assert fitted(words, out=tmp_path / "out", seed=np.int64(3), verbose=0).results_.study.seeds == [3]


def test_what_is_said_is_in_the_words_of_python(words):
    (warning,) = [said for said in fitted(words).results_.study.warnings if "bundled" in said]
    assert warning.startswith("No probes were given: ")
    assert warning.endswith("Give your own with probes=[TASK].")
    with pytest.raises(UsageError, match=r"Give labelled data of other objects with probes=\['folder:DIR'\]\.$"):
        fitted(words, start="random:point-mae-modelnet-8k")
