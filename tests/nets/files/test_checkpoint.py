"""Files that nobody vouches for: none may run code, take the machine's memory, or fail by anything but a BadFile."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from weight_faults import Call, members, patched_size, saved, zipped
from wisetune.errors import BadFile
from wisetune.nets.files._archive import LEGACY_START
from wisetune.nets.files.checkpoint import read_state

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def peak_memory() -> int:
    """Bytes; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def safetensors_bytes(header: bytes, values: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + values


GOOD, LEGACY = saved(STATE), saved(STATE, _use_new_zipfile_serialization=False)


class TestGood:
    @pytest.mark.parametrize("layout", ["base_model", "model", "model_state_dict", "state_dict"])
    @pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
    def test_layouts(self, tmp_path, layout, new):
        content = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, layout: STATE, "best_metrics": {"acc": 93.8}}
        self.check(tmp_path, saved(content, _use_new_zipfile_serialization=new), layout)

    @pytest.mark.parametrize("data", [GOOD, LEGACY], ids=["zip", "legacy"])
    def test_plain(self, tmp_path, data):
        self.check(tmp_path, data, "plain")

    @pytest.mark.parametrize("number", [np.float64(93.8), np.float32(1), np.int64(3), np.bool_(True)], ids=lambda n: type(n).__name__)
    @pytest.mark.parametrize("numpy_1", [False, True])
    def test_numpy_numbers_among_the_metrics(self, tmp_path, number, numpy_1):
        data = saved({"base_model": STATE, "metrics": {"acc": number}})
        if numpy_1:  # the module's name before numpy 2
            inside = members(data)
            inside["archive/data.pkl"] = inside["archive/data.pkl"].replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            assert b"numpy.core.multiarray" in inside["archive/data.pkl"]
            data = zipped(inside)
        self.check(tmp_path, data, "base_model")

    def test_parameters_and_what_is_not_a_tensor(self, tmp_path):
        content = {**{key: torch.nn.Parameter(value) for key, value in STATE.items()}, "epoch": 3, 7: torch.ones(1)}
        self.check(tmp_path, saved(content), "plain")

    def test_safetensors_with_metadata(self, tmp_path):
        found = self.check(tmp_path, safetensors.torch.save(STATE, {"who": "me"}), "plain")
        assert found.metadata == {"who": "me"}

    def test_what_stands_beside_the_weights(self, tmp_path):
        metrics = {"acc": np.float64(93.8), "wide": np.float32(0.5), "steps": np.int64(7), "one": torch.tensor(2.0), "many": torch.ones(3)}
        beside = {"epoch": 300, "optimizer": {"state": {}}, "metrics": metrics, "note": "a\x1b[31mb\n" + "c" * 60, "big": 1 << 70, 5: 3}
        found = self.check(tmp_path, saved({**beside, "base_model": STATE, "loss": float("nan")}), "base_model").beside
        told = {"metrics.acc": 93.8, "metrics.wide": 0.5, "metrics.steps": 7, "metrics.one": 2.0}
        assert found == {"epoch": 300, "optimizer": None, **told, "note": f"a?[31mb?{'c' * 32} ...", "big": None, "loss": None}
        many = {f"x{row}": row for row in range(1000)}
        assert len(self.check(tmp_path, saved({**many, "model": STATE}), "model").beside) == 16

    def test_a_string_is_a_path(self, tmp_path):
        (tmp_path / "w.pth").write_bytes(GOOD)
        assert set(read_state(str(tmp_path / "w.pth")).tensors) == set(STATE)

    def check(self, folder, data, layout):
        path = folder / "weights.ckpt"
        path.write_bytes(data)
        found = read_state(path)
        assert found.layout == layout
        assert set(found.tensors) == set(STATE)
        assert all(torch.equal(found.tensors[key], value) and not found.tensors[key].requires_grad for key, value in STATE.items())
        return found


