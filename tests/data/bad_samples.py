"""Headers to be broken, and the answer that every reader must give to a broken file."""

from __future__ import annotations

import struct

import pytest
from cloud_samples import POINTS

from wisetune.data.formats import Budget, read
from wisetune.data.formats.las import write
from wisetune.errors import BadFile


def refusal(folder, suffix, content, budget=None):
    path = folder / f"scan{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        read(path, budget or Budget())
    assert caught.value.path == str(path)
    assert caught.value.wrong
    assert caught.value.do
    assert "cannot be read as" not in caught.value.wrong, "known faults have their own words"
    return f"{caught.value.wrong} ({caught.value.do})"


def header(points=3, fields="property float x\nproperty float y\nproperty float z\n", kind="ascii", rest=""):
    return f"ply\nformat {kind} 1.0\nelement vertex {points}\n{fields}{rest}end_header\n".encode()


def pcd_header(**changed):
    lines = {"VERSION": "0.7", "FIELDS": "x y z", "SIZE": "4 4 4", "TYPE": "F F F", "COUNT": "1 1 1", "WIDTH": "2", "HEIGHT": "1"}
    lines |= {"POINTS": "2", "DATA": "binary"} | changed
    return "".join(f"{key} {value}\n" for key, value in lines.items() if value).encode()


def npy_header(descr="'<f4'", shape="(40, 3)", order="False", extra=""):
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}{extra}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def las(**changed):
    content = bytearray(plain_las())
    for at, value in changed.items():
        content[int(at[2:]) : int(at[2:]) + len(value)] = value
    return bytes(content)


def plain_las():
    return write(POINTS)
