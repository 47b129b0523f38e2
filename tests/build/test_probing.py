from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import pico
from pico import CPU, SPEC
from wisetune.build.contest import contest
from wisetune.build.meter import Silent
from wisetune.build.pretraining import held_out
from wisetune.build.probing import AS_FILED, Asked, probe, turned_about
from wisetune.data.npz import Npz
from wisetune.data.task import Data, Task
from wisetune.errors import DataError, UsageError
from wisetune.measure.svm import Svm
from wisetune.nets.create import create
from wisetune.nets.files.save import save_backbone, save_model
from wisetune.nets.model import Model
from wisetune.records import difference_interval, wilson

RANDOM = f"random:[{SPEC}]"


@dataclasses.dataclass(frozen=True)
class Pico(Task):
    """The pico world as a task."""

    name: ClassVar[str] = "pico"
    which: Literal["solids", "others", "no test", "pairs", "scans", "two objects", "one class"] = "solids"

    def load(self, points: int) -> Data:
        assert points == pico.POINTS
        made = {
            "solids": pico.data,
            "others": pico.probe,
            "no test": lambda: pico.data(test=0),
            "pairs": lambda: pico.data(train=2),
            "scans": scans,
            "two objects": two_objects,
            "one class": lambda: pico.data(classes=["ball"]),
        }
        return made[self.which]()


TASK, OTHER = Pico(), Pico("others")


@pytest.fixture
def files(tmp_path):
    """Two backbones that differ in nothing but their weights."""
    for seed in (1, 2):
        save_backbone(tmp_path / f"b{seed}.safetensors", pico.backbone(seed=seed), {"data": []})
    return [str(tmp_path / f"b{seed}.safetensors") for seed in (1, 2)]


@pytest.fixture
def trained(monkeypatch):
    """The data of every SVM that was trained."""
    seen: list[Data] = []
    of = Svm.of

    def spy(self, subject, downstream, tasks):
        seen.append(downstream)
        return of(self, subject, downstream, tasks)

    monkeypatch.setattr(Svm, "of", spy)
    return seen


@pytest.fixture
def encoded(monkeypatch):
    """How many clouds went through backbones."""
    seen: list[int] = []
    encode = Model.encode
    monkeypatch.setattr(Model, "encode", lambda self, groups: seen.append(len(groups[0])) or encode(self, groups))
    return seen


def probed(sources, *asked, random=2, meter=None, **options):
    return probe(contest(sources, random), asked or [Asked(TASK, "z", 4)], meter or Silent(), CPU, **{"draws": 3, **options})


def test_the_labelled_clouds_are_drawn_by_number_and_are_the_same_for_all(files, trained):
    probed(files, turn=True)
    assert len(trained) == (2 + 2) * 2 * 3
    draws = [tuple(data.train.names) for data in trained]
    assert len(set(draws)) == 3
    assert draws == draws[:3] * 8
    trained.clear()
    probed(files[:1], random=0, draws=2)
    assert [tuple(data.train.names) for data in trained] == draws[:2]


def test_the_limit_is_kept_class_by_class_and_the_test_part_is_whole(files, trained, pico_data):
    row, _ = probed(files[:1], random=1).rows
    for data in trained:
        assert np.bincount(data.train.labels).tolist() == [4] * 4
        assert set(data.train.names) <= set(pico_data.train.names)
        assert data.test.names == pico_data.test.names
        assert len(data.val) == 0
    assert row.n == len(pico_data.test)


def test_a_smaller_limit_takes_a_part_of_what_a_larger_takes(files, trained):
    probed(files[:1], Asked(TASK, "z", 2), Asked(TASK, "z", 5), random=0, draws=1)
    small, large = (set(data.train.names) for data in trained)
    assert small < large


@pytest.mark.parametrize("limit", [0, 9, 1000])
def test_where_all_clouds_are_taken_there_is_one_draw(limit, files, trained, pico_data):
    found = probed(files[:1], Asked(TASK, "z", limit), random=0)
    assert [data.train.names for data in trained] == [pico_data.train.names]
    assert found.rows[0].sd is None
    assert len(found.rows[0].draws) == 1
    assert (found.tasks[0]["draws"], found.tasks[0]["labelled"]) == (1, 36)


