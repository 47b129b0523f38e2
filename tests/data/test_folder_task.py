from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
from pathlib import Path

import numpy as np
import pytest
from cloud_samples import CUBES

from wisetune.data.check import survey
from wisetune.data.folder import Folder
from wisetune.data.formats import read, write
from wisetune.data.npz import Npz
from wisetune.data.tasks import TASKS, parse_task
from wisetune.data.warn import warned
from wisetune.errors import BadFile, DataError, UsageError
from wisetune.runtime import generator


def scan(path, points=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, generator("scan", path.parent.name, path.name).normal(size=(points, 3)).astype(np.float32))


def scans(root, classes=("bench", "chair", "table"), each=10, suffixes=(".ply", ".xyz", ".npy", ".off", ".pcd")):
    for label in classes:
        for at in range(each):
            scan(root / label / f"scan_{at}{suffixes[at % len(suffixes)]}")
    return root


def names(split):
    return set(split.names)


def test_one_folder_a_class(tmp_path):
    data = Folder(str(scans(tmp_path))).load(32)
    assert data.classes == ("bench", "chair", "table")
    assert data.name == f"folder:{tmp_path.name}"
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [18, 6, 6]
    assert data.protocol["counts"] == {"train": [6, 6, 6], "val": [2, 2, 2], "test": [2, 2, 2]}
    assert not names(data.train) & names(data.val) | names(data.train) & names(data.test) | names(data.val) & names(data.test)
    for part in (data.train, data.val, data.test):
        assert part.points.dtype == np.float32
        assert part.labels.dtype == np.int64
        assert part.points.shape[1:] == (32, 3)
        assert [data.classes[label] for label in part.labels] == [name.split("/")[0] for name in part.names]
        np.testing.assert_allclose(np.linalg.norm(part.points, axis=2).max(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(part.points.mean(axis=1), 0, atol=1e-6)
    assert str(tmp_path) not in repr(data.protocol)


def test_parts_above_the_classes(tmp_path):
    for part, each in (("train", 5), ("val", 2), ("test", 3)):
        scans(tmp_path / part, each=each)
    data = Folder(str(tmp_path)).load(32)
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [15, 6, 9]
    assert all(name.startswith("val/") for name in data.val.names)
    assert data.protocol["val"] == data.protocol["test"] == "given"


def test_val_is_held_out_of_train_where_it_is_not_given(tmp_path):
    for part, each in (("train", 10), ("test", 3)):
        scans(tmp_path / part, each=each)
    data = Folder(str(tmp_path)).load(32)
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [24, 6, 9]
    assert all(name.startswith("train/") for name in data.val.names)
    assert all(name.startswith("test/") for name in data.test.names)


def test_modelnets_layout(tmp_path):
    for label in ("chair", "table"):
        for part, each in (("train", 5), ("test", 2)):
            for at in range(each):
                scan(tmp_path / label / part / f"{label}_{at}.ply")
    data = Folder(str(tmp_path)).load(32)
    assert data.classes == ("chair", "table")
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [8, 2, 4]


def test_a_class_may_be_called_train(tmp_path):
    data = Folder(str(scans(tmp_path, classes=("car", "train")))).load(32)
    assert data.classes == ("car", "train")


def test_a_folder_that_may_be_part_or_class_is_refused(tmp_path):
    scans(tmp_path / "train")
    scans(tmp_path, classes=("table",))
    with pytest.raises(DataError, match="'train' with folders in it beside 'table': is it a part or a class"):
        Folder(str(tmp_path)).load(32)


@pytest.mark.parametrize("layout", ["nothing", "files", "test only", "train without classes"])
def test_other_layouts_are_refused_with_the_right_one(layout, tmp_path):
    if layout == "files":
        scan(tmp_path / "a.ply")
    elif layout == "test only":
        scans(tmp_path / "test")
    elif layout == "train without classes":
        scan(tmp_path / "train" / "a.ply")
    with pytest.raises(DataError, match="Lay it out as DIR/class/file, or DIR/train/class/file"):
        Folder(str(tmp_path)).load(32)


def test_a_folder_that_is_not_there():
    with pytest.raises(DataError, match="there is no folder '/nowhere'"):
        Folder("/nowhere").load(32)


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    scans(tmp_path)
    straight = Folder(str(tmp_path)).load(32)
    walk = os.walk

    def shuffled(*args, **options):
        for place, folders, files in walk(*args, **options):
            random.Random(1).shuffle(files)
            yield place, folders, files

    monkeypatch.setattr(os, "walk", shuffled)
    assert Folder(str(tmp_path)).load(32).digest == straight.digest


def test_place_does_not_matter_and_seed_does(tmp_path):
    first, second = scans(tmp_path / "a"), scans(tmp_path / "b")
    digests = [Folder(str(path), seed=seed).load(32).digest for path, seed in ((first, 0), (second, 0), (first, 1))]
    assert digests[0] == digests[1] != digests[2]


def test_each_cloud_is_sampled_on_its_own(tmp_path):
    before = Folder(str(scans(tmp_path)), val=0.0, test=0.0).load(16).train
    (tmp_path / "bench" / "scan_3.off").unlink()
    after = Folder(str(tmp_path), val=0.0, test=0.0).load(16).train
    kept = [at for at, name in enumerate(before.names) if name != "bench/scan_3.off"]
    np.testing.assert_array_equal(before.points[kept], after.points)


def test_meshes_are_sampled(tmp_path):
    suffix, content = CUBES["off-quads"]
    for at in range(4):
        for label in ("a", "b"):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{at}{suffix}").write_bytes(content)
    data = Folder(str(tmp_path), normalise="none", val=0.0, test=0.0).load(64)
    assert ((data.train.points == 0) | (data.train.points == 1)).any(axis=2).all()
    assert not np.array_equal(data.train.points[0], data.train.points[1]), "each file has its own stream"


def test_clouds_with_fewer_points_are_repeated_and_counted(tmp_path):
    scans(tmp_path, each=4)
    scan(tmp_path / "chair" / "sparse.ply", points=20)
    data = Folder(str(tmp_path), val=0.0, test=0.0).load(40)
    row = data.train.names.index("chair/sparse.ply")
    assert len(np.unique(data.train.points[row], axis=0)) == 20
    assert data.protocol["repeated"] == 1


def test_hardly_any_points_are_refused(tmp_path):
    scans(tmp_path, each=4)
    scan(tmp_path / "chair" / "sparse.ply", points=15)
    with pytest.raises(BadFile, match=r"chair/sparse.ply: holds 15 points; a shape needs at least 16"):
        Folder(str(tmp_path)).load(32)


@pytest.mark.parametrize(("up", "expected"), [("z", [1, 2, 3]), ("y", [1, -3, 2]), ("x", [-3, 2, 1])])
def test_up_turns_without_mirroring(up, expected, tmp_path):
    points = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        write(tmp_path / label / "1.ply", points)
    data = Folder(str(tmp_path), up=up, normalise="none", val=0.0, test=0.0).load(32)
    turned = np.stack([np.sign(axis) * points[:, abs(axis) - 1] for axis in expected], axis=1)
    np.testing.assert_array_equal(data.train.points[0], turned)
    rotation, *_ = np.linalg.lstsq(points, turned, rcond=None)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_centre_keeps_the_unit(tmp_path):
    data = Folder(str(scans(tmp_path)), normalise="centre").load(50)
    assert np.linalg.norm(data.train.points, axis=2).max() > 1.5
    np.testing.assert_allclose(data.train.points.mean(axis=1), 0, atol=1e-5)


def test_bad_files_are_all_named(tmp_path):
    scans(tmp_path)
    (tmp_path / "chair" / "empty.ply").touch()
    with pytest.raises(BadFile, match=r"chair/empty\.ply: is empty"):
        Folder(str(tmp_path)).load(32)
    (tmp_path / "table" / "page.obj").write_text("<html>")
    with pytest.raises(
        DataError, match=r"2 files cannot be used:\n.*empty\.ply: is empty.*\n.*page\.obj: holds no vertices.*\n.*skip-bad=true"
    ):
        Folder(str(tmp_path)).load(32)
    data = Folder(str(tmp_path), skip_bad=True).load(32)
    assert data.protocol["skipped"] == [
        "chair/empty.ply: is empty (0 bytes)",
        "table/page.obj: holds no vertices (lines that start with 'v')",
    ]
    assert str(tmp_path) not in json.dumps(data.protocol)
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert Folder(str(moved), skip_bad=True).load(32).protocol == data.protocol
    assert data.digest == Folder(str(scans(tmp_path / "elsewhere" / tmp_path.name))).load(32).digest


def test_of_many_bad_files_all_are_counted_and_ten_named(tmp_path):
    scans(tmp_path)
    for at in range(12):
        (tmp_path / "chair" / f"{at:02d}.ply").touch()
    with pytest.raises(DataError, match=r"^12 files cannot be used:\n(.*is empty.*\n){10}  and 2 more\nRemove or repair"):
        Folder(str(tmp_path)).load(32)


def holed(path, bad, points=50):
    """A scan of which so many points are not finite."""
    cloud = generator("holed", path.name).normal(size=(points, 3)).astype(np.float32)
    cloud[:bad] = np.resize([[np.nan, 0, 0], [0, np.inf, 0]], (bad, 3))
    write(path, cloud)
    return cloud[bad:]


def test_points_that_are_not_finite_are_refused_by_default_with_the_option_that_drops_them(tmp_path):
    holed(scans(tmp_path) / "chair" / "holed.ply", 5)
    with pytest.raises(BadFile, match=r"holed\.ply: 5 of 50 points are not finite .* or have them dropped: nonfinite=drop"):
        Folder(str(tmp_path)).load(32)


@pytest.mark.parametrize("suffix", [".ply", ".xyz", ".npy"])
def test_points_that_are_not_finite_may_be_dropped_and_are_counted(tmp_path, suffix):
    kept = holed(scans(tmp_path) / "chair" / f"holed{suffix}", 5)
    data = parse_task(f"folder:[{tmp_path}],nonfinite=drop,normalise=none,val=0,test=0").load(45)
    np.testing.assert_array_equal(data.train.points[data.train.names.index(f"chair/holed{suffix}")], kept)
    assert (data.protocol["nonfinite"], data.protocol["nonfinite_points"], data.protocol["repeated"]) == ("drop", 5, 0)
    assert f"folder:{tmp_path.name}: 5 points were dropped that are not finite (nonfinite=drop)." in warned(data)
    whole = Folder(str(tmp_path), skip_bad=True)
    assert whole.load(32).protocol["nonfinite_points"] == 0
    assert "nonfinite" not in whole.canonical(), "what was stored before there was the option keeps its name"


@pytest.mark.parametrize(
    ("bad", "says"), [(40, "holds 10 points beside 40 that are not finite; a shape needs"), (50, "50 of 50 points are not")]
)
def test_too_few_finite_points_are_refused_all_the_same(tmp_path, bad, says):
    holed(scans(tmp_path) / "chair" / "holed.ply", bad)
    with pytest.raises(BadFile, match=rf"holed\.ply: {says}"):
        Folder(str(tmp_path), nonfinite="drop").load(32)


def test_of_a_mesh_the_faces_at_such_vertices_go(tmp_path):
    path = tmp_path / "square.off"
    path.write_text("OFF\n5 3 0\n0 0 nan\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 1 2 3\n3 0 1 2\n3 1 3 4\n")
    shape = read(path, nonfinite="drop")
    assert (shape.nonfinite, shape.faces.tolist()) == (1, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(shape.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])


def test_a_mesh_whose_faces_share_a_bad_vertex_has_none_left(tmp_path):
    (tmp_path / "fan.off").write_text("OFF\n5 3 0\n0 0 nan\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n3 0 3 4\n")
    with pytest.raises(BadFile, match=r"fan\.off: every face has a corner that is not finite"):
        read(tmp_path / "fan.off", nonfinite="drop")


@pytest.mark.parametrize("nonfinite", [None, "refuse", "drop"])
def test_a_bad_vertex_that_no_face_uses_is_no_part_of_the_mesh(tmp_path, nonfinite):
    path = tmp_path / "loose.off"
    path.write_text("OFF\n4 1 0\n0 0 0\n0 0 nan\n1 0 0\n0 1 0\n3 0 2 3\n")
    shape = read(path, nonfinite=nonfinite)
    assert (shape.nonfinite, shape.faces.tolist()) == (0, [[0, 1, 2]])
    np.testing.assert_array_equal(shape.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    path.write_text("OFF\n4 1 0\n0 0 nan\n0 0 nan\n1 0 0\n0 1 0\n3 1 2 3\n")
    if nonfinite != "drop":
        with pytest.raises(BadFile, match=r"1 of 4 points are not finite \(the first is number 2\)"):
            read(path, nonfinite=nonfinite)


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    scans(tmp_path)
    for name in (".DS_Store", "__MACOSX/chair/._a.ply", "chair/.hidden.ply", "chair/.git/a.ply", "chair/notes.md", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("not a scan")
    listing = Folder(str(tmp_path)).listing()
    assert len(listing.items) == 30
    assert listing.ignored == ("README.md", "chair/notes.md")


def test_a_folder_is_walked_once(tmp_path, monkeypatch):
    scans(tmp_path)
    (tmp_path / "chair" / "object").mkdir()
    walked = []
    listing = Folder.listing
    monkeypatch.setattr(Folder, "listing", lambda task: walked.append(task) or listing(task))
    for act in (lambda task: task.load(32), lambda task: survey(task, 32)):
        walked.clear()
        act(Folder(str(tmp_path)))
        assert len(walked) == 1


def test_an_empty_class_folder_is_refused(tmp_path):
    scans(tmp_path)
    (tmp_path / "sofa").mkdir()
    (tmp_path / "sofa" / "part.step").touch()
    with pytest.raises(DataError, match="no files that can be read in sofa"):
        Folder(str(tmp_path)).load(32)
    assert Folder(str(tmp_path), skip_bad=True).load(32).classes == ("bench", "chair", "table")


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="only the class 'chair'"):
        Folder(str(scans(tmp_path, classes=("chair",)))).load(32)


def test_a_class_that_is_only_in_test_is_refused(tmp_path):
    scans(tmp_path / "train")
    scans(tmp_path / "test", classes=("bench", "chair", "sofa"))
    with pytest.raises(DataError, match="items in val or test but none in train: sofa"):
        Folder(str(tmp_path)).load(32)


def test_sub_folders_may_be_objects_that_are_not_parted(tmp_path):
    for label in ("chair", "table"):
        for owner in range(6):
            for at in range(3):
                scan(tmp_path / label / f"object{owner}" / f"{at}.ply")
    data = Folder(str(tmp_path), group="folder").load(32)
    owners = [{name.rsplit("/", 1)[0] for name in data.split(part).names} for part in ("train", "val", "test")]
    assert all(owners)
    assert not owners[0] & owners[1] | owners[0] & owners[2] | owners[1] & owners[2]
    assert data.protocol["groups"] == 12
    apart = Folder(str(tmp_path)).load(32)
    assert {name.rsplit("/", 1)[0] for name in apart.train.names} & {name.rsplit("/", 1)[0] for name in apart.test.names}
    assert "warnings" not in data.protocol
    (warning,) = apart.protocol["warnings"]
    assert "inside class folders 7 folders have files in more than one of train, val and test (chair/object" in warning
    assert "set group=folder" in warning
    assert str(tmp_path.parent) not in warning


def test_sub_folders_that_are_in_one_part_each_are_no_matter(tmp_path):
    scans(tmp_path / "flat")
    assert "warnings" not in Folder(str(tmp_path / "flat")).load(32).protocol
    for part in ("train", "val", "test"):
        for label in ("chair", "table"):
            for at in range(2):
                scan(tmp_path / "given" / part / label / "object" / f"{at}.ply")
    assert "warnings" not in Folder(str(tmp_path / "given")).load(32).protocol
    for label in ("chair", "table"):
        for owner in range(6):
            scan(tmp_path / "alone" / label / f"object{owner}" / "scan.ply")
    assert "warnings" not in Folder(str(tmp_path / "alone")).load(32).protocol


def test_per_class_caps_each_class_and_part(tmp_path):
    scans(tmp_path / "train", each=9)
    scans(tmp_path / "test", each=4)
    data = Folder(str(tmp_path), per_class=3).load(32)
    assert data.protocol["counts"] == {"train": [2, 2, 2], "val": [1, 1, 1], "test": [3, 3, 3]}
    other = Folder(str(tmp_path), per_class=3, seed=1).load(32)
    assert names(data.train) | names(data.val) != names(other.train) | names(other.val)


def test_labelled_thins_out_the_train_part_alone(tmp_path):
    whole, thin = Folder(str(scans(tmp_path))).load(32), Folder(str(tmp_path), labelled=2).load(32)
    assert thin.protocol["counts"] == {"train": [2, 2, 2], "val": [2, 2, 2], "test": [2, 2, 2]}
    assert names(thin.train) < names(whole.train)
    assert (thin.val.digest, thin.test.digest) == (whole.val.digest, whole.test.digest)


@pytest.mark.parametrize(("option", "value"), [("val", 1.0), ("val", -0.1), ("test", 20.0), ("per_class", 0)])
def test_options_are_checked_before_anything_is_read(option, value):
    with pytest.raises(UsageError, match=f"option '{option.replace('_', '-')}' of 'folder' is {value}"):
        Folder("/nowhere", **{option: value})


def test_points_are_checked(tmp_path):
    with pytest.raises(UsageError, match="clouds of 0 points"):
        Folder(str(scans(tmp_path))).load(0)


def test_spelling(tmp_path, monkeypatch):
    assert {"folder", "npz"} <= set(TASKS.names())
    assert not {"splits", "files", "formats", "check", "write", "classmap", "task", "tasks"} & set(TASKS.names())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    (tmp_path / "a, b=c").mkdir()
    (tmp_path / "x.npz").touch()
    (tmp_path / "x.ply").touch()
    assert parse_task("folder:scans,seed=3,up=y") == Folder("scans", seed=3, up="y")
    assert parse_task("scans") == parse_task(" scans") == Folder("scans")
    assert parse_task(Path("scans")) == Folder("scans")
    with pytest.raises(UsageError, match=r"a task is spelled, such as 'folder:scans' or 'scans.npz', but int was given"):
        parse_task(5)
    assert parse_task("scans/,seed=3") == Folder("scans/", seed=3)
    assert parse_task("a, b=c") == Folder("a, b=c") == parse_task(str(Folder("a, b=c"))) == parse_task("folder:[a, b=c]")
    assert parse_task("a, b=c,seed=3") == Folder("a, b=c", seed=3)
    with pytest.raises(
        UsageError, match=r"'folder' has no option 'b'.* path 'a, b=c' has one: give it without folder:, or in .* folder:\[a, b=c\]"
    ):
        parse_task("folder:a, b=c,seed=3")
    (tmp_path / "scans[1").mkdir()
    assert parse_task("scans[1,seed=3") == Folder("scans[1", seed=3) == parse_task(str(Folder("scans[1", seed=3)))
    assert parse_task("x.npz") == Npz("x.npz") == parse_task("npz:x.npz")
    assert parse_task("x.npz,labels=coarse,per-class=5") == Npz("x.npz", labels="coarse", per_class=5)
    with pytest.raises(DataError, match="neither a path that is there nor a task"):
        parse_task("scan")
    with pytest.raises(UsageError, match=r"'x\.ply' is a single cloud\. Give the folder of all, with one sub-folder a class"):
        parse_task("x.ply")
    with pytest.raises(UsageError, match="no task 'folders'"):
        parse_task("folders:scans")
    for text in ("scans", "folder:scans", "x.npz"):
        assert parse_task(text, test=0.0).test == 0
        assert parse_task(f"{text},test=0.2", test=0.0).test == 0.2
    assert parse_task("demo:scans", test=0.0) == parse_task("demo:scans")
    for wrong, says in (
        ("sed=3", "has no option 'sed'. Did you mean 'seed'"),
        ("nonfinit=drop", "has no option 'nonfinit'. Did you mean 'nonfinite'"),
        ("nonfinite=dorp", "option 'nonfinite' of 'folder' is 'dorp'; it can be refuse, drop"),
    ):
        with pytest.raises(UsageError, match=says):
            parse_task(f"scans,{wrong}")


def test_an_error_that_names_one_of_several_faults_says_how_to_see_all(tmp_path):
    root = tmp_path / "my scans"
    for name in ("a/1.ply", "a/2.ply", "b/3.xyz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "empty").mkdir()
    task = Folder(str(root), seed=3)
    way = f"All that is wrong at once: wisetune data check {shlex.quote(str(task))}"
    with pytest.raises(DataError, match="no files that can be read in empty") as layout:
        task.load(64)
    (root / "empty").rmdir()
    with pytest.raises(DataError, match="3 files cannot be used") as files:
        task.load(64)
    for name in ("a/1.ply", "a/2.ply"):
        write(root / name, np.random.default_rng(0).normal(size=(64, 3)))
    with pytest.raises(DataError, match="only the class 'a'") as classes:
        dataclasses.replace(task, skip_bad=True).load(64)
    for said in (layout, files):
        assert str(said.value).endswith(way)
    assert "wisetune data check" in str(classes.value)
    (argument,) = shlex.split(way.partition("data check ")[2])
    assert parse_task(argument) == task
