"""What goes into a store comes out of it, bit for bit; which folders are stores; listing and removing."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from store_samples import DIGEST, EXTRA, KEY, LOG, RECIPE, RECORDS, START, tensors, tree

from wisetune.errors import UsageError
from wisetune.recipe import digest
from wisetune.records import Record
from wisetune.store import Store, states
from wisetune.store.store import Left


def awkward() -> dict[str, torch.Tensor]:
    """Every dtype the store must keep, bits that arithmetic would change, and memory that safetensors refuses or reorders."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    odd = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-45], dtype=torch.float32)
    payload = torch.from_numpy(np.array([0x7FC00001, 0xFFC12345, 0x7F800001], dtype=np.uint32).view(np.float32))
    return {
        "float32": odd,
        "nan payloads": payload,
        "float64": torch.tensor([math.pi, 5e-324], dtype=torch.float64),
        "float16": torch.tensor([1 / 3], dtype=torch.float16),
        "bfloat16": torch.tensor([1 / 3, -0.0], dtype=torch.bfloat16),
        "int64": torch.tensor([2**63 - 1, -(2**63)]),
        "int32": torch.tensor([-1], dtype=torch.int32),
        "uint8": torch.arange(256, dtype=torch.uint8),
        "bool": torch.tensor([[True], [False]]),
        "zero-dim": torch.tensor(7.25),
        "zero-dim int": torch.tensor(3),
        "empty": torch.zeros(0),
        "empty too": torch.zeros(3, 0, 2, dtype=torch.bool),
        "shared": base,
        "shared too": base,
        "transposed": base.t(),
        "a slice": base[1:3],
        "every other": base[:, ::2],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "channels last": torch.arange(16.0).reshape(1, 2, 2, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "läßt sich ☃": torch.ones(1),
        "": torch.zeros(1),
    }


def assert_same_bits(found: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        ours, theirs = (t.detach().contiguous().reshape(-1).view(torch.uint8) if t.numel() else t for t in (found[name], tensor))
        assert torch.equal(ours, theirs), name


def test_an_object_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has(DIGEST)
    assert store.load(DIGEST) is None
    assert store.commit(RECIPE, awkward(), LOG, EXTRA)
    assert store.has(DIGEST)
    stored = Store(tmp_path).load(DIGEST)
    assert stored is not None
    assert_same_bits(stored.tensors, awkward())
    assert stored.log == LOG
    assert stored.extra == EXTRA
    assert list(store.verify()) == []


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.PCG64(3))
    meta = {"rng": random.bit_generator.state, "best": None, "loss": float("nan"), "pi": math.pi, "deep": [{"a": [1, 2.5, "x"]}]}
    store = Store(tmp_path)
    assert store.load_state(DIGEST) is None
    store.save_state(DIGEST, {}, {})
    store.save_state(DIGEST, awkward(), meta)
    found = Store(tmp_path).load_state(DIGEST)
    assert found is not None
    assert_same_bits(found[0], awkward())
    assert repr(found[1]) == repr(meta)
    store.drop_state(DIGEST)
    assert store.load_state(DIGEST) is None
    store.drop_state(DIGEST)


def test_loaded_tensors_are_each_their_own_aligned_and_writable_memory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save_state(DIGEST, awkward(), {})
    found = store.load_state(DIGEST)
    assert found is not None
    full = [tensor for tensor in found[0].values() if tensor.numel()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in full}) == len(full)
    assert {tensor.data_ptr() % 64 for tensor in full} == {0}, "as torch's own allocator aligns"
    found[0]["shared"].zero_()
    assert found[0]["shared too"].sum() > 0


def test_two_states_are_kept_and_a_commit_drops_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for step in range(5):
        store.save_state(DIGEST, tensors(step), {"step": step})
        found = store.load_state(DIGEST)
        assert found is not None
        assert found[1] == {"step": step}
        assert len(list((tmp_path / "states" / DIGEST).iterdir())) == min(step + 1, 2)
    store.commit(RECIPE, tensors(), [], {})
    assert store.load_state(DIGEST) is None