def test_features_are_computed_once_for_each_backbone_task_and_pose(files, encoded, trained, pico_data, pico_probe):
    asked = [Asked(TASK, "z", 3), Asked(OTHER, "z", 2), Asked(TASK, "z", 5)]
    probed(files, *asked, turn=True, draws=4)
    one = pico_data.train.names
    looked = {name for data in trained for name in data.train.names}
    ours, theirs = sum(name in looked for name in one), sum(name in looked for name in pico_probe.train.names)
    assert 20 < ours <= 36
    assert sum(encoded) == (2 + 2) * 2 * (ours + len(pico_data.test) + theirs + len(pico_probe.test))


def test_the_meter_expects_what_is_looked_at(files, encoded):
    class Counter(Silent):
        expected = done = 0.0

        def expect(self, work):
            self.expected = sum(work.values())

        def advance(self, clouds, kind):  # noqa: ARG002 - there is one kind
            self.done += clouds

    meter = Counter()
    probed(files, Asked(TASK, "z", 3), Asked(OTHER, "y", 2), turn=True, meter=meter)
    assert meter.expected == meter.done == sum(encoded)


def test_the_number_is_that_of_a_linear_svm_on_features_in_eval_mode(files, trained, pico_data):
    row = probed(files[:1], random=0).rows[0]
    backbone = pico.backbone(seed=1).eval()
    expected = []
    for data in trained:
        with torch.inference_mode():
            tokens = [backbone(torch.from_numpy(split.points)).patch for split in (data.train, pico_data.test)]
            train, test = (torch.cat([patch.amax(dim=1), patch.mean(dim=1)], dim=1).numpy() for patch in tokens)
        svm = make_pipeline(StandardScaler(), LinearSVC(C=0.01, random_state=0)).fit(train, data.train.labels)
        expected.append(float((svm.predict(test) == pico_data.test.labels).mean()))
    assert len(set(expected)) > 1
    np.testing.assert_allclose(row.draws, expected, atol=1.5 / row.n)
    assert row.value == pytest.approx(np.mean(row.draws))
    assert row.sd == pytest.approx(np.std(row.draws, ddof=1))
    assert (row.low, row.high) == pytest.approx(wilson(row.value * row.n, row.n))
    assert row.c == (0.01,)


def test_the_random_backbones_differ_and_are_the_same_again(files):
    first, again = probed(files, random=3), probed(files, random=3)
    assert first.rows == again.rows
    ours = [row for row in first.rows if not row.seeds]
    (theirs,) = (row for row in first.rows if row.seeds)
    assert theirs.backbone == "random"
    assert len(theirs.seeds) == 3
    opponents = contest(files, 3).opponents[SPEC]
    states = [pico.bits(found.load().state_dict()) for found in opponents]
    assert all(states[a] != states[b] for a, b in ((0, 1), (0, 2), (1, 2)))
    assert all(not found.load().training for found in opponents)
    alone = probed([f"random:[{SPEC}],seed={seed}" for seed in range(3)], random=0)
    assert [row.value for row in alone.rows] == pytest.approx(theirs.seeds)
    assert theirs.value == pytest.approx(np.mean(theirs.seeds))
    for row in ours:
        assert row.gain == pytest.approx(row.value - theirs.value)


def test_the_difference_is_of_the_same_clouds(files):
    (mine, theirs) = probed([RANDOM], random=1).rows
    assert mine.draws == theirs.draws
    assert mine.gain == 0
    assert mine.gain_low <= 0 <= mine.gain_high
    assert mine.gain_high < 0.25 * (mine.high - mine.low)  # the same answers: nothing is left but that Wilson's interval is lopsided
    mine, theirs = probed(files[:1]).rows
    apart = difference_interval(mine.value, (mine.low, mine.high), theirs.value, (theirs.low, theirs.high))
    assert apart[0] < mine.gain_low < mine.gain < mine.gain_high < apart[1]


