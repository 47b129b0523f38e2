from __future__ import annotations

import numpy as np
import pytest
from cloud_samples import CUBES

from wisetune.data.check import Survey, check, survey
from wisetune.data.findings import Finding
from wisetune.data.folder import Folder
from wisetune.data.formats import write
from wisetune.data.task import Task
from wisetune.errors import DataError, UsageError
from wisetune.runtime import generator

BOXES = {"bench": (1.2, 0.4, 0.6), "pole": (0.2, 0.2, 3.0), "table": (1.5, 0.9, 0.7)}


def cloud(label, at, points=80):
    """Points in a box of about the class's size; no two are alike."""
    chance = generator("check", label, at)
    return chance.uniform(-0.5, 0.5, (points, 3)) * BOXES.get(label, (1, 1, 1)) * chance.uniform(0.9, 1.1, 3)


def scans(root, classes=tuple(BOXES), each=10):
    for label in classes:
        (root / label).mkdir(parents=True)
        for at in range(each):
            write(root / label / f"{at}.ply", cloud(label, at))
    return root


def put(root, name, points):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    write(root / name, points)


def kinds(found):
    return {(finding.severity, finding.kind) for finding in found}


def only(found, kind):
    (finding,) = [finding for finding in found if finding.kind == kind]
    return finding


def test_a_good_folder_has_no_findings(tmp_path):
    assert check(scans(tmp_path), points=64) == []
    assert check(str(tmp_path), points=64) == check(Folder(str(tmp_path)), points=64) == []