def test_what_is_left_is_told_without_reading_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for epoch in (1, 2):
        store.save_state(DIGEST, tensors(), {"epoch": epoch})
    monkeypatch.setattr(states, "unpack", lambda _: pytest.fail("weights were read"))
    assert store.left([DIGEST, "never"]) == Left(frozenset(), {DIGEST: 2})
    newest = max((store.root / "states" / DIGEST).iterdir())
    (newest / "manifest.json").write_bytes(b"?")
    assert store.left([DIGEST]).begun == {DIGEST: 1}
    assert newest.exists(), "to look removes nothing"


def test_a_lock_is_seen_to_be_held_and_looking_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.held("run")
    with store.lock("run"):
        assert store.held("run")
    assert not store.held("run")
    assert not list(store.root.glob("locks/*"))


def test_a_state_that_outlived_its_commit_is_dropped_at_the_next_start(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.commit(RECIPE, tensors(), [], {})
    store.save_state(DIGEST, tensors(), {})  # as if killed between the commit and the dropping
    store.save_state("unfinished", tensors(), {})
    store = Store(tmp_path)
    assert store.load_state(DIGEST) is None
    assert store.load_state("unfinished") is not None


def test_records_come_back_and_are_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get_records(DIGEST, KEY) is None
    store.put_records(DIGEST, KEY, RECORDS)
    assert Store(tmp_path).get_records(DIGEST, KEY) == RECORDS
    assert store.get_records(DIGEST, "other") is None
    assert store.get_records("other", KEY) is None
    store.put_records(DIGEST, KEY, [])
    assert store.get_records(DIGEST, KEY) == []
    assert not store.has(DIGEST)


def test_equal_things_are_equal_folders(tmp_path: Path) -> None:
    for name in "ab":
        store = Store(tmp_path / name)
        weights = awkward() if name == "a" else dict(reversed(awkward().items()))
        store.commit(RECIPE, weights, LOG, EXTRA)
        store.put_records(DIGEST, KEY, RECORDS)
        store.save_state("more", weights, EXTRA)
        past = 1e9 if name == "a" else 1.5e9
        os.utime(tmp_path / name / "objects" / DIGEST, (past, past))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert (tmp_path / "a" / "objects" / DIGEST / "recipe.json").read_text().startswith('{\n  "fit"')


def test_the_first_commit_stays_and_other_bits_are_reported(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path, tell=told.append)
    assert store.commit(RECIPE, tensors(1), [], {})
    assert not store.commit(RECIPE, tensors(1), [{"epoch": 1}], {})
    assert told == []
    assert not store.commit(RECIPE, tensors(2), [], {})
    assert len(told) == 1
    assert "different bits" in told[0]
    stored = store.load(DIGEST)
    assert stored is not None
    assert_same_bits(stored.tensors, tensors(1))


@pytest.mark.parametrize("bad", [{1: "a"}, {"a": {2: "b"}}, {"a": [{3: "c"}]}, {"a": {1, 2}}, {"a": np.int64(1)}])
def test_what_json_would_change_or_lose_is_refused(bad: dict[str, object], tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(TypeError):
        store.save_state(DIGEST, {}, bad)
    with pytest.raises(TypeError):
        store.commit(RECIPE, {}, [bad], {})
    with pytest.raises(TypeError):
        store.put_records(DIGEST, KEY, [Record("w", "m", "d", "dd", "val", "n", 0.5, 1, 0.0, 1.0, bad)])  # type: ignore[arg-type]
    assert store.load_state(DIGEST) is None
    assert not store.has(DIGEST)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"detail": {"level": 0.5}}, "detail.level is 0.5, and must be a whole number"),
        ({"detail": {"kind": 3}}, "detail.kind is 3, and must be text"),
        ({"detail": {"classes": [1, 2]}}, "detail.classes[0] is 1, and must be text"),
        ({"n": 10.0}, "n is 10.0, and must be a whole number"),
        ({"role": "robust"}, 'role is "robust", and must be one of "accuracy", '),
        ({"detail": {"right": {1, 2}}}, "Object of type set is not JSON serializable"),
    ],
)
def test_a_record_that_would_not_be_read_back_is_refused_by_its_measure_and_key(given, said, tmp_path: Path) -> None:
    store = Store(tmp_path)
    bad = dataclasses.replace(RECORDS[0], measure="my_lab.few:Shot", **given)
    with pytest.raises(TypeError) as caught:
        store.put_records(DIGEST, KEY, [*RECORDS, bad])
    assert str(caught.value).startswith(f"the measure 'my_lab.few:Shot' made a record '{bad.name}' that cannot be kept: {said}")
    assert store.get_records(DIGEST, KEY) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\0", "x" * 200, "a\n"])
