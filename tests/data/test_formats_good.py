from __future__ import annotations

from pathlib import Path

import cloud_samples as samples
import numpy as np
import pytest
from cloud_samples import CLOUDS, CUBES, MESHES, POINTS, SPHERE

from wisetune.data.formats import Cloud, Mesh, points_of, read, read_suffixes, write, write_suffixes
from wisetune.data.formats.base import fan
from wisetune.data.formats.pcd import unpack
from wisetune.errors import UsageError
from wisetune.runtime import generator


def put(folder, suffix, content):
    path = folder / f"file{suffix}"
    path.write_bytes(content)
    return path


def areas(shape):
    corners = shape.vertices[shape.faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_come_back_as_they_are(name, tmp_path):
    shape = read(put(tmp_path, *CLOUDS[name]))
    assert isinstance(shape, Cloud)
    assert shape.points.dtype == np.float64
    np.testing.assert_array_equal(shape.points, POINTS)


@pytest.mark.parametrize("name", MESHES)
def test_meshes_agree_with_trimesh(name, tmp_path):
    shape = read(put(tmp_path, *MESHES[name]))
    assert isinstance(shape, Mesh)
    np.testing.assert_allclose(shape.vertices[shape.faces], SPHERE.triangles, atol=1e-7)


@pytest.mark.parametrize("name", CUBES)
def test_polygons_become_triangles_of_the_same_surface(name, tmp_path):
    shape = read(put(tmp_path, *CUBES[name]))
    assert isinstance(shape, Mesh)
    assert len(shape.faces) == 12
    np.testing.assert_allclose(areas(shape), 0.5)


def test_fan_keeps_triangles_fans_polygons_and_drops_lines():
    found = fan(np.array([3, 2, 5, 0, 1]), np.array([0, 1, 2, 7, 8, 3, 4, 5, 6, 7, 9]))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5], [3, 5, 6], [3, 6, 7]]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".xyz", samples.text(separator="\t")),
        (".txt", samples.text(separator=" ; ")),
        (".txt", samples.text(separator=", ", head="# scanned\n\n// by hand\n")),
        (".csv", "﻿x;y;z\n".encode() + samples.text(separator=";")),
        (".csv", samples.text(np.c_[np.arange(40), POINTS], separator=",", head="id,X,Y,Z\n")),
        (".csv", b"x,y,z,label\n" + b"".join(row + b",a chair\n" for row in samples.text(separator=",").splitlines())),
        (".csv", b"".join(row + b",\n" for row in samples.text(separator=",").splitlines())),
        (".asc", samples.text(np.c_[POINTS, POINTS], head="//X Y Z Nx Ny Nz\n")),
        (".pts", samples.text(np.c_[POINTS, np.full((40, 4), 128)], head="40\n")),
        (".pts", samples.text(np.c_[POINTS, np.full((40, 4), 128)])),
        (".xyzn", samples.text(np.c_[POINTS, POINTS])),
        (".xyzrgb", samples.text(np.c_[POINTS, np.full((40, 3), 0.5)])),
        (".xyz", samples.text().replace(b"\n", b"\r\n")),
        (".xyz", samples.text().rstrip()),
        (".PLY", samples.ply()),
        (".ply", samples.ply(kind="ascii").replace(b"\n", b"\r\n")),
        (".npy", samples.npy(np.asfortranarray(POINTS))),
        (".npy", samples.npy(np.c_[POINTS, POINTS].astype(">f8"))),
        (".npy", samples.npy(np.rec.fromarrays(POINTS.T, names="x,y,z"))),
        (".npz", samples.npz(arr_0=POINTS)),
        (".npz", samples.npz(anything=POINTS)),
        (".pcd", samples.pcd(width=8, height=5)),
    ],
)
def test_spellings_of_one_cloud(suffix, content, tmp_path):
    np.testing.assert_array_equal(read(put(tmp_path, suffix, content)).points, POINTS)