def evil_files(canary: Path) -> dict[str, bytes]:
    command = f"touch {canary}"
    calls = {
        "os.system": Call(os.system, command),
        "popen": Call(subprocess.Popen, ["touch", str(canary)]),
        "check_output": Call(subprocess.check_output, ["touch", str(canary)]),
        "eval": Call(builtins.eval, f"__import__('os').system({command!r})"),
        "exec": Call(builtins.exec, f"__import__('os').system({command!r})"),
        "open": Call(builtins.open, str(canary), "w"),
        "import": Call(builtins.__import__, "antigravity"),
        "getattr": Call(builtins.getattr, "text", "format"),
        "torch.load": Call(torch.load, str(canary)),
        "torch.save": Call(torch.save, 1, str(canary)),
        "numpy.load": Call(np.load, str(canary)),
        "numpy.save": Call(np.save, str(canary), np.zeros(1)),
        "numpy.array": np.zeros(3),
        "path": Path("/tmp"),
        "hub": Call(torch.hub.load, str(canary.parent), "m"),
    }
    files = {f"{name} beside": saved({"base_model": STATE, "x": call}) for name, call in calls.items()}
    files |= {f"{name} alone, legacy": saved(call, _use_new_zipfile_serialization=False) for name, call in calls.items()}
    files["state inside"] = saved({"a.weight": calls["os.system"]})
    files["plain pickle"] = pickle.dumps(calls["os.system"], protocol=2)
    files["plain pickle 0"] = pickle.dumps(calls["os.system"], protocol=0)
    files["plain pickle 4"] = pickle.dumps({"base_model": calls["os.system"]}, protocol=4)
    # A name on the list of numpy's, called with what it must not do anything with.
    inside = members(saved({"base_model": STATE, "metrics": np.float64(3)}))
    inside["archive/data.pkl"] = inside["archive/data.pkl"].replace(b"cnumpy\ndtype\n", b"cposix\nsystem\n")
    files["dtype swapped"] = zipped(inside)
    return files


@pytest.mark.parametrize("name", sorted(evil_files(Path("/nonexistent/canary"))))
def test_nothing_is_executed(tmp_path, name):
    canary = tmp_path / "canary"
    path = tmp_path / "w.pth"
    path.write_bytes(evil_files(canary)[name])
    with pytest.raises(BadFile, match=r"is refused|not one that torch.save wrote|neither a PyTorch") as refused:
        read_state(path)
    assert str(path) in str(refused.value)
    assert not canary.exists()


def test_the_message_names_what_would_run(tmp_path):
    (tmp_path / "w.pth").write_bytes(saved({"base_model": STATE, "x": Call(os.system, "true")}))
    with pytest.raises(BadFile, match=r"would run '(posix|nt)\.system'.*safetensors"):
        read_state(tmp_path / "w.pth")


def many_opcodes() -> bytes:
    return zipped({**members(GOOD), "archive/data.pkl": b"\x80\x02" + b"]" * 3_000_000 + b"."})


