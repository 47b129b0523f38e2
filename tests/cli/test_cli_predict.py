from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from terminal import job, refused, wisetune

import pico
from wisetune.data.formats import read, write
from wisetune.nets.create import create
from wisetune.nets.files.save import load_model, save_model


@pytest.fixture(scope="session")
def scans():
    """New clouds of three kinds of file."""
    return {f"new{row}{suffix}": pico.split(("box",), 3, "new").points[row] for row, suffix in enumerate((".ply", ".xyz", ".npy"))}


@pytest.fixture
def files(finished, scans):
    for name, points in scans.items():
        write(finished / name, points)
    return list(scans)


def test_one_line_a_file_in_the_order_given(files):
    done = wisetune("predict", "out", *reversed(files))
    assert (done.code, done.error) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [file for file, _, _ in rows] == files[::-1]
    assert {name for _, name, _ in rows} <= {"ball", "box", "plate", "stick"}
    assert all(0.25 <= float(probability) <= 1 for _, _, probability in rows)


def test_json_has_the_probability_of_every_class(files):
    done = wisetune("predict", "out", *files, "--json")
    assert (done.code, done.error) == (0, "")
    assert [list(row) for row in done.json] == [["file", "class", "probability", "probabilities"]] * 3
    assert [row["file"] for row in done.json] == files
    for row in done.json:
        assert list(row["probabilities"]) == ["ball", "box", "plate", "stick"]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["class"]]
    same = wisetune("predict", "out", *files).out.splitlines()
    assert same == [f"{row['file']}\t{row['class']}\t{row['probability']:.3f}" for row in done.json]


def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_predicted(files, finished):
    (finished / "empty.ply").touch()
    write(finished / "few.xyz", np.eye(3, dtype=np.float32))
    words = ("predict", "out", "empty.ply", files[0], "missing.obj", "few.xyz", files[1])
    done = wisetune(*words)
    assert done.code == 65
    assert [line.split("\t")[0] for line in done.out.splitlines()] == files[:2]
    reported = done.error.splitlines()
    assert len(reported) == 3
    for line, said in zip(
        reported, ("empty.ply: is empty", "missing.obj: cannot be opened: No such file", "few.xyz: holds 3 points"), strict=True
    ):
        assert line.startswith(f"wisetune: {said}")
    found = wisetune(*words, "--json")
    assert (found.code, found.error) == (65, done.error)
    assert [set(row) for row in found.json if "error" in row] == [{"file", "error"}] * 3
    assert [row["file"] for row in found.json] == list(words[2:])


def test_a_folder_stands_for_all_files_in_it_by_path(files, finished):
    (finished / "new/deep").mkdir(parents=True)
    for file, place in zip(files, ("new/b", "new/deep/a", "new/a"), strict=True):
        shutil.copy(finished / file, f"{place}{Path(file).suffix}")
    (finished / "new/notes.md").write_text("not a scan")
    (finished / "new/.hidden").touch()
    done = wisetune("predict", "out", files[0], "new")
    assert done.code == 65
    assert [line.split("\t")[0] for line in done.out.splitlines()] == [files[0], "new/a.npy", "new/b.ply", "new/deep/a.xyz"]
    assert done.error.startswith("wisetune: new/notes.md: is not of a known kind")
    assert len(done.error.splitlines()) == 1
    (finished / "none").mkdir()
    refused(wisetune("predict", "out", "none"), 65, "there is no file in the folder 'none'")


def test_packed_scans_without_their_library_are_reported_and_the_others_are_predicted(files, finished, packed):
    (finished / "scan.laz").write_bytes(packed)
    done = wisetune("predict", "out", "scan.laz", files[0])
    assert done.code == 69
    assert done.out.startswith(f"{files[0]}\t")
    assert "pip install 'wisetune[las]'" in done.error
    assert wisetune("predict", "out", "scan.laz", "missing.ply").code == 65


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("out",), 2, "predict needs at least one file: wisetune predict RUN scan.ply ..."),
        (("nowhere", "a.ply"), 65, "there is no model at 'nowhere'. Give the --out folder of a finished run, or an exported"),
        (("scans", "a.ply"), 65, "there is no model at 'scans/model.safetensors'"),
        (("out", "a.ply", "--device", "warp"), 2, "device 'warp' cannot be used here"),
        (("mine.safetensors", "a.ply"), 65, "mine.safetensors holds a backbone without a head"),
        (("solids.npz", "a.ply"), 65, "solids.npz was not written by wisetune"),
        (("torn.safetensors", "a.ply"), 65, "torn.safetensors: its header is longer than the file"),
        (("flipped.safetensors", "a.ply"), 65, "flipped.safetensors is damaged: its values are not those that were written"),
    ],
)
def test_what_is_no_model_is_refused_by_name(finished, words, code, said):
    whole = bytearray((finished / "out/model.safetensors").read_bytes())
    (finished / "torn.safetensors").write_bytes(whole[:100])
    whole[-3] ^= 1
    (finished / "flipped.safetensors").write_bytes(whole)
    refused(wisetune("predict", *words), code, said)


