"""The smallest world to type commands in."""

from __future__ import annotations

import shutil
import signal
import struct
import sys
from pathlib import Path

import pytest
from terminal import SWEEP, Done, job, save_folder, save_npz, wisetune

import pico
from wisetune.build import bar
from wisetune.nets.files.save import save_backbone


@pytest.fixture(autouse=True)
def _signals():
    """The handler of SIGTERM that a command sets does not outlive the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def chatty(monkeypatch):
    """Progress is a line for everything that happens, as if each took ten seconds."""
    monkeypatch.setattr(bar, "_PLAIN_EVERY_S", -1.0)


@pytest.fixture
def undrawn(monkeypatch):
    """No page is drawn, which takes most of the time of a run of this size."""
    monkeypatch.setattr("wisetune.report.write.write_report", lambda *_: [])


@pytest.fixture
def packed(monkeypatch) -> bytes:
    """A .laz file, and no library that could unpack it: what is packed in it is nothing."""
    monkeypatch.setitem(sys.modules, "laspy", None)
    how = bytes(12) + struct.pack("<I16xHHHH", 50_000, 1, 6, 20, 2)
    record = bytes(2) + b"laszip encoded".ljust(16, b"\0") + struct.pack("<HH32x", 22204, len(how)) + how
    start = 227 + len(record)
    header = b"LASF" + bytes(20) + struct.pack("<BB68xHIIBHI", 1, 2, 227, start, 1, 0x80, 20, 1) + bytes(20) + struct.pack("<6d", *[1] * 6)
    return header.ljust(227, b"\0") + record + struct.pack("<qB7xII", start + 16, 0, 0, 1)


@pytest.fixture(scope="session")
def _world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    save_backbone(folder / "mine.safetensors", pico.backbone())
    save_npz(folder / "solids.npz", pico.data())
    save_npz(folder / "others.npz", pico.probe())
    save_folder(folder / "scans", pico.data(train=3, test=1))
    return folder


@pytest.fixture
def world(_world, tmp_path, monkeypatch) -> Path:
    """A folder of one's own to type commands in: weights (mine.safetensors), tasks (solids.npz, others.npz) and files (scans/)."""
    shutil.copytree(_world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


@pytest.fixture(scope="session")
def _finished(_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "world"
    shutil.copytree(_world, folder)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(bar, "_PLAIN_EVERY_S", -1.0)
        done = wisetune(*job(SWEEP))
    signal.signal(signal.SIGTERM, before)
    assert done.code == 0, done.error
    return folder, done


@pytest.fixture(scope="session")
def first(_finished) -> Done:
    """What the run of ``finished`` printed."""
    return _finished[1]


@pytest.fixture
def finished(_finished, tmp_path, monkeypatch) -> Path:
    """As ``world``, with a finished sweep in out/."""
    shutil.copytree(_finished[0], tmp_path / "finished")
    monkeypatch.chdir(tmp_path / "finished")
    return tmp_path / "finished"
