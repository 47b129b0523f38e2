"""Reader by fault: each answer is a BadFile that names the file, says what is wrong, and what to do."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile

import cloud_samples as samples
import numpy as np
import pytest
from bad_samples import header, las, npy_header, pcd_header, plain_las, refusal
from cloud_samples import ALL, CUBE, POINTS

from wisetune.data.formats import read, read_suffixes
from wisetune.errors import BadFile, MissingExtra

WITH_NAN = np.where(np.arange(40)[:, None] == 7, np.nan, POINTS)
WITH_INF = np.where(np.arange(40)[:, None] == 0, np.inf, POINTS)


NOT_FINITE = "1 of 40 points are not finite"
CASES = [
    # text
    (".xyz", b"1 2\n3 4\n", "2 column"),
    (".csv", b"x,y\n1,2\n", "2 column"),
    (".xyz", b"1 2 3\n4 5\n", "at row 2 with 2 columns"),
    (".xyz", b"1 2 3\n4 5 six\n", "'six'"),
    (".csv", b"1,5;2,5;3,5\n1,5;2,5;3,5\n", "line 2 is not numbers.*decimal"),
    (".txt", b"Dear reader,\nplease see the manual.\n", "line 2 is not numbers"),
    (".txt", b"# nothing\n\n", "no rows of numbers"),
    (".xyz", b"5\n1 2 3\n4 5 6\n", "says 5 rows, but 2 follow"),
    (".xyz", b"1 2 3\x00\n", "is not text"),
    (".xyz", b"1 2 3\n\xff\xfe", "not UTF-8"),
    (".xyz", samples.text(WITH_NAN), NOT_FINITE),
    (".csv", samples.text(WITH_INF, separator=","), r"not finite \(the first is number 1\)"),
    (".xyz", b"1 2 3\n" * 20, "all of its 20 points are in one place"),
    (".xyz", b"1 2 3\n", "all of its 1 points"),
    (".xyz", b"1 2 3\n4 5 6e30\n", r"coordinate of 6e\+30"),
    (".xyz", b"\n" * 200, "hold no row"),
    # ply
    (".ply", b"solid\n", "no ply header"),
    (".ply", b"ply\nformat ascii 1.0\n", "no ply header"),
    (".ply", b"ply\nformat ebcdic 1.0\nend_header\n", "means nothing: 'format ebcdic"),
    (".ply", b"ply\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\nend_header\n", "names no format"),
    (".ply", header(fields="property float x\nproperty float y\n"), "no element 'vertex' with x, y and z"),
    (".ply", header(fields="property list uchar float x\nproperty float y\nproperty float z\n"), "no element 'vertex' with x"),
    (".ply", header(fields="property float x\n" * 2), "twice"),
    (".ply", header(fields="property quaternion x\n"), "means nothing"),
    (".ply", header(-3), "means nothing"),
    (".ply", header(0), "holds no points"),
    (".ply", header(2) + b"0 0 0\n1 1", "values end before|only"),
    (".ply", header(2) + b"0 0 0\n1 1 1\n2 2 2\n", "3 values more"),
    (".ply", header(2) + b"0 0 0\n1 one 1\n", "not a number"),
    (".ply", samples.ply()[:-1], "only 479 follow"),
    (".ply", samples.ply() + b"1234", "4 bytes more"),
    (".ply", samples.ply(WITH_NAN.astype(np.float32)), NOT_FINITE),
    (".ply", samples.ply(WITH_NAN, kind="ascii"), NOT_FINITE),
    (".ply", header(3, rest="element tristrips 1\nproperty list int int vertex_indices\n"), "triangle strips"),
    (".ply", header(3, rest="element face 1\nproperty list uchar int vertex_indices\n") + b"0 0 0 1 0 0 0 1 0 3 0 1 3", "vertex 3, but"),
    (".ply", header(3, rest="element face 1\nproperty list uchar int vertex_indices\n") + b"0 0 0 1 0 0 0 1 0 3 0 1 -1", "vertex -1, but"),
    (".ply", header(3, rest="element face 1\nproperty list uchar int vertex_indices\n") + b"0 0 0 1 0 0 0 1 0 3 0 1 .5", "not whole"),
    (
        ".ply",
        header(3, rest="element face 1\nproperty list uchar int vertex_indices\n") + b"0 0 0 1 0 0 0 1 0 9 0 1 2",
        "values end before",
    ),
    (".ply", header(3, rest="element face 1\nproperty list uchar int vertex_indices\n") + b"0 0 0 1 0 0 0 1 0 -1 0 1 2", "no list where"),
    (".ply", header(3, rest="element face 1\nproperty list uchar int vertex_indices\n") + b"0 0 0 1 0 0 2 0 0 3 0 1 2", "has an area"),
    (".ply", samples.mixed_ply("binary_little_endian")[:-3], "'face' row 7 of 7"),
    (".ply", samples.mixed_ply("binary_big_endian")[:-30], "'face' row 6 of 7|only"),
    # off
    (".off", b"OOF\n1 0 0\n0 0 0\n", "does not start with OFF"),
    (".off", b"4OFF\n1 0 0\n0 0 0 0\n", "does not start with OFF"),
    (".off", b"OFF BINARY\n\x00\x00", "binary OFF"),
    (".off", b"OFF\n2 0 0\n0 0 0\n", "only 6 follow|2 vertices and 0 faces, but 1 lines"),
    (".off", b"OFF\n2 0 0\n0 0 0\n1 1 1\n2 2 2\n", "but 3 lines follow"),
    (".off", b"OFF\n2 0 0\n0 0 0\n11111 1\n", "fewer than three coordinates"),
    (".off", b"OFF\n2 0 0\n0 0 0\n1 1 x\n", "not a number"),
    (".off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1\n", "as many corners"),
    (".off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n", "vertex 3, but"),
    (".off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "1 of 3 points are not finite"),
    (".off", b"OFF\n0 0 0\n", "no points"),
    (".off", b"OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n", "none of its 1 faces has an area"),
    # obj
    (".obj", b"# empty\n", "holds no vertices"),
    (".obj", b"v 1 2\n", "fewer than three"),
    (".obj", b"v 1 2 x\n", "not a number"),
    (".obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", "vertex 3, but its vertices are 0 to 2"),
    (".obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "counts from 1"),
    (".obj", b"v 0 0 0\nv 1 0 0\nf -3 -2 -1\nv 0 1 0\n", "vertex -1"),
    (".obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf a b c\n", "by number"),
    (".obj", b"v 0 0 0\nv 1 0 inf\nv 0 1 0\nf 1 2 3\n", "not finite"),
    (".obj", b"\x00\x01\x02", "is not text"),
    # stl
    (".stl", b"sol", "too short"),
    (".stl", b"\x01" * 84, "declares 16,843,009 triangles"),
    (".stl", samples.exported(file_type="stl")[:-1], "declares 80 triangles"),
    (".stl", samples.exported(file_type="stl_ascii")[:-40], "no endsolid"),
    (".stl", b"solid\nendsolid\n", "no points"),
    (".stl", samples.exported(file_type="stl_ascii").replace(b"vertex", b"vortex", 1), "239 vertices"),
    (".stl", samples.exported(file_type="stl_ascii").replace(b"endfacet", b"endfaced", 1), "80 facets, 79 of them ended"),
    (".stl", b"\x00" * 80 + struct.pack("<I", 1) + b"\x00" * 50, "in one place"),
    (".stl", b"\x00" * 80 + struct.pack("<I12fH", 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, np.nan, 2, 2, 0), "1 of 3 points are not finite"),
    # npy, npz
    (".npy", b"\x93NUMPY", "not a NumPy array"),
    (".npy", b"\x93NUMPY\x01\x00\xff\xff{}", "a header"),
    (".npy", samples.npy()[:-1], "479 bytes follow"),
    (".npy", samples.npy(POINTS.T.copy()), r"must be \[n, 3 or more"),
    (".npy", samples.npy(POINTS[:, :2].copy()), r"\[40, 2"),
    (".npy", samples.npy(POINTS.ravel()), r"\[120"),
    (".npy", samples.npy(POINTS.astype(complex)), "complex128"),
    (".npy", samples.npy(POINTS > 0), "bool"),
    (".npy", samples.npy(POINTS.astype(str)), "not of numbers"),
    (".npy", samples.npy(WITH_NAN), NOT_FINITE),
    (".npy", npy_header(descr="'|O'"), "Python objects"),
    (".npy", npy_header(descr="[('x', '|O')]"), "Python objects"),
    (".npy", npy_header(shape="(-1, 3)"), "cannot be understood"),
    (".npy", npy_header(shape="[40, 3]"), "cannot be understood"),
    (".npy", npy_header(order="1"), "cannot be understood"),
    (".npy", npy_header(descr="__import__('os').getcwd()"), "cannot be understood"),
    (".npy", npy_header(shape="(" * 3000), "cannot be understood"),
    (".npy", npy_header(shape="(40, 3" + ", 1" * 60 + ")") + b"\x00" * 480, "cannot be understood"),
    (".npz", b"PK\x03\x04 but nothing else", "not an .npz archive"),
    (".npz", samples.npz(points=POINTS)[:-30], "not an .npz archive"),
    (".npz", samples.npz(first=POINTS, second=POINTS), "holds the arrays first, second"),
    (".npz", samples.npz(vertices=CUBE, faces=np.array([[0, 1, 8]])), "vertex 8"),
    (".npz", samples.npz(vertices=CUBE, faces=np.array([[0, 1, 2, 3]])), r"must be \[f, 3\]"),
    (".npz", samples.npz(vertices=CUBE, faces=np.array([[0, 1, 1.5]])), "not whole"),
    # pcd
    (".pcd", b"hello\n", "no pcd header|means nothing"),
    (".pcd", pcd_header(DATA=""), "no pcd header"),
    (".pcd", pcd_header(FIELDS="x y i"), "x, y and z are needed"),
    (".pcd", pcd_header(FIELDS="x y z i"), "different lengths"),
    (".pcd", pcd_header(SIZE="4 4 3"), "size 3"),
    (".pcd", pcd_header(WIDTH="many"), "WIDTH many"),
    (".pcd", pcd_header(HEIGHT=""), "lacks HEIGHT"),
    (".pcd", pcd_header(POINTS="3"), "declares 3 points, but a width of 2"),
    (".pcd", pcd_header(DATA="zip"), "as 'zip'"),
    (".pcd", pcd_header() + b"\x00" * 23, "only 23 follow"),
    (".pcd", pcd_header(DATA="ascii") + b"0.00 0.00 0.00\n1 1", "holds 5 values"),
    (".pcd", pcd_header(DATA="binary_compressed") + b"\x00" * 4, "only 4 follow"),
    (".pcd", pcd_header(DATA="binary_compressed") + struct.pack("<II", 30, 24) + b"\x00" * 20, "only 20 follow"),
    (".pcd", pcd_header(DATA="binary_compressed") + struct.pack("<II", 3, 25) + b"\x00" * 3, "packs 25 bytes"),
    (".pcd", pcd_header(DATA="binary_compressed") + struct.pack("<II", 2, 24) + b"\x20\x05", "before their start"),
    (".pcd", pcd_header(DATA="binary_compressed") + struct.pack("<II", 1, 24) + b"\xe0", "cut off"),
    (".pcd", pcd_header(DATA="binary_compressed") + struct.pack("<II", 2, 24) + b"\x00a", "do not unpack to"),
    (".pcd", samples.pcd(WITH_NAN.astype(np.float32)), NOT_FINITE),
    (".pcd", samples.pcd(np.full((40, 3), np.nan, np.float32), width=8, height=5), "no points"),
    # las
    (".las", b"LASF", "no LAS header"),
    (".las", plain_las()[:-1], "only 799 follow"),
    (".las", las(at24=b"\x07"), "header does not fit"),
    (".las", las(at131=struct.pack("<d", 0)), "a scale of 0"),
    (".las", las(at155=struct.pack("<d", np.nan)), "not a number"),
    (".las", las(at105=b"\x02\x00"), "header does not fit"),
    (".las", las(at100=struct.pack("<I", 4_000_000_000)), "records before its points"),
    (".las", las(at104=b"\x83"), "no record that says how"),
]


@pytest.mark.parametrize(("suffix", "content", "wrong"), CASES, ids=[f"{at}{case[0]}" for at, case in enumerate(CASES)])
def test_each_fault_has_its_answer(suffix, content, wrong, tmp_path):
    assert re.search(wrong, refusal(tmp_path, suffix, content))


@pytest.mark.parametrize("suffix", read_suffixes())
@pytest.mark.parametrize("content", [b"", b"\x00", bytes(range(256)) * 40, b"\x80\x04\x95" + b"x" * 50, b"<html><body>404</body></html>"])
def test_anything_else_is_refused_by_every_reader(suffix, content, tmp_path):
    refusal(tmp_path, suffix, content)


# A shorter list of points is as good as the whole.
LISTS = {"xyz", "csv", "obj-vertices"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in LISTS])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_truncated_files_are_refused(name, keep, tmp_path):
    suffix, content = ALL[name]
    if name.startswith("obj"):
        content = content[: int(len(content) * keep)].rpartition(b"\n")[0] + b"\nf 1 2"[: 0 if keep < 0.95 else 4] + b"\nv 1"
    else:
        content = content[: int(len(content) * keep)]
    refusal(tmp_path, suffix, content)


def test_what_is_not_truncated_above_is_there():
    assert set(ALL) >= LISTS


def test_unknown_suffix_names_the_known(tmp_path):
    path = tmp_path / "part.step"
    path.write_bytes(b"ISO-10303-21;")
    with pytest.raises(BadFile, match=r"'\.step'.*\.off.*\.ply"):
        read(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    (tmp_path / "folder.ply").mkdir()
    (tmp_path / "gone.ply").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.ply")
    for name, wrong in (("folder", "not a file"), ("gone", "No such file"), ("pipe", "not a file"), ("missing", "No such file")):
        with pytest.raises(BadFile, match=wrong):
            read(tmp_path / f"{name}.ply")


def test_pickles_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "canary"), "w")

    held = io.BytesIO()
    np.lib.format.write_array(held, np.array([Trap()] * 3, object), allow_pickle=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("points.npy", held.getvalue())
    for suffix, content in ((".npy", held.getvalue()), (".npz", archive.getvalue()), (".npy", pickle.dumps(Trap()))):
        refusal(tmp_path, suffix, content)
    assert not (tmp_path / "canary").exists()


def test_packed_scans_without_the_library_say_what_to_install(tmp_path, monkeypatch):
    import importlib.util

    record = bytes(2) + b"laszip encoded\x00\x00" + struct.pack("<HH32x", 22204, 40)
    how = struct.pack("<HHBBHIIqqH", 2, 0, 2, 2, 0, 0, 50000, -1, -1, 1) + struct.pack("<HHH", 6, 20, 2)
    points = struct.pack("<q", 227 + 94 + 20) + b"\x00" * 12 + struct.pack("<II", 0, 1)
    content = las(at96=struct.pack("<II", 227 + 94, 1), at104=b"\x80")[:227] + record + how + points
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (tmp_path / "scan.laz").write_bytes(content)
    with pytest.raises(MissingExtra, match=r"wisetune\[las\]"):
        read(tmp_path / "scan.laz")
    assert "packed chunks" in refusal(tmp_path, ".laz", content[:-4] + b"\xff\xff\xff\xff")
    assert "outside" in refusal(tmp_path, ".laz", content.replace(points[:8], struct.pack("<q", 1 << 60)))
    assert "rows of 21 bytes" in refusal(tmp_path, ".laz", content[:105] + b"\x15\x00" + content[107:])
