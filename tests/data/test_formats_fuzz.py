"""Damaged files: whatever is done to a valid file, the answer is finite points or a BadFile, with no warning and in no time."""

from __future__ import annotations

import random

import cloud_samples as samples
import numpy as np
import pytest
from cloud_samples import ALL

from wisetune.data.formats import points_of, read
from wisetune.errors import BadFile
from wisetune.runtime import generator

LASES = {"las": (".las", lambda: samples.las()), "las-1.4": (".las", lambda: samples.las("1.4", 6))}
LAZES = {"laz": (".laz", lambda: samples.las(suffix="laz")), "laz-1.4": (".laz", lambda: samples.las("1.4", 6, "laz"))}
WORDS = [b"-1", b"0", b"nan", b"1e999", b"4294967295", b"99999999999999999999", b"\n", b" ", b"", b"\xff", b"\x00\x00\x00\x80", b"3", b","]


def damaged(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8, 40])):
        # half of all changes fall on the header
        at = chance.randrange(min(len(data), chance.choice([300, len(data)])) or 1)
        what = chance.randrange(5)
        if what == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << chance.randrange(8)])
        elif what == 2:
            data[at : at + chance.randrange(1, 9)] = chance.choice(WORDS)
        elif what == 3:
            end = at + chance.randrange(1, 60)
            data[at:end] = b""
        else:
            data[at:at] = data[at : at + chance.randrange(1, 60)]
    return bytes(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.1 else data)


def fuzz(folder, name, suffix, content, rounds, seed=0):
    """Numbers of accepted and refused files."""
    path = folder / f"damaged{suffix}"
    chance = random.Random(f"{seed} {name}")
    accepted = 0
    for at in range(rounds):
        data = damaged(content, chance)
        path.write_bytes(data)
        try:
            points = points_of(read(path), 64, generator(0))
        except BadFile:
            pass
        else:
            assert points.shape == (64, 3), f"{name}, round {at}"
            assert np.isfinite(points).all(), f"{name}, round {at}"
            accepted += 1
    return accepted, rounds - accepted


@pytest.mark.parametrize("name", ALL)
def test_damaged_files(name, tmp_path):
    accepted, refused = fuzz(tmp_path, name, *ALL[name], rounds=150)
    assert refused > accepted / 4, "the damage should be felt"


@pytest.mark.parametrize("name", LASES)
def test_damaged_scans(name, tmp_path):
    pytest.importorskip("laspy")
    suffix, make = LASES[name]
    fuzz(tmp_path, name, suffix, make(), rounds=150)


@pytest.mark.parametrize("name", LAZES)
def test_damaged_packed_scans(name, tmp_path):
    pytest.importorskip("lazrs")
    suffix, make = LAZES[name]
    fuzz(tmp_path, name, suffix, make(), rounds=150)


@pytest.mark.parametrize("suffix", sorted({suffix for suffix, _ in ALL.values()} | {".las"}))
def test_random_bytes(suffix, tmp_path):
    path = tmp_path / f"noise{suffix}"
    starts = [content[: 8 * at] for kind, content in ALL.values() if kind == suffix for at in range(4)] or [b"LASF"]
    for at in range(60):
        chance = random.Random(at)
        path.write_bytes(starts[at % len(starts)] + chance.randbytes(chance.randrange(1, 2000)))
        with pytest.raises(BadFile):
            read(path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ALL)
def test_damaged_files_by_the_thousand(name, tmp_path):
    fuzz(tmp_path, name, *ALL[name], rounds=20_000 // len(ALL) + 1, seed=1)
