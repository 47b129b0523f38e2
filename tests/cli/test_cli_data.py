from __future__ import annotations

import numpy as np
import pytest
from terminal import refused, save_folder, save_npz, wisetune

import pico

pytestmark = pytest.mark.usefixtures("world")


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_clean_folder_has_nothing_wrong(world):
    save_folder(world / "clean", pico.data(train=9, test=6))
    done = wisetune("data", "check", "folder:clean,val=0", "--points", 64)
    assert (done.code, done.error) == (0, "")
    *summary, last = done.out.splitlines()
    assert last == "Nothing wrong or suspicious found in folder:clean,val=0."
    assert summary[:4] == [
        "clouds      60 (60 .ply); all can be used",
        "4 classes   ball 15, box 15, plate 15, stick 15",
        "parts       train 36, val 0, test 24",
        "points      min 64, median 64, max 64",
    ]


def test_what_is_wrong_is_listed_with_its_file_and_exit_code_65(world):
    (world / "scans/train/ball/0.ply").write_bytes(b"ply\nformat ascii 1.0\n")
    (world / "scans/train/notes").mkdir()
    done = wisetune("data", "check", "scans", "--points", 64)
    assert (done.code, done.error) == (65, "")
    errors = [line for line in done.out.splitlines() if line.startswith("error: ")]
    assert any("unreadable" in line and "[train/ball/0.ply]" in line for line in errors)
    assert any("empty class" in line and "[train/notes]" in line for line in errors)
    assert done.out.splitlines()[-1].startswith(f"{len(errors)} errors, ")


def test_a_warning_alone_is_no_failure():
    done = wisetune("data", "check", "solids.npz", "--points", 65)
    assert done.code == 0
    assert "warning: few points: 84 clouds have fewer" in done.out
    assert done.out.splitlines()[-1].startswith("0 errors, ")


def test_findings_as_json(world):
    (world / "scans/train/ball/0.ply").write_bytes(b"")
    done = wisetune("data", "check", "folder:scans,val=0", "--points", 64, "--json")
    assert (done.code, done.error) == (65, "")
    assert list(done.json) == ["task", "errors", "summary", "findings"]
    assert done.json["summary"]["kinds"] == {".ply": 16}
    assert (done.json["task"], done.json["errors"]) == ("folder:scans,val=0", 1)
    found = [finding for finding in done.json["findings"] if finding["severity"] == "error"]
    assert [list(finding) for finding in found] == [["severity", "kind", "files", "message", "do", "parts"]]
    assert (found[0]["kind"], found[0]["files"]) == ("unreadable", ["train/ball/0.ply"])
    save_folder(world / "clean", pico.data(train=9, test=6))
    assert wisetune("data", "check", "folder:clean,val=0", "--points", 64, "--json").json["findings"] == []


def test_a_folder_without_classes_is_said_to_have_none(world):
    (world / "flat").mkdir()
    (world / "flat/a.xyz").write_text("0 0 0\n")
    done = wisetune("data", "check", "flat")
    assert done.code == 65
    assert "'flat' has no sub-folders; each class needs one. Lay it out as DIR/class/file" in done.out
    assert "(docs/data.md, 'Your data', shows how data are laid out)" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "nowhere"), "'nowhere' is neither a path that is there nor a task. Tasks: demo, few-shot, folder, npz"),
        (
            ("check", "mine.safetensors"),
            "'mine.safetensors' holds no data set. Give a folder of clouds, with one sub-folder a class, or an .npz",
        ),
        (("check", "demo:scans"), "is not read from files, so there is nothing to check"),
        (("check", "scans,vall=0.1"), "has no option 'vall'. Did you mean 'val'?"),
        (("check", "scans", "--points", "0"), "--points is 0; it must be at least 1"),
        (("check", "scans", "--points", "many"), "many"),
        (("simulate-scans", "demo:scans", "--out", "new.npz"), "'demo:scans' is not read from files"),
        (("simulate-scans", "solids.npz", "--out", "new.npz", "--setting", "odd"), "it can be obj_only, obj_bg, pb_t50_rs"),
        (("simulate-scans", "solids.npz", "--out", "new.npz", "--per-object", "0"), "scans an object (0) must be 1 or more"),
        (("simulate-scans", "solids.npz", "--out", "scans"), "--out scans is a folder; name a file in it, for example scans/scans.npz"),
        (("export", "solids.npz", "--out", "new", "--format", "doc"), "cannot write .doc. There are: .las .npy"),
        (("export", "solids.npz", "--out", "new", "--points", "0"), "clouds of 0 points were asked for"),
        (("export", "solids.npz"), "--out"),
        (("exprt",), '"exprt". Did you mean "export"?'),
    ],
)
def test_a_slip_is_one_message_and_its_exit_code(world, words, said):
    before = names(world)
    refused(wisetune("data", *words), 65 if "nowhere" in words else 2, said)
    assert names(world) == before


def test_a_task_is_exported_going_round_the_formats(world):
    save_npz("few.npz", pico.data(train=3, val=0, test=1))
    done = wisetune("data", "export", "npz:few.npz,val=0", "--out", "deep/new", "--format", "ply", "--format", "xyz", "--points", 64)
    assert (done.code, done.out, done.error) == (0, "deep/new: 16 files (ply, xyz)\n", "")
    written = names(world / "deep/new")
    assert [name.rpartition(".")[2] for name in written].count("ply") == 8
    assert {name.rpartition("/")[0] for name in written} == {f"{part}/{name}" for part in ("train", "test") for name in pico.data().classes}
    assert wisetune("data", "check", "folder:deep/new,val=0", "--points", 64, "--json").json["errors"] == 0


def test_an_export_is_ply_by_default_and_of_the_points_asked_for(world):
    assert wisetune("data", "export", "solids.npz", "--out", "new", "--points", 40).out == "new: 84 files (ply)\n"
    assert "element vertex 40\n" in next((world / "new").rglob("*.ply")).read_bytes()[:200].decode("latin-1")


def test_an_export_never_touches_a_folder_with_something_in_it(world):
    before = names(world)
    refused(
        wisetune("data", "export", "solids.npz", "--out", "scans", "--points", 64), 73, "'scans' is there and not empty. Name a new folder"
    )
    assert names(world) == before


def test_packed_laser_scans_without_their_library_are_a_missing_extra(world, packed):
    (world / "scans/train/ball/packed.laz").write_bytes(packed)
    refused(wisetune("data", "export", "scans", "--out", "new"), 69, "'laspy', which is not installed", "pip install 'wisetune[las]'")


def test_scans_are_simulated_and_can_be_trained_on():
    save_npz("cad.npz", pico.data(classes=("ball", "box"), train=2, val=0, test=1))
    done = wisetune(
        "data", "simulate-scans", "npz:cad.npz", "--out", "new.npz", "--per-object", 2, "--points", 64, "--setting", "obj_only,views=1"
    )
    assert done.code == 0, done.error
    assert done.out == "new.npz: 12 scans of 6 objects in 2 classes (8 train, 4 test)\n"
    with np.load("new.npz") as arrays:
        assert arrays["points"].shape == (12, 64, 3)
    assert wisetune("data", "export", "npz:new.npz", "--out", "new", "--points", 64).out == "new: 12 files (ply)\n"


def test_where_nothing_can_be_written_is_said_before_the_scanning(monkeypatch):
    monkeypatch.setattr("wisetune.data.simulate.simulate_task", lambda *_: pytest.fail("it was scanned"))
    refused(
        wisetune("data", "simulate-scans", "solids.npz", "--out", "deep/new.npz"), 73, "deep/new.npz", "There is no folder deep: make it"
    )