def overlapping() -> bytes:
    """Two hundred members of the directory that are the same megabyte of the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in members(GOOD).items():
            archive.writestr(name, value)
        archive.writestr("archive/data/9", bytes(1 << 20))
        big = archive.infolist()[-1]
        for i in range(200):
            again = zipfile.ZipInfo(f"archive/data/{100 + i}")
            again.file_size, again.compress_size, again.CRC, again.header_offset = (
                big.file_size,
                big.compress_size,
                big.CRC,
                big.header_offset,
            )
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    return buffer.getvalue()


def huge_legacy() -> bytes:
    data = saved({"w": torch.zeros(70_000)}, _use_new_zipfile_serialization=False)
    assert data.count(b"J" + struct.pack("<i", 70_000)) >= 1
    return data.replace(b"J" + struct.pack("<i", 70_000), b"J" + struct.pack("<i", 2**31 - 1))


BAD = {
    "empty": (b"", "it is empty"),
    "one byte": (b"P", "neither a PyTorch nor"),
    "garbage": (random.Random(0).randbytes(5000), "neither a PyTorch nor"),
    "zeros": (bytes(5000), "neither a PyTorch nor"),
    "text": (b"hello " * 100, "neither a PyTorch nor"),
    "html": (b"\n <!DOCTYPE html><html><body>Google Drive - Quota exceeded</body></html>", "web page"),
    "lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 88\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b" + bytes(100), "unpack it"),
    "tar": (bytes(257) + b"ustar" + bytes(300), "unpack it"),
    "npz": (zipped({"a.npy": b"x"}), "not one that torch.save wrote"),
    "zip of a checkpoint": (zipped({"w.pth": GOOD}), "not one that torch.save wrote"),
    "script": (zipped({**members(GOOD), "archive/code/m.py": b"", "archive/constants.pkl": b"\x80\x02}."}), "TorchScript"),
    "cut zip": (GOOD[: len(GOOD) // 2], "cut off"),
    "zip less a byte": (GOOD[:-1], "cut off"),
    "cut legacy": (LEGACY[: len(LEGACY) // 2], "damaged|cannot read"),
    "legacy without values": (LEGACY[:-8], "cannot read"),
    "zip with a comment": (GOOD[:-2] + b"\x05\x00hello", "cut off"),
    "zip after zip": (GOOD + GOOD, "not where torch.save puts it|contradicts"),
    "prefix": (b"PK\x03\x04" + bytes(30) + GOOD, "not where torch.save puts it|contradicts"),
    "zip of zeros": (zipped({**members(GOOD), "archive/data.pkl": bytes(100)}), r"list of contents is damaged \(it is no pickle\)"),
    "plain pickle": (pickle.dumps({"a": [1.0]}), r"not one that torch.save wrote .*safetensors\.torch\.save_file\("),
    "zip bomb": (zipped({**members(GOOD), "archive/data/0": bytes(100 << 20)}, zipfile.ZIP_DEFLATED), "compressed"),
    "declared terabyte": (patched_size(GOOD), "declares|cannot be read"),
    "overlapping members": (overlapping(), "declares"),
    "opcode bomb": (many_opcodes(), "more than 500000 objects"),
    "legacy opcode bomb": (LEGACY_START + b"\x80\x02" + b"]" * 3_000_000 + b".", "more than 500000 objects"),
    "legacy storage bomb": (huge_legacy(), "cannot read|claim more"),
    "view of one number": (saved({"w": torch.ones(1).expand(100_000, 100_000)}), "but fewer values"),
    "sparse": (saved({"w": torch.eye(3).to_sparse()}), "sparse"),
    "meta": (saved({"w": torch.ones(10**6, 10**6, device="meta")}), "without values"),
    "not a table": (saved([1, 2, 3]), "one list, not a table"),
    "a tensor": (saved(torch.ones(3)), "not a table"),
    "protocol 4": (saved(STATE, pickle_protocol=4), "another protocol"),
    "a name of a gigabyte": (LEGACY_START + b"\x80\x02X" + struct.pack("<I", 1 << 30) + bytes(100), "a string of 1073741824 bytes"),
    "a name of an exabyte": (LEGACY_START + b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + bytes(100), "a string of"),
    "no weights": (saved({"epoch": 3, "args": {"lr": 1e-3}}), "holds epoch, args, but no weights"),
    "an empty model": (saved({"base_model": {}}), "no weights"),
    "safetensors header too long": (struct.pack("<Q", 5000) + b"{}" + bytes(100), "cut off"),
    "safetensors header of a gigabyte": (struct.pack("<Q", 1 << 30) + b"{}" + bytes(100), "neither a PyTorch nor"),
    "safetensors not json": (safetensors_bytes(b"{hello"), "damaged safetensors"),
    "safetensors cut": (safetensors.torch.save(STATE)[:-5], "damaged safetensors"),
    "safetensors bomb": (
        safetensors_bytes(b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
        "damaged safetensors",
    ),
    "safetensors overlap": (
        safetensors_bytes(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', bytes(12)
        ),
        "damaged safetensors",
    ),
    "safetensors shape": (safetensors_bytes(b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', bytes(8)), "damaged safetensors"),
    "safetensors overflow": (
        safetensors_bytes(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}'),
        "damaged safetensors",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    data, says = BAD[name]
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    before = peak_memory()
    with pytest.raises(BadFile, match=says) as refused:
        read_state(path)
    assert peak_memory() - before < 200 << 20
    assert str(refused.value).startswith(f"{path}: ")
    assert refused.value.do


def test_two_members_of_one_name(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in members(GOOD).items():
            archive.writestr(name, value)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("archive/version", b"3")
    (tmp_path / "w.pth").write_bytes(buffer.getvalue())
    with pytest.raises(BadFile, match="two members of one name"):
        read_state(tmp_path / "w.pth")


def test_a_pickle_may_not_call_itself_safetensors(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(GOOD)
    with pytest.raises(BadFile, match="its name says safetensors"):
        read_state(tmp_path / "w.safetensors")


def test_paths_that_are_no_files(tmp_path):
    cases = [(tmp_path, "a folder"), (tmp_path / "no.pth", "no such file")]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        cases.append((tmp_path / "fifo", "no regular file"))
    for path, says in cases:
        with pytest.raises(BadFile, match=says):
            read_state(path)
    with pytest.raises(BadFile, match=r"cannot be opened|no such file"):
        read_state("a\0b.pth")


def test_the_budget(tmp_path):
    (tmp_path / "w.pth").write_bytes(GOOD)
    with pytest.raises(BadFile, match=r"more than the 1,000 that are read"):
        read_state(tmp_path / "w.pth", budget=1000)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_any_damage_is_a_bad_file_or_other_values(tmp_path, kind):
    data = {"zip": GOOD, "legacy": LEGACY, "safetensors": safetensors.torch.save(STATE)}[kind]
    path, chance, refused = tmp_path / "w.pth", random.Random(kind), 0
    for round_ in range(250):
        damaged = bytearray(data)
        if round_ % 5 == 0:
            damaged = damaged[: chance.randrange(len(data))]
        for _ in range(chance.randrange(1, 4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            read_state(path)
        except BadFile:
            refused += 1
    assert refused > 50
