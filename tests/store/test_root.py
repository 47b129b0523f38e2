"""Which folders are stores, which become one, and which are left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_samples import tree

from wisetune.errors import BadFile, StorageError, UsageError
from wisetune.store import Store


def test_a_store_says_its_format_and_refuses_a_newer_one(tmp_path: Path) -> None:
    Store(tmp_path / "s")
    assert json.loads((tmp_path / "s" / "store.json").read_text()) == {"kind": "wisetune store", "format": 1}
    (tmp_path / "s" / "store.json").write_text('{"kind": "wisetune store", "format": 2}')
    with pytest.raises(UsageError, match=r"format 2.*reads format 1.*pip install -U wisetune"):
        Store(tmp_path / "s")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"kind": "other", "format": 1}', '{"kind": "wisetune store", "format": "1"}', "\xff"]
)
def test_a_damaged_version_file_is_not_guessed_at(text: str, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadFile, match=r"store\.json: it does not say which format"):
        Store(tmp_path)
    assert (tmp_path / "store.json").read_text(encoding="latin-1") == text


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).write_text(name)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"holds other files \(a\.txt, b\.txt, c\.txt and 1 more\) and no wisetune store"):
        Store(tmp_path)
    assert tree(tmp_path) == before
    with pytest.raises(UsageError, match="is a file"):
        Store(tmp_path / "a.txt")
    with pytest.raises(StorageError, match="cannot be"):
        Store(tmp_path / "a.txt" / "store")


def test_a_folder_in_which_a_store_was_being_made_becomes_one(tmp_path: Path) -> None:
    (tmp_path / f".wisetune-{'0' * 8}-1-{'0' * 12}.tmp").write_text('{"kind"')
    Store(tmp_path)
    assert Store(tmp_path, create=False).list() == ()


def test_looking_into_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no wisetune store at"):
        Store(tmp_path / "nowhere", create=False)
    assert list(tmp_path.iterdir()) == []
