"""Valid files of every kind, as bytes, made without the readers' own code wherever another library can make them."""

from __future__ import annotations

import io
import struct

import numpy as np
import trimesh

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
POINTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
SPHERE = trimesh.creation.icosphere(1)


def text(points: np.ndarray = POINTS, separator: str = " ", head: str = "") -> bytes:
    return (head + "".join(separator.join(repr(float(value)) for value in row) + "\n" for row in points)).encode()


def npy(array: np.ndarray = POINTS) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    return held.getvalue()


def ply(points: np.ndarray = POINTS, kind: str = "binary_little_endian", extra: str = "") -> bytes:
    header = f"ply\nformat {kind} 1.0\ncomment made for a test\nelement vertex {len(points)}\n{extra}"
    header += "property float x\nproperty float y\nproperty float z\nend_header\n"
    if kind == "ascii":
        return header.encode() + text(points)
    return header.encode() + points.astype("<f4" if "little" in kind else ">f4").tobytes()


def mixed_ply(kind: str = "ascii") -> bytes:
    """The cube as five quads and two triangles, with a colour after each list: rows of different lengths."""
    faces = [QUADS[5][[0, 1, 2]].tolist(), *QUADS[:5].tolist(), QUADS[5][[0, 2, 3]].tolist()]
    header = f"ply\nformat {kind} 1.0\nelement vertex 8\nproperty double x\nproperty uchar red\nproperty double y\nproperty double z\n"
    header += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nproperty uchar red\nend_header\n"
    if kind == "ascii":
        rows = [f"{x} 7 {y} {z}" for x, y, z in CUBE] + [f"{len(face)} {' '.join(map(str, face))} 9" for face in faces]
        return header.encode() + "\n".join(rows).encode()
    order = "<" if "little" in kind else ">"
    body = b"".join(struct.pack(f"{order}dBdd", x, 7, y, z) for x, y, z in CUBE)
    return header.encode() + body + b"".join(struct.pack(f"{order}B{len(face)}iB", len(face), *face, 9) for face in faces)


def off(head: str = "OFF\n8 6 12\n") -> bytes:
    rows = [" ".join(map(str, row)) for row in CUBE] + ["4 " + " ".join(map(str, face)) for face in QUADS]
    return (head + "\n".join(rows) + "\n").encode()


def obj() -> bytes:
    rows = ["# a cube", "mtllib none.mtl", "o cube"] + [f"v {x} {y} {z} 0.5 0.5 0.5" for x, y, z in CUBE] + ["vn 0 0 1"]
    rows += ["f " + " ".join(f"{corner + 1}//1" for corner in face) for face in QUADS[:3]]
    rows += ["f " + " ".join(str(corner - 8) for corner in face) for face in QUADS[3:]]
    return "\n".join(rows).encode()


def pcd(points: np.ndarray = POINTS, storage: str = "binary", width: int | None = None, height: int = 1) -> bytes:
    """With a byte of intensity between y and z, so that offsets matter."""
    rows = np.zeros(len(points), np.dtype([("x", "<f4"), ("y", "<f4"), ("i", "u1"), ("z", "<f4")]))
    rows["x"], rows["y"], rows["z"], rows["i"] = *points.T, 3
    header = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y i z\nSIZE 4 4 1 4\nTYPE F F U F\nCOUNT 1 1 1 1\n"
    header += f"WIDTH {width or len(points)}\nHEIGHT {height}\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {storage}\n"
    if storage == "ascii":
        return header.encode() + "\n".join(f"{float(x)} {float(y)} 3 {float(z)}" for x, y, z in points).encode()
    if storage == "binary":
        return header.encode() + rows.tobytes()
    columns = b"".join(rows[name].tobytes() for name in ("x", "y", "i", "z"))
    packed = b"".join(bytes([len(columns[at : at + 32]) - 1]) + columns[at : at + 32] for at in range(0, len(columns), 32))
    return header.encode() + struct.pack("<II", len(packed), len(columns)) + packed


def las(version: str = "1.2", kind: int = 3, suffix: str = "las") -> bytes:
    import laspy

    header = laspy.LasHeader(point_format=kind, version=version)
    header.scales, header.offsets = [1e-6] * 3, [100.0, 200.0, 0.0]
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = (POINTS.astype(np.float64) + np.array([100, 200, 0])).T
    held = io.BytesIO()
    cloud.write(held, do_compress=suffix == "laz")
    return held.getvalue()


def exported(**how: str) -> bytes:
    content = SPHERE.export(**how)
    return content if isinstance(content, bytes) else content.encode()


CLOUDS = {
    "xyz": (".xyz", text()),
    "csv": (".csv", text(separator=",", head="x,y,z\n")),
    "pts": (".pts", text(head=f"{len(POINTS)}\n")),
    "npy": (".npy", npy()),
    "npz": (".npz", npz(points=POINTS, other=np.arange(3))),
    "ply-ascii": (".ply", ply(kind="ascii")),
    "ply-little": (".ply", ply()),
    "ply-big": (".ply", ply(kind="binary_big_endian")),
    "pcd-ascii": (".pcd", pcd(storage="ascii")),
    "pcd-binary": (".pcd", pcd()),
    "pcd-compressed": (".pcd", pcd(storage="binary_compressed")),
    "obj-vertices": (".obj", b"".join(b"v " + row + b"\n" for row in text().splitlines())),
    "off-vertices": (".off", b"OFF\n40 0 0\n" + text()),
}
MESHES = {
    "ply-mesh": (".ply", exported(file_type="ply")),
    "ply-mesh-ascii": (".ply", exported(file_type="ply", encoding="ascii")),
    "off-mesh": (".off", exported(file_type="off")),
    "obj-mesh": (".obj", exported(file_type="obj")),
    "stl-binary": (".stl", exported(file_type="stl")),
    "stl-ascii": (".stl", exported(file_type="stl_ascii")),
}
CUBES = {
    "ply-mixed-ascii": (".ply", mixed_ply()),
    "ply-mixed-little": (".ply", mixed_ply("binary_little_endian")),
    "ply-mixed-big": (".ply", mixed_ply("binary_big_endian")),
    "off-quads": (".off", off()),
    "off-modelnet": (".off", off("OFF8 6 0\n")),
    "obj-quads": (".obj", obj()),
    "npz-mesh": (".npz", npz(vertices=CUBE, faces=np.concatenate([QUADS[:, [0, 1, 2]], QUADS[:, [0, 2, 3]]]))),
}
ALL = CLOUDS | MESHES | CUBES