def test_every_bad_file_is_found_and_none_raises(tmp_path):
    scans(tmp_path)
    nan = cloud("bench", 99)
    nan[0] = np.nan
    put(tmp_path, "bench/nan.xyz", nan)
    (tmp_path / "pole" / "empty.ply").touch()
    (tmp_path / "pole" / "noise.npy").write_bytes(b"\x93NUMPY but no more")
    put(tmp_path, "table/sparse.xyz", cloud("table", 98, points=9))
    put(tmp_path, "table/spot.xyz", np.ones((80, 3)))
    (tmp_path / "table" / "line.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    found = check(tmp_path, points=64)
    assert {finding.files: (finding.severity, finding.kind) for finding in found} == {
        ("bench/nan.xyz",): ("error", "not finite"),
        ("pole/empty.ply",): ("error", "unreadable"),
        ("pole/noise.npy",): ("error", "unreadable"),
        ("table/sparse.xyz",): ("error", "too few points"),
        ("table/spot.xyz",): ("error", "one place"),
        ("table/line.off",): ("error", "no area"),
    }
    assert {finding.files: finding.message for finding in found} == {
        ("bench/nan.xyz",): "1 of 80 points are not finite (the first is number 1)",
        ("pole/empty.ply",): "is empty (0 bytes)",
        ("pole/noise.npy",): "is not a NumPy array",
        ("table/sparse.xyz",): "holds 9 points; a shape needs at least 16",
        ("table/spot.xyz",): "all of its 80 points are in one place",
        ("table/line.off",): "none of its 1 faces has an area",
    }
    assert all(finding.do for finding in found)


def test_fewer_points_than_the_backbone_takes(tmp_path):
    scans(tmp_path)
    put(tmp_path, "pole/sparse.ply", cloud("pole", 99, points=30))
    finding = only(check(tmp_path, points=64), "few points")
    assert finding.files == ("pole/sparse.ply",)
    assert "1 cloud has fewer than the 64 points asked for (the fewest 30)" in finding.message


def test_meshes_never_have_too_few_points(tmp_path):
    scans(tmp_path)
    (tmp_path / "table" / "mesh.off").write_bytes(CUBES["off-quads"][1])
    assert "few points" not in {finding.kind for finding in check(tmp_path, points=64)}


def test_duplicates_in_one_part_and_class(tmp_path):
    scans(tmp_path / "train")
    points = cloud("table", 3)
    put(tmp_path, "train/table/again.xyz", np.round(generator(0).permutation(points) * 2 + 5, 5))
    finding = only(check(tmp_path, points=64), "duplicate")
    assert finding.severity == "warning"
    assert finding.files == ("train/table/3.ply", "train/table/again.xyz")


def test_padded_clouds_are_pointed_out(tmp_path):
    scans(tmp_path)
    points = cloud("table", 99)
    put(tmp_path, "table/padded.ply", np.concatenate([points, np.repeat(points[:1], 40, axis=0)]))
    put(tmp_path, "table/tiled.npy", np.tile(points[:50] * 1.1, (2, 1)))
    put(tmp_path, "table/twice.ply", np.concatenate([points * 1.2, points[:8] * 1.2]))  # 8 of 88: within what scanners do
    finding = only(check(tmp_path, points=64), "repeats")
    assert (finding.severity, finding.files) == ("warning", ("table/padded.ply", "table/tiled.npy"))
    assert ": table/tiled.npy has 50 repeats among 100 points" in finding.message


def test_dropped_points_are_counted(tmp_path):
    scans(tmp_path)
    for at in (98, 99):
        holed = cloud("bench", at)
        holed[:3] = np.nan
        put(tmp_path, f"bench/{at}.ply", holed)
    finding = only(check(Folder(str(tmp_path), nonfinite="drop"), points=64), "not finite")
    assert (finding.severity, finding.files) == ("warning", ("bench/98.ply", "bench/99.ply"))
    assert finding.message == "6 points of 2 files are not finite and dropped"


def test_duplicates_across_parts_are_a_leak(tmp_path):
    scans(tmp_path / "train")
    scans(tmp_path / "test", each=2)
    found = check(tmp_path, points=64)
    leaks = [finding for finding in found if finding.kind == "leak"]
    assert len(leaks) >= 4
    assert all(finding.severity == "error" for finding in leaks)
    assert "the same shape is in test and train" in {finding.message.partition(":")[0] for finding in leaks}


def test_duplicates_with_two_labels(tmp_path):
    scans(tmp_path)
    put(tmp_path, "pole/table.npy", cloud("table", 3))
    finding = only(check(tmp_path, points=64), "two labels")
    assert (finding.severity, finding.message) == ("error", "the same shape is labelled pole and table")
    assert finding.files == ("pole/table.npy", "table/3.ply")


def test_a_turned_copy_and_a_second_scan_are_no_duplicates(tmp_path):
    scans(tmp_path)
    put(tmp_path, "table/turned.ply", cloud("table", 3)[:, [1, 0, 2]])
    put(tmp_path, "table/second.ply", cloud("table", 3) + generator(1).normal(size=(80, 3)) * 0.03)
    assert not {"duplicate", "leak", "two labels"} & {finding.kind for finding in check(tmp_path, points=64)}


def test_units(tmp_path):
    scans(tmp_path)
    for at in (1, 2):
        put(tmp_path, f"table/mm{at}.ply", cloud("table", 50 + at) * 1000)
    finding = only(check(tmp_path, points=64), "scale")
    assert finding.files == ("table/mm1.ply", "table/mm2.ply")
    assert "about 1,000 times larger than the usual" in finding.message
    assert "(like mm and m)" in finding.message
    assert "harmless" in finding.do
    assert "one unit" in only(check(Folder(str(tmp_path), normalise="centre"), points=64), "scale").do


def test_a_class_in_another_unit(tmp_path):
    scans(tmp_path, classes=("bench", "pole"))
    for at in range(10):
        put(tmp_path, f"table/{at}.ply", cloud("table", at) * 1000)
    finding = only(check(tmp_path, points=64), "scale")
    assert len(finding.files) == 10
    assert "for all of class 'table'" in finding.message


def test_up_axis(tmp_path):
    scans(tmp_path)
    put(tmp_path, "pole/lying.ply", cloud("pole", 99)[:, [0, 2, 1]])
    put(tmp_path, "pole/across.ply", cloud("pole", 98)[:, [2, 1, 0]])
    found = {finding.files: finding.message for finding in check(tmp_path, points=64) if finding.kind == "up axis"}
    assert found == {
        ("pole/lying.ply",): "in class 'pole' the box fits the class's median box only with y and z swapped",
        ("pole/across.ply",): "in class 'pole' the box fits the class's median box only with x and z swapped",
    }


def test_a_turn_about_the_upright_axis_is_no_other_up_axis(tmp_path):
    """Benches stand along y here, each turned about it or not; one lies."""
    for at in range(12):
        put(tmp_path, f"bench/{at}.ply", cloud("bench", at)[:, [0, 2, 1]])
        put(tmp_path, f"table/{at}.ply", cloud("table", at)[:, [0, 2, 1]])
    put(tmp_path, "bench/turned.ply", cloud("bench", 99)[:, [1, 2, 0]])
    put(tmp_path, "bench/lying.ply", cloud("bench", 98)[:, [2, 0, 1]])
    axes = [finding for finding in check(Folder(str(tmp_path), up="y"), points=64) if finding.kind == "up axis"]
    assert [finding.files for finding in axes] == [("bench/lying.ply",)]


def test_class_names_that_differ_only_in_spelling(tmp_path):
    scans(tmp_path, classes=("night_stand", "pole", "Night Stand"))
    finding = only(check(tmp_path, points=64), "class variants")
    assert "'Night Stand', 'night_stand'" in finding.message


def test_small_classes_and_imbalance(tmp_path):
    scans(tmp_path, classes=("pole",), each=21)
    scans(tmp_path, classes=("table",), each=2)
    found = check(tmp_path, points=64)
    assert "table (2)" in only(found, "small class").message
    assert "'pole' has 21 items, 'table' 2" in only(found, "imbalance").message
    assert "1 class has no items in val: table" in only(found, "missing class").message


def test_one_class(tmp_path):
    finding = only(check(scans(tmp_path, classes=("pole",)), points=64), "one class")
    assert (finding.severity, "only 'pole'" in finding.message) == ("error", True)


def test_classes_missing_from_given_parts(tmp_path):
    scans(tmp_path / "train", classes=("bench", "pole"))
    scans(tmp_path / "test", classes=("pole", "table"))
    found = {finding.message: finding.severity for finding in check(tmp_path, points=64) if finding.kind == "missing class"}
    assert found["1 class has no items in train: table"] == "error"
    assert found["1 class has no items in test: bench"] == "warning"


def test_foreign_files_and_empty_classes(tmp_path):
    scans(tmp_path)
    (tmp_path / "notes.md").touch()
    (tmp_path / "pole" / "part.step").touch()
    (tmp_path / "sofa").mkdir()
    found = check(tmp_path, points=64)
    assert only(found, "ignored").files == ("notes.md", "pole/part.step")
    assert only(found, "empty class").files == ("sofa",)
    assert only(found, "empty class").severity == "error"


def test_nested_folders(tmp_path):
    scans(tmp_path)
    put(tmp_path, "pole/object/1.ply", cloud("pole", 99))
    assert "group=folder" in only(check(tmp_path, points=64), "nested").do
    assert "nested" not in {finding.kind for finding in check(Folder(str(tmp_path), group="folder"), points=64)}


def test_a_layout_that_cannot_be_read_is_a_finding(tmp_path):
    (finding,) = check(tmp_path)
    assert (finding.severity, finding.kind) == ("error", "layout")
    (tmp_path / "x.npz").write_bytes(b"PK")
    (finding,) = check(tmp_path / "x.npz")
    assert (finding.severity, finding.kind) == ("error", "layout")
    assert "not an .npz archive" in finding.message


def archive(folder, **changed):
    points = np.stack([cloud(label, at) for at in range(10) for label in BOXES]).astype(np.float32)
    arrays = {"points": points, "labels": np.arange(30) % 3, "class_names": np.array(list(BOXES))} | changed
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def test_archives_are_checked_too(tmp_path):
    assert check(archive(tmp_path), points=64) == []
    is_test = np.arange(30) >= 15
    found = check(archive(tmp_path, is_test=is_test, object_id=np.arange(30) % 15), points=64)
    said = {finding.parts: finding.message.partition(":")[0] for finding in found if finding.kind == "leak"}
    assert said.keys() == {("test", "train"), ("test", "val")}
    counts = {parts: int(message.split()[0]) for parts, message in said.items()}
    assert sum(counts.values()) == 15
    assert said["test", "val"] == f"{counts['test', 'val']} objects have scans in test and val"


def test_what_is_not_read_from_files_is_refused():
    with pytest.raises(UsageError, match="not read from files"):
        check(Task())
    with pytest.raises(DataError, match="neither a path that is there"):
        check("/nowhere")


def test_a_finding_is_one_line():
    finding = Finding("error", "leak", tuple("abcdefgh"), "it leaks", "mend it")
    assert str(finding) == "error: leak: it leaks [a, b, c, d, e and 3 more] (mend it)"


def test_findings_that_are_alike_are_one_line():
    torn = [Finding("error", "not finite", (f"{at}.ply",), f"{at} of 80 points are not finite", "mend it") for at in range(1, 8)]
    pairs = [Finding("error", "leak", (f"{at}.ply", f"{at}.xyz"), "it leaks", "keep one") for at in range(2)]
    labels = [Finding("error", "two labels", (f"{at}.ply",), f"it is labelled 'class {at}'", "keep one") for at in range(2)]
    alone = Finding("warning", "imbalance", (), "'a' has 9 items", "look")
    assert Survey(None, [*torn, *pairs, *labels, alone]).lines() == [
        "error: not finite: 7 files: 1 of 80 points are not finite (these numbers are the first one's) "
        "[1.ply, 2.ply, 3.ply, 4.ply, 5.ply and 2 more] (mend it)",
        "error: leak: 2 times: it leaks [0.ply = 0.xyz, 1.ply = 1.xyz] (keep one)",
        "error: two labels: it is labelled 'class 0' [0.ply] (keep one)",
        "error: two labels: it is labelled 'class 1' [1.ply] (keep one)",
        "warning: imbalance: 'a' has 9 items (look)",
    ]


def test_parts_are_those_that_the_task_has(tmp_path):
    task = Folder(str(scans(tmp_path)), labelled=3)
    data, seen = task.load(64), survey(task, points=64)
    assert seen.overview.parts == {"train": 9, "val": len(data.val), "test": len(data.test)}
    assert len(data.train) == 9
    assert (seen.overview.readable, seen.overview.classes) == (30, dict.fromkeys(BOXES, 10))


def test_what_is_there_is_told(tmp_path):
    scans(tmp_path, each=9)
    (tmp_path / "pole" / "empty.xyz").touch()
    (tmp_path / "pole" / "cube.off").write_bytes(CUBES["off-quads"][1])
    seen = survey(tmp_path, points=64)
    assert [finding.kind for finding in seen.findings] == ["unreadable"]
    assert seen.overview.kinds == {".off": 1, ".ply": 27, ".xyz": 1}
    assert (seen.overview.readable, seen.overview.classes) == (28, {"bench": 9, "pole": 10, "table": 9})
    assert sum(seen.overview.parts.values()) == 28
    lines = {line[:11].strip(): line[12:] for line in seen.overview.lines()}
    assert lines["clouds"] == "29 (1 .off, 27 .ply, 1 .xyz); 28 can be used"
    assert lines["3 classes"] == "bench 9, pole 10, table 9"
    assert lines["points"] == "min 80, median 80, max 80"
    assert lines["vertices"].startswith("min 8, median 8, max 8")
    assert lines["extent"].startswith("min ")
    assert survey(archive(tmp_path), points=64).overview.kinds == {".npz": 30}
    assert survey(tmp_path / "pole", points=64).overview is None
