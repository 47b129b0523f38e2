from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import pytest

from wisetune.recipe import Mix, Recipe, Start, Tune, describe, digest, parents, to_json, walk
from wisetune.spec import Spec


@dataclasses.dataclass(frozen=True)
class Toy(Spec):
    name: ClassVar[str] = "toy"

    size: int = 3
    rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Line(Spec):
    name: ClassVar[str] = "line"

    alpha: float = 0.5


START = Start(Toy(), "random:0")
FT = Tune(START, Toy(4), Toy(5), "0123456789abcdef", Toy(6), 7)
MIX = Mix((START, FT), Line(), "0123456789abcdef")
PROBED = Tune(MIX, Toy(8), Toy(9), "0123456789abcdef", Toy(10))


def test_digests_do_not_change():
    # These name weights in stores that people have. If one changes, old stores are of no use, and FORMAT has to rise with it.
    assert {name: digest(node) for name, node in {"start": START, "ft": FT, "mix": MIX, "probed": PROBED}.items()} == {
        "start": "a4e7ae17c55d375c",
        "ft": "77fa6c442d53b042",
        "mix": "98f49bb815b3471e",
        "probed": "f75bcf29d2c51c15",
    }


def changed(node: Recipe) -> list[Recipe]:
    """The node with one field changed at a time."""
    others = {
        "weights": "random:1",
        "task": "fedcba9876543210",
        "seed": 99,
        "head_from": "start",
        "start": Start(Toy(), "x"),
        "parts": (FT, START),
    }
    return [dataclasses.replace(node, **{field.name: others.get(field.name, Toy(1, 0.25))}) for field in dataclasses.fields(node)]


@pytest.mark.parametrize("node", [START, FT, MIX], ids=["start", "tune", "mix"])
def test_every_field_of_a_node_enters_its_digest(node):
    digests = [digest(other) for other in [node, *changed(node)]]
    assert len(set(digests)) == 1 + len(dataclasses.fields(node))


def test_what_changes_deep_in_a_tree_changes_the_digests_above_it():
    assert (
        len({digest(dataclasses.replace(PROBED, start=dataclasses.replace(MIX, parts=(START, other)))) for other in [FT, *changed(FT)]})
        == 8
    )


def test_the_order_of_parts_and_none_in_place_of_a_task_matter():
    assert digest(MIX) != digest(dataclasses.replace(MIX, parts=(FT, START)))
    assert digest(MIX) != digest(dataclasses.replace(MIX, task=None))


def test_a_digest_is_sixteen_hex_digits_whatever_tree_it_is_of():
    for node in walk(PROBED):
        assert len(digest(node)) == 16
        assert set(digest(node)) <= set("0123456789abcdef")


def test_a_tree_as_json_holds_every_option_and_can_be_written():
    written = json.loads(json.dumps(to_json(PROBED)))
    assert written == to_json(PROBED)
    assert written["start"]["node"] == "mix"
    assert written["start"]["parts"][1]["tuning"] == {"spec": "toy", "size": 4, "rate": "0.1"}
    assert written["start"]["parts"][1]["head_from"] == "fresh"


def test_a_walk_gives_each_node_once_and_parents_first():
    soup = Mix((FT, PROBED, MIX, FT), Toy())
    order = list(walk(soup))
    assert len(order) == len(set(order)) == 5
    assert order[-1] == soup
    for node in order:
        assert all(order.index(parent) < order.index(node) for parent in parents(node))


def test_equal_trees_built_apart_are_one():
    again = Tune(Start(Toy(), "random:0"), Toy(4), Toy(5), "0123456789abcdef", Toy(6), 7)
    assert again == FT
    assert digest(again) == digest(FT)
    assert list(walk(Mix((FT, again), Line()))) == [START, FT, Mix((FT, FT), Line())]


def test_a_tree_is_described_in_one_line():
    assert describe(PROBED) == "toy:size=8(line(toy#random:0, toy:size=4(toy#random:0)))"