def test_intervals_are_over_objects_where_the_task_says_them(files):
    """The same clouds, known as six scans of each of four objects: the numbers stay, and less is known."""
    plain, grouped = (probed(files[:1], Asked(Pico(which), per_class=4)).rows for which in ("solids", "scans"))
    for one, other in zip(plain, grouped, strict=True):
        assert (one.n, one.objects, other.objects) == (24, None, 4)
        assert one.value == other.value
        assert one.gain == pytest.approx(other.gain)
        assert other.high - other.low > one.high - one.low


def scans() -> Data:
    made = pico.data()
    return dataclasses.replace(made, test=dataclasses.replace(made.test, groups=tuple(f"object {label}" for label in made.test.labels)))


def two_objects() -> Data:
    made = pico.data()
    return dataclasses.replace(made, train=dataclasses.replace(made.train, groups=tuple(f"{row % 2}" for row in range(len(made.train)))))


def test_without_random_backbones_there_is_no_difference(files):
    found = probed(files, random=0)
    assert [row.backbone for row in found.rows] == ["b1.safetensors", "b2.safetensors"]
    assert {row.gain for row in found.rows} == {None}


@pytest.mark.parametrize(("up", "at"), [("y", 1), ("z", 2)])
def test_each_cloud_is_turned_about_the_upright_axis_by_its_name(up, at, files, trained, pico_data):
    test = pico_data.test
    found = probed(files[:1], Asked(TASK, up, 4), random=0, draws=1, turn=True)
    assert [row.pose for row in found.rows] == [AS_FILED, f"random azimuth (about {up})"]
    filed, turned = trained
    np.testing.assert_array_equal(filed.test.points, test.points)
    for before, after in ((filed.train, turned.train), (filed.test, turned.test)):
        assert before.names == after.names
        assert np.array_equal(before.labels, after.labels)
        np.testing.assert_array_equal(after.points[..., at], before.points[..., at])
        np.testing.assert_allclose(np.linalg.norm(after.points, axis=2), np.linalg.norm(before.points, axis=2), atol=1e-6)
        others = [axis for axis in range(3) if axis != at]
        assert (np.abs(after.points - before.points)[..., others].max(axis=(1, 2)) > 1e-3).mean() > 0.9
    # By its name alone: not by what else is turned, and two clouds not alike.
    rows = np.array([5, 2])
    np.testing.assert_array_equal(turned_about(test.take(rows), up).points, turned.test.points[rows])
    same = dataclasses.replace(test, points=np.repeat(test.points[:1], len(test), axis=0))
    assert len(np.unique(turned_about(same, up).points[:, 0], axis=0)) == len(test)


def test_a_file_that_is_turned_upright_when_loaded_stands_along_z(tmp_path, files, trained):
    cloud = np.random.default_rng(0).normal(size=(40, 64, 3)) * [1, 5, 1]
    path = tmp_path / "tall.npz"
    np.savez(path, points=cloud.astype(np.float32), labels=np.arange(40) % 2, class_names=np.array(["a", "b"]))
    probed(files[:1], Asked(Npz(str(path), up="y"), "z", 5), random=0, draws=1, turn=True)
    probed(files[:1], Asked(Npz(str(path)), "y", 5), random=0, draws=1, turn=True)
    upright, lying = trained[:2], trained[2:]
    for data, at in ((upright[0], 2), (upright[1], 2), (lying[0], 1), (lying[1], 1)):
        assert data.test.points.std(axis=(0, 1)).argmax() == at
    with pytest.raises(UsageError, match=r"stands along z once its option up=y has turned it\. Give it with --on"):
        Asked(Npz(str(path), up="y"), "y")