@pytest.fixture
def parts(world):
    model = create(str(pico.SPEC), head="parts:categories=2", classes={"Chair": ["leg", "seat, wide", "back"], "Mug": ["cup", "handle"]})
    save_model(world / "parts.safetensors", model)
    write(world / "scan.ply", pico.split(("box",), 1, "new").points[0])
    return world


def test_parts_of_every_point(parts):
    done = wisetune("predict", "parts.safetensors", "scan.ply", "--category", "chair", "--out", "tables")
    assert (done.code, done.error) == (0, "")
    file, category, *shares = done.out.rstrip("\n").split("\t")
    assert (file, category, [share.rpartition(" ")[0] for share in shares]) == ("scan.ply", "Chair", ["leg", "seat, wide", "back"])
    (row,) = wisetune("predict", "parts.safetensors", "scan.ply", "--category", "Chair", "--json").json
    assert list(row) == ["file", "category", "parts", "labels"]
    assert len(row["labels"]) == pico.POINTS
    for number, (name, share) in enumerate(row["parts"].items()):
        count = row["labels"].count(number)
        assert share == {"number": number, "points": count, "share": count / pico.POINTS}
        assert f"{name} {share['share']:.3f}" in shares
    with (parts / "tables/scan.ply.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [int(one["number"]) for one in rows] == row["labels"]
    assert {one["part"] for one in rows} == {name for name, share in row["parts"].items() if share["points"]}
    assert np.array_equal(np.array([[one["x"], one["y"], one["z"]] for one in rows], np.float64), read(parts / "scan.ply").points)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("parts", "scan.ply"), 2, "every point of a shape whose category is known: add --category NAME. There are: Chair, Mug."),
        (("parts", "scan.ply", "--category", "Chiar"), 2, "--category: there is no category 'Chiar'. Did you mean 'Chair'?"),
        (("parts", "scan.ply", "--category", "Mug", "--out", "scans"), 2, "--out scans is there and not an empty folder"),
        (("parts", "scan.ply", "./deep/scan.ply", "--category", "Mug", "--out", "new"), 2, "two tables of one name"),
        (("solids", "scan.ply", "--category", "Mug"), 2, "--category was given, which is for part segmentation, and solids.safetensors is"),
        (("solids", "scan.ply", "--out", "new"), 2, "--out was given, which is for part segmentation"),
        (("numbers", "scan.ply", "--category", "Mug"), 65, "numbers.safetensors does not say which parts are of which category"),
    ],
)
def test_what_is_asked_of_the_wrong_model_is_refused(parts, words, code, said):
    save_model(parts / "solids.safetensors", create(str(pico.SPEC), head="linear", classes=2))
    save_model(parts / "numbers.safetensors", create(str(pico.SPEC), head="parts", classes=5))
    refused(wisetune("predict", f"{words[0]}.safetensors", *words[1:]), code, said)


def test_the_answer_is_that_of_the_model_in_the_file(files, finished):
    model = load_model(finished / "out/model.safetensors")
    model.head.load_state_dict({name: 0 * value for name, value in model.head.state_dict().items()})
    save_model(finished / "other.safetensors", model)
    for row in wisetune("predict", "other.safetensors", *files, "--json").json:
        assert list(row["probabilities"].values()) == pytest.approx([0.25] * 4)
    assert wisetune("predict", "out", *files, "--json").json[0]["probability"] > 0.26


@pytest.mark.usefixtures("finished")
def test_the_axis_that_points_up_in_training_does_so_in_prediction():
    """Of files whose y axis points up a model was trained on turned clouds: the same file is then another cloud."""
    points = pico.split(("stick",), 1, "tall").points[0] * np.array([1, 0.3, 0.5], np.float32)
    assert wisetune(*job("lp", on="npz:solids.npz,up=y", out="upright"), "--quiet").code == 0
    x, y, z = points.T
    write(Path("lying.npy"), points)
    write(Path("turned.npy"), np.stack([x, -z, y], axis=1))
    upright = wisetune("predict", "upright", "lying.npy", "--json").json[0]["probabilities"]
    assert wisetune("export", "upright", "upright.safetensors").code == 0
    assert wisetune("predict", "upright.safetensors", "lying.npy", "--json").json[0]["probabilities"] == upright
    assert wisetune("predict", "upright", "turned.npy", "--json").json[0]["probabilities"] != upright