def test_names_cannot_leave_the_store(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    before = tree(tmp_path)
    for use in (store.has, store.load, store.load_state, store.drop_state, store.lock, lambda key: store.put_records(DIGEST, key, [])):
        with pytest.raises(UsageError, match="cannot name anything"):
            use(name)
    assert tree(tmp_path) == before


def test_a_listing_is_oldest_first_with_sizes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.list() == ()
    store.commit(RECIPE, tensors(), LOG, EXTRA)
    store.commit(START, tensors(), [], {})
    for node, past in ((RECIPE, 1e9), (START, 2e9)):
        os.utime(tmp_path / "objects" / digest(node) / "manifest.json", (past, past))
    tuned, start = store.list()
    assert (tuned.digest, tuned.recipe, tuned.created) == (DIGEST, "part:size=4(part#random:0)", 1e9)
    assert (start.digest, start.recipe, start.created) == (digest(START), "part#random:0", 2e9)
    assert tuned.size == sum(path.stat().st_size for path in (tmp_path / "objects" / DIGEST).iterdir())


def test_gc_keeps_what_it_is_told_to_and_what_is_in_use(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for node in (RECIPE, START):
        store.commit(node, tensors(), [], {})
        store.put_records(digest(node), KEY, RECORDS)
    for name in ("abandoned", "running"):
        store.save_state(name, tensors(), {})
    (tmp_path / "quarantine" / "x").mkdir(parents=True)
    (tmp_path / "quarantine" / "x" / "old").write_bytes(b"12345")
    before = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    with store.lock("running"):
        lock = (tmp_path / "locks" / "running.lock").stat().st_size
        freed = store.gc({DIGEST})
        assert not store.has(digest(START))
        assert store.get_records(digest(START), KEY) is None
        assert store.load_state("abandoned") is None
        assert store.load_state("running") is not None
        assert store.load(DIGEST) is not None
        assert store.get_records(DIGEST, KEY) == RECORDS
        after = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        assert freed == before + lock - after > 0
    assert store.gc({DIGEST}) > 0
    assert store.load_state("running") is None
    assert not (tmp_path / "quarantine").exists()


def test_importing_and_listing_need_no_torch(tmp_path: Path) -> None:
    Store(tmp_path).commit(RECIPE, tensors(), [], {})
    look = (
        "import sys, pathlib, wisetune.store as s; "
        "store = s.Store(pathlib.Path(sys.argv[1])); "
        "assert len(store.list()) == 1 and not list(store.verify()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", look, tmp_path], check=False).returncode == 0


def test_a_stamp_is_kept_beside_and_names_nothing(tmp_path):
    store, stamp = Store(tmp_path), {"device": "cuda", "threads": 2}
    store.commit(RECIPE, tensors(), LOG, EXTRA, stamp)
    store.put_records(DIGEST, KEY, RECORDS, {"device": "mps"})
    again = Store(tmp_path)
    assert again.stamp(DIGEST) == again.load(DIGEST).stamp == stamp
    assert (again.stamp(DIGEST, KEY), again.get_records(DIGEST, KEY)) == ({"device": "mps"}, RECORDS)
    assert list(again.verify()) == []
    store.commit(START, tensors(), [], {})
    assert again.stamp(digest(START)) == again.stamp("nothing") == again.stamp(DIGEST, "nothing") == {}
