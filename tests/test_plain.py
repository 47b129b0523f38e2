from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pytest

from wisetune.plain import BESIDE, from_plain, to_plain


class Known(TypedDict, total=False):
    level: int


@dataclasses.dataclass(frozen=True)
class Inner:
    word: Literal["a", "b"]
    size: float | None = None


class Pair(NamedTuple):
    left: str
    right: float | None = None


@dataclasses.dataclass(frozen=True)
class Couple:
    pair: Pair | None


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    good: bool
    counts: dict[str, list[int]]
    free: Annotated[dict[str, Any], Known]
    maybe: Inner | None
    inner: Inner = dataclasses.field(metadata=BESIDE)


GOOD = {
    "name": "x",
    "good": True,
    "counts": {"one": [1, 2]},
    "free": {"level": 3, "else": [None]},
    "maybe": {"word": "b", "size": 1},
    "word": "a",
    "size": None,
}


def test_what_was_written_is_read():
    assert from_plain(Outer, GOOD) == Outer("x", True, {"one": [1, 2]}, {"level": 3, "else": [None]}, Inner("b", 1), Inner("a"))
    assert from_plain(Outer, GOOD | {"maybe": None}).maybe is None


def test_a_named_tuple_is_written_by_its_names_and_read_whole():
    plain = {"pair": {"left": "a", "right": None}}
    assert to_plain(Couple(Pair("a"))) == plain
    assert json.loads(json.dumps(plain)) == plain
    read = from_plain(Couple, plain)
    assert read == Couple(Pair("a"))
    assert isinstance(read.pair, Pair)
    with pytest.raises(ValueError, match="pair has no 'right'"):
        from_plain(Couple, {"pair": {"left": "a"}})
    with pytest.raises(ValueError, match='pair is "a", and must be an object'):
        from_plain(Couple, {"pair": "a"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": 3}, "name is 3, and must be text"),
        ({"good": 1}, "good is 1, and must be true or false"),
        ({"counts": []}, "counts is [], and must be an object"),
        ({"counts": {"one": 1}}, "counts.one is 1, and must be a list"),
        ({"counts": {"one": [1, "2"]}}, 'counts.one[1] is "2", and must be a whole number'),
        ({"counts": {"one": [True]}}, "counts.one[0] is true, and must be a whole number"),
        ({"counts": {"one": [1.5]}}, "counts.one[0] is 1.5, and must be a whole number"),
        ({"free": {"level": None}}, "free.level is null, and must be a whole number"),
        ({"maybe": "b"}, 'maybe is "b", and must be an object'),
        ({"maybe": {"size": 1}}, "maybe has no 'word'"),
        ({"maybe": {"word": ["b"], "size": 1}}, 'maybe.word is ["b"], and must be one of "a", "b"'),
        ({"maybe": {"word": "b", "size": 1, "more": 2}}, "maybe has 'more', which is not a part of it"),
        ({"size": "0"}, 'size is "0", and must be a number'),
        ({"size": False}, "size is false, and must be a number"),
        ({"more": 1}, "it has 'more', which is not a part of it"),
        ({"name": {"long": "x" * 99}}, f'name is {{"long": "{"x" * 30}, and must be text'),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changed, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared as a whole
        from_plain(Outer, GOOD | changed)
    assert str(caught.value) == said


def test_a_dataclass_beside_others_survives_its_plain_values():
    value = from_plain(Outer, GOOD)
    assert to_plain(value) == GOOD
    assert list(to_plain(value)) == list(GOOD)
    assert to_plain({"a": [value.inner, (value.inner,)]}) == {"a": [{"word": "a", "size": None}, ({"word": "a", "size": None},)]}


def test_a_field_with_a_default_may_be_absent():
    without = {key: value for key, value in GOOD.items() if key != "size"} | {"maybe": {"word": "b"}}
    assert from_plain(Outer, without) == Outer("x", True, {"one": [1, 2]}, {"level": 3, "else": [None]}, Inner("b"), Inner("a"))


@pytest.mark.parametrize("name", [name for name in GOOD if name != "size"])
def test_every_field_without_a_default_must_be_there(name):
    with pytest.raises(ValueError, match=f"it has no '{name}'"):
        from_plain(Outer, {key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("values", [None, [], "x", 3, json.loads("[{}]")])
def test_only_an_object_has_fields(values):
    with pytest.raises(ValueError, match=r"it is .*, and must be an object"):
        from_plain(Outer, values)
