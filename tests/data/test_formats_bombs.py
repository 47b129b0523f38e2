"""Small files that ask for much memory: refused before anything is allocated."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import cloud_samples as samples
import pytest
from bad_samples import header, las, npy_header, pcd_header, refusal
from cloud_samples import ALL

from wisetune.data.formats import Budget


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return held.getvalue()


BILLION = 3_000_000_000
BOMBS = [
    (".ply", header(BILLION)),
    (".ply", header(BILLION, kind="binary_little_endian")),
    (".ply", header(49_000_000, kind="binary_little_endian")),
    (".ply", header(49_000_000) + b"0 0 0"),
    (".ply", header(3, rest=f"element face {BILLION}\nproperty list uchar int vertex_indices\n") + b"0 0 0 1 0 0 0 1 0"),
    (".ply", header(1, kind="binary_little_endian", rest="element face 1\nproperty list uint int v\n") + b"\x00" * 12 + b"\xff" * 40),
    (".ply", header(1, rest="element face 1\nproperty list uint int v\n") + b"0 0 0 4000000000 1 2 3"),
    (".ply", header(1, rest="element nothing 4000000000\n") + b"0 0 0"),
    (".off", b"OFF\n3000000000 0 0\n0 0 0\n"),
    (".off", b"OFF\n40000000 40000000 0\n0 0 0\n"),
    (".off", b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n4000000000 0 1 2\n"),
    (".stl", b"\x00" * 80 + b"\xff\xff\xff\xff"),
    (".xyz", b"3000000000\n1 2 3\n4 5 6\n"),
    (".npy", npy_header(shape="(3000000000, 3)")),
    (".npy", npy_header(shape="(40000000, 3)")),
    (".npy", npy_header(shape="(" + "9" * 4000 + ", 3)")),
    (".npy", npy_header(descr="'<V2000000000'", shape="(1,)")),
    (".npz", zipped(("points.npy", npy_header(shape="(240000000, 3)") + b"\x00" * 100_000_000))),
    (".npz", zipped(*[(f"{at}.npy", b"") for at in range(300)])),
    (".npz", zipped(("points.npy", npy_header(shape="(40000000, 3)")))),
    (".npz", zipped(("points.npy", samples.npy()), method=zipfile.ZIP_LZMA)),
    (".pcd", pcd_header(WIDTH="3000000000", POINTS="3000000000")),
    (".pcd", pcd_header(WIDTH="40000000", POINTS="40000000", DATA="ascii") + b"1 2 3"),
    (".pcd", pcd_header(COUNT="1 1 60000000")),
    (".pcd", pcd_header(WIDTH="40000000", POINTS="40000000", DATA="binary_compressed") + struct.pack("<II", 4, 480_000_000) + b"\x00" * 4),
    (".las", las(at107=struct.pack("<I", 4_000_000_000))),
    (".las", las(at107=struct.pack("<I", 40_000_000))),
]


@pytest.mark.parametrize(("suffix", "content"), BOMBS, ids=[f"{at}{bomb[0]}" for at, bomb in enumerate(BOMBS)])
def test_bombs_are_refused_before_anything_is_allocated(suffix, content, tmp_path):
    tracemalloc.start()
    try:
        refusal(tmp_path, suffix, content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(content) * 10 + 8_000_000


def test_an_archive_that_unpacks_beyond_the_budget_is_not_unpacked(tmp_path):
    content = zipped(("points.npy", samples.npy()), ("other.npy", b"\x00" * 20_000_000))
    tracemalloc.start()
    try:
        wrong = refusal(tmp_path, ".npz", content, Budget(bytes=10_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "unpacks to 20,000," in wrong
    assert peak < 1_000_000


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    content = bytearray(zipped(("points.npy", samples.npy())))
    true = struct.pack("<I", len(samples.npy()))
    refusal(tmp_path, ".npz", bytes(content).replace(true, struct.pack("<I", 200)))
    refusal(tmp_path, ".npz", bytes(content).replace(true, struct.pack("<I", 2000)))


@pytest.mark.parametrize("name", ALL)
def test_the_budget_holds_for_every_reader(name, tmp_path):
    suffix, content = ALL[name]
    assert "at most 5" in refusal(tmp_path, suffix, content, Budget(points=5))
    assert "at most" in refusal(tmp_path, suffix, content, Budget(bytes=64))