def test_normals_and_colours_are_left_out(tmp_path):
    rows = np.zeros(40, [("nx", "<f4"), ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1")])
    rows["x"], rows["y"], rows["z"] = POINTS.T
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 40\nproperty float nx\nproperty float x\nproperty float y\n"
    content = (header + "property float z\nproperty uchar red\nend_header\n").encode() + rows.tobytes()
    np.testing.assert_array_equal(read(put(tmp_path, ".ply", content)).points, POINTS)
    off = b"COFF\n40 0 0\n" + b"".join(row + b" 255 0 0 255\n" for row in samples.text().splitlines())
    np.testing.assert_array_equal(read(put(tmp_path, ".off", off)).points, POINTS)


def test_unmeasured_pixels_of_an_organised_cloud_are_dropped_and_counted(tmp_path):
    points = POINTS.copy()
    points[[3, 17]] = np.nan
    for storage in ("ascii", "binary", "binary_compressed"):
        shape = read(put(tmp_path, ".pcd", samples.pcd(points, storage, width=8, height=5)))
        assert shape.dropped == 2
        np.testing.assert_array_equal(shape.points, np.delete(POINTS, [3, 17], axis=0))


@pytest.mark.parametrize(("version", "kind"), [("1.2", 0), ("1.2", 3), ("1.4", 6)])
def test_las_agrees_with_laspy(version, kind, tmp_path):
    pytest.importorskip("laspy")
    shape = read(put(tmp_path, ".las", samples.las(version, kind)))
    np.testing.assert_allclose(shape.points, POINTS + np.array([100.0, 200.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize(("version", "kind"), [("1.2", 3), ("1.4", 6)])
def test_laz_agrees_with_las(version, kind, tmp_path):
    pytest.importorskip("lazrs")
    packed = read(put(tmp_path, ".laz", samples.las(version, kind, "laz")))
    np.testing.assert_array_equal(packed.points, read(put(tmp_path, ".las", samples.las(version, kind))).points)


def test_lzf_agrees_with_hdf5s():
    # packed by the LZF filter of HDF5 1.14 (h5py 3.16): repeats, overlapping references, long and short ones, and plain bytes
    packed = bytes.fromhex(
        "01000060000001800000028000000380000004800060200000e0ff2220008116e1ff17200021134000e1031702616263e0e4021f000102030405060708090a0b"
        "0c0d0e0f101112131415161718191a1b1c1d1e1f072021222324252627"
    )
    plain = bytes((np.arange(600) // 7 % 5).astype(np.uint8)) + b"abcabcabcabc" * 20 + bytes(range(40))
    assert unpack(packed, len(plain)) == plain


@pytest.mark.parametrize("suffix", write_suffixes())
def test_what_is_written_is_read_back(suffix, tmp_path):
    path = tmp_path / f"file{suffix}"
    write(path, POINTS)
    back = read(path).points
    if suffix == ".las":
        np.testing.assert_allclose(back, POINTS, atol=1e-7)
    else:
        np.testing.assert_array_equal(back.astype(np.float32), POINTS)


def test_what_laspy_reads_of_what_is_written(tmp_path):
    laspy = pytest.importorskip("laspy")
    write(tmp_path / "file.las", POINTS)
    held = laspy.read(tmp_path / "file.las")
    np.testing.assert_allclose(np.stack([held.x, held.y, held.z], axis=1), POINTS, atol=1e-7)
    np.testing.assert_allclose(held.header.maxs, POINTS.max(axis=0), atol=1e-7)


def test_suffixes():
    assert {".ply", ".off", ".obj", ".stl", ".xyz", ".txt", ".csv", ".npy", ".npz", ".pcd", ".las", ".laz"} <= set(read_suffixes())
    assert {".ply", ".xyz", ".npy", ".off", ".pcd"} <= set(write_suffixes())
    assert not {".npz", ".laz", ".csv", ".stl"} & set(write_suffixes())


def test_a_suffix_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write '\.npz'.*\.ply"):
        write(tmp_path / "file.npz", POINTS)


def test_points_of_a_mesh_lie_on_it_even_far_from_the_origin(tmp_path):
    shape = read(put(tmp_path, *CUBES["off-quads"]))
    far = Mesh(shape.vertices + 5e6, shape.faces)
    points = points_of(far, 500, generator(0)) - 5e6
    assert points.shape == (500, 3)
    on_a_side = (np.abs(points) < 1e-6) | (np.abs(points - 1) < 1e-6)
    assert on_a_side.any(axis=1).all()
    counts = [np.count_nonzero(np.abs(points[:, axis] - side) < 1e-6) for axis in range(3) for side in (0, 1)]
    assert all(75 <= count <= 92 for count in counts)  # a sixth each


def test_points_of_a_cloud_are_its_points():
    drawn = points_of(Cloud(POINTS.astype(np.float64)), 16, generator(0))
    assert len(np.unique(drawn, axis=0)) == 16
    assert all((drawn[:, None] == POINTS).all(axis=2).any(axis=1))
    assert points_of(Cloud(POINTS.astype(np.float64)), 100, generator(0)).shape == (100, 3)


def test_the_docs_name_every_suffix():
    words = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8").replace("`", " ").replace(",", " ").split()
    assert [suffix for suffix in read_suffixes() if suffix not in words] == []