def test_two_architectures_have_their_own_opponents(files, tmp_path):
    save_backbone(tmp_path / "token.safetensors", pico.backbone(pico.TOKEN_SPEC))
    found = probed([files[0], str(tmp_path / "token.safetensors")], random=1)
    assert [row.backbone for row in found.rows] == [
        "b1.safetensors",
        "random, as b1.safetensors",
        "token.safetensors",
        "random, as token.safetensors",
    ]
    assert [found["architecture"] for found in found.backbones] == [str(SPEC), str(pico.TOKEN_SPEC)]


def test_cross_validation_chooses_c_on_the_labelled_clouds(files):
    found = probed(files[:1], Asked(TASK, "z", 6), random=1, c="cv")
    assert found.c.startswith("chosen by cross-validation")
    assert all(0 < value <= 0.1 for row in found.rows for value in row.c)
    with pytest.raises(UsageError, match=r"3-fold cross-validation, and --per-class is 2\. .*--c 0\.01"):
        probed(files[:1], Asked(TASK, "z", 2), c="cv")


@pytest.mark.parametrize(
    ("which", "c", "said"),
    [
        ("pairs", "cv", r"a class of 'pico:which=pairs' has 2 training clouds\. .*--c 0\.01"),
        ("two objects", "cv", r"a class of '.*two objects' has 4 training clouds and all of them are scans of 2 objects\. .*--c 0\.01"),
        ("one class", "0.01", r"the train part of '.*one class' has fewer than two"),
    ],
)
def test_what_no_svm_can_learn_from_is_refused_before_features_are_computed(files, encoded, which, c, said):
    with pytest.raises(DataError, match=said):
        probed(files[:1], Asked(TASK, "z", 4), Asked(Pico(which), "z", 4), c=c)
    assert not encoded


def test_what_of_a_file_is_left_out_is_noted(files, tmp_path):
    save_model(tmp_path / "whole.safetensors", create(str(pico.SPEC), head="linear", classes=3))
    notes = probed([files[0], str(tmp_path / "whole.safetensors")], random=0).notes
    assert [note for note in notes if "head" in note] == ["whole.safetensors: its classification head (3 outputs) is left out."]


def test_names_tell_files_apart(files, tmp_path):
    import shutil

    (tmp_path / "deep").mkdir()
    shutil.copy(files[1], tmp_path / "deep" / "b1.safetensors")
    assert list(contest([files[0], files[0]], 0).backbones) == ["b1.safetensors"]
    names = list(contest([files[0], str(tmp_path / "deep" / "b1.safetensors"), RANDOM], 0).backbones)
    assert names == [f"{tmp_path.name}/b1.safetensors", "deep/b1.safetensors", RANDOM]


@pytest.fixture
def released(tmp_path):
    """Released checkpoints of two families."""
    for family in ("recon", "point-mae"):
        state = create(family, classes=2, points=64, groups=8, group_size=8, width=16, depth=2, heads=2, tokenizer=(6, 8, 10)).state_dict()
        torch.save({"base_model": state}, tmp_path / f"{family}.pth")
    return [str(tmp_path / f"{family}.pth") for family in ("recon", "point-mae")]


TINY = "points=64,groups=8,group-size=8,width=16,depth=2,heads=2,tokenizer=6+8+10"


def test_released_checkpoints_have_a_backbone_and_a_family_each_or_one_for_all(released, files):
    found = contest([released[0], files[0], released[1]], 0, [f"recon:{TINY}", f"point-mae:{TINY}"]).backbones
    assert [one.spec.name for one in found.values()] == ["recon", "point-mae", "point-mae"]
    found = contest(released, 0, [f"point-mae:{TINY}"], ["recon", "point-mae"]).backbones
    assert [one.spec.name for one in found.values()] == ["point-mae"] * 2
    assert [one.report.family for one in found.values()] == ["recon", ""]
    with pytest.raises(
        UsageError, match=r"--family was given 3 times for 2 released checkpoints \(.*recon.pth, .*point-mae.pth\); give it once"
    ):
        contest([*released, files[0]], 0, [f"point-mae:{TINY}"], ["recon"] * 3)


