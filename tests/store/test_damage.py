"""Every changed bit is noticed, said, and mended by building again or by going on from the state before."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_samples import DIGEST, EXTRA, KEY, LOG, RECIPE, RECORDS, damage, tensors, tree
from test_store import assert_same_bits

from wisetune.store import Store
from wisetune.store.sealed import Damaged, seal, unseal


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def store(ram: Path, told: list[str]) -> Store:
    """One of each thing: an object, a training with two states, records."""
    store = Store(ram / "store", tell=told.append)
    store.commit(RECIPE, tensors(), LOG, EXTRA)
    store.put_records(DIGEST, KEY, RECORDS)
    for step in (1, 2):
        store.save_state("training", tensors(step), {"step": step})
    return store


def files(store: Store) -> list[Path]:
    found = [path for path in sorted(store.root.rglob("*")) if path.is_file() and path.name != "store.json"]
    assert len(found) == 4 + 1 + 2 * 2
    return found


def changes(data: bytes, stride: int) -> Iterator[bytes]:
    """The data with one bit flipped, at every ``stride``-th byte; cut off at many lengths; with something added."""
    for at in range(0, len(data), stride):
        yield data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
    yield from (data[:length] for length in range(0, len(data), 10 * stride))
    yield from (data + b"\0", data + b"\n", b" " + data, b"\0" * len(data))


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_changed_byte_of_every_file_is_noticed(stride: int, store: Store) -> None:
    assert list(store.verify()) == []
    before = tree(store.root)
    tried = 0
    for path in files(store):
        data = path.read_bytes()
        for changed in changes(data, stride):
            path.write_bytes(changed)
            (problem,) = store.verify()
            assert problem.path in (path, path.parent)
            tried += 1
        path.unlink()
        # A missing file of an object or state is damage; missing records are only missing.
        assert [problem.path for problem in store.verify()] == ([] if "records" in str(path) else [path.parent])
        path.write_bytes(data)
    assert tried > 2500 / stride
    assert tree(store.root) == before, "verify changes nothing"


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("file", ["weights.safetensors", "recipe.json", "log.jsonl", "manifest.json"])
@pytest.mark.parametrize("how", [damage, Path.unlink, empty, make_folder])
def test_a_damaged_object_is_moved_aside_and_built_again(file: str, how: Callable[[Path], None], store: Store, told: list[str]) -> None:
    before = tree(store.root)
    how(store.root / "objects" / DIGEST / file)
    assert store.load(DIGEST) is None
    (line,) = told
    (aside,) = (store.root / "quarantine").iterdir()
    assert DIGEST in line
    assert file in line or file == "manifest.json"
    assert str(aside) in line
    assert not store.has(DIGEST)
    assert store.commit(RECIPE, tensors(), LOG, EXTRA)
    assert store.load(DIGEST) is not None
    assert tree(store.root) == before
    assert len(told) == 1


@pytest.mark.parametrize("broken", ["damaged", "empty folder", "a file"])
def test_a_commit_replaces_a_broken_object(broken: str, store: Store, told: list[str]) -> None:
    folder = store.root / "objects" / DIGEST
    if broken == "damaged":
        damage(folder / "log.jsonl")
    else:
        shutil.rmtree(folder)
        folder.mkdir() if broken == "empty folder" else folder.write_text("?")
    assert store.commit(RECIPE, tensors(5), LOG, EXTRA)
    stored = store.load(DIGEST)
    assert stored is not None
    assert_same_bits(stored.tensors, tensors(5))
    assert len(told) == (broken != "empty folder")


def test_an_object_under_another_name_is_not_taken_for_it(store: Store, told: list[str]) -> None:
    shutil.copytree(store.root / "objects" / DIGEST, store.root / "objects" / "0123456789abcdef")
    assert store.load("0123456789abcdef") is None
    assert DIGEST in told[0]
    assert store.load(DIGEST) is not None


@pytest.mark.parametrize("file", ["state.safetensors", "manifest.json"])
def test_a_damaged_state_falls_back_to_the_one_before_and_then_to_the_start(file: str, store: Store, told: list[str]) -> None:
    older, newer = sorted((store.root / "states" / "training").iterdir())
    damage(newer / file)
    found = store.load_state("training")
    assert found is not None
    assert_same_bits(found[0], tensors(1))
    assert found[1] == {"step": 1}
    assert "the one before it is used" in told[-1]
    assert not newer.exists()
    damage(older / file)
    assert store.load_state("training") is None
    assert "starts over" in told[-1]
    store.save_state("training", tensors(7), {"step": 7})
    found = store.load_state("training")
    assert found is not None
    assert found[1] == {"step": 7}
    assert len(told) == 2


def test_damaged_or_foreign_records_are_measured_again(store: Store, told: list[str]) -> None:
    path = store.root / "records" / DIGEST / f"{KEY}.json"
    shutil.copy(path, path.with_name("other.json"))
    assert store.get_records(DIGEST, "other") is None
    damage(path)
    assert store.get_records(DIGEST, KEY) is None
    assert len(told) == 2
    store.put_records(DIGEST, KEY, RECORDS)
    assert store.get_records(DIGEST, KEY) == RECORDS
    path.write_bytes(seal({"weights": DIGEST, "key": KEY, "records": [{"fields": "of another version"}]}))
    assert store.get_records(DIGEST, KEY) is None
    assert "version" in told[-1]


def test_a_listing_leaves_damaged_ones_out(store: Store) -> None:
    assert len(store.list()) == 1
    damage(store.root / "objects" / DIGEST / "manifest.json")
    assert store.list() == ()


def test_damage_is_logged_by_default(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    damage(store.root / "objects" / DIGEST / "log.jsonl")
    with caplog.at_level(logging.WARNING):
        assert Store(store.root).load(DIGEST) is None
    assert "log.jsonl does not match its checksum" in caplog.text


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b'{"sha256": "0"}', b'{"a": 1}\n'])
def test_only_what_was_sealed_is_unsealed(data: bytes) -> None:
    with pytest.raises(Damaged):
        unseal(data)
    assert unseal(seal({"a": [1, 2.5, None, "ü"]})) == {"a": [1, 2.5, None, "ü"]}