def test_what_is_to_be_said_of_released_weights_is_among_the_notes(released):
    entrants = contest(released[:1], 0, [f"point-mae:{TINY}"], ["recon"])
    notes = probe(entrants, [Asked(TASK, "z", 4)], Silent(), CPU, draws=1).notes
    assert notes[0] == "recon.pth: this is the encoder of recon; patches are cut as by a point-mae, and the rest of its file is left out."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: contest([]), "no backbone to probe. Give point-mae-mini, a file"),
        (lambda files: contest(files, -1), "--random is -1; it must be at least 1, or 0"),
        (lambda _: contest(["point-mae-min"]), "Did you mean 'point-mae-mini'"),
        (lambda files: contest(files[:1], 1, ["point-mae-mini"]), "none of these is a released checkpoint; the others know. Leave it out"),
        (lambda _: Asked(TASK, "z", -3), "--per-class is -3"),
        (lambda files: probed(files, draws=0), "--draws is 0; it must be at least 1"),
        (lambda files: probed(files, c="0"), "it can be cv or a positive number"),
    ],
)
def test_what_cannot_be_is_refused(make, message, files):
    with pytest.raises(UsageError, match=message):
        make(files)


def test_a_task_without_a_test_part_is_refused(files, encoded):
    with pytest.raises(DataError, match=r"'pico:which=no test' has no test part.*test=0\.2"):
        probed(files, Asked(Pico("no test")))
    assert not encoded


HELD = {"name": "solids", "used": 30, "left_out": 6, "up": "z"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, ["b does not say what it was pre-trained on; whether it saw these tasks is not known."]),
        ([{"name": "furniture", "used": 9, "left_out": 0, "up": "z"}], []),
        # By the names of the held-out clouds, whatever the counts.
        (
            [{**HELD, "held_out": "ours"}],
            ["b saw the train part of solids in pre-training (30 shapes, unlabelled), and not its test part."],
        ),
        (
            [{**HELD, "held_out": "0123456789abcdef"}],
            ["b saw a part of solids in pre-training (30 shapes, unlabelled); its card does not say that this test part was held out."],
        ),
        # By count only: 36 train, 24 val, 24 test.
        (
            [{**HELD, "used": 54, "up": "y"}],
            ["b saw the train part of solids in pre-training (54 shapes, unlabelled, along y), and not its test part."],
        ),
        (
            [{**HELD, "used": 55}],
            ["b saw solids in pre-training (55 shapes, unlabelled), clouds of this test part among them: it is not held out."],
        ),
        (
            [{**HELD, "used": 53}],
            ["b saw a part of solids in pre-training (53 shapes, unlabelled); its card does not say that this test part was held out."],
        ),
    ],
)
def test_the_card_says_what_was_seen_before(data, said, tmp_path, pico_data):
    for entry in data or []:
        if entry.get("held_out") == "ours":
            entry["held_out"] = held_out(pico_data)
    save_backbone(tmp_path / "b", pico.backbone(), {} if data is None else {"data": data})
    assert probed([str(tmp_path / "b")], random=1, draws=1, turn=True).notes == said


@pytest.mark.parametrize("data", ["solids", {"name": "solids"}, ["solids"], [{"name": "solids", "used": "many", "left_out": 0, "up": "z"}]])
def test_a_card_that_does_not_read_as_one_says_nothing(data, tmp_path):
    save_backbone(tmp_path / "b", pico.backbone(), {"data": data})
    assert probed([str(tmp_path / "b")], random=0, draws=1).notes == [
        "b does not say what it was pre-trained on; whether it saw these tasks is not known."
    ]


def test_a_model_that_was_tuned_on_the_task_says_so(tmp_path):
    save_backbone(tmp_path / "b", pico.backbone(), {"task": "solids", "data": [HELD]})
    told = probed([str(tmp_path / "b")], Asked(OTHER, "z", 3), Asked(TASK, "z", 3), random=0, draws=1).notes
    assert told[0] == "b was tuned with the labels of solids; held out is only what was test there."
    assert len(told) == 2


def test_random_weights_have_seen_nothing():
    assert probed([RANDOM], random=1, draws=1).notes == []
