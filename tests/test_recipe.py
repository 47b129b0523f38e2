from __future__ import annotations

import dataclasses
import json
from typing import ClassVar

import pytest

from wisetune.fit.fit import Fit
from wisetune.keep.ewc import Ewc
from wisetune.keep.l2_sp import L2Sp
from wisetune.nets.families.point_mae import PointMAESpec
from wisetune.nets.heads import LinearHead, Mlp3Head
from wisetune.recipe import Mix, Recipe, Start, Tune, describe, digest, in_words, made_in_words, parents, to_json, tree_in_words, walk
from wisetune.spec import Spec, option
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.weights.wise import Wise


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
TOY = "test_recipe:Toy"
"""Outside wisetune a spec is called by its module and class, in files too."""
PROBED = Tune(MIX, Toy(8), Toy(9), "0123456789abcdef", Toy(10))


def test_digests_do_not_change():
    # These name weights in stores that people have. If one changes, old stores are of no use, and FORMAT has to rise with it.
    start = Start(PointMAESpec(), "random:0")
    ft = Tune(start, Full(), Mlp3Head(), "0123456789abcdef", Fit(), 7)
    mix = Mix((start, ft), Wise(), "0123456789abcdef")
    probed = Tune(mix, Linear(), LinearHead(), "0123456789abcdef", Fit(augment="none"))
    assert {name: digest(node) for name, node in {"start": start, "ft": ft, "mix": mix, "probed": probed}.items()} == {
        "start": "c4c340c5711f6c2a",
        "ft": "f57dd11396b99d78",
        "mix": "3a312e451c4d7d23",
        "probed": "9e69418bb2cacd42",
    }


def later(kind, *fields):
    """The class as a later wisetune may have it: with more fields."""
    made = dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), frozen=True, namespace={"name": getattr(kind, "name", "")})
    made.__module__ = kind.__module__
    return made


def test_a_field_that_came_later_renames_nothing_at_the_value_that_means_what_was_done_before():
    fit = later(Fit, ("layer_decay", float, option(1.0, above=0, absent=1.0)))
    tune = later(Tune, ("beside", Spec | None, option(None, absent=None)))
    plain = {field.name: getattr(FT, field.name) for field in dataclasses.fields(FT)} | {"fit": Fit()}
    before = digest(Tune(**plain))
    assert digest(tune(**plain | {"fit": fit()})) == digest(tune(**plain | {"fit": fit(layer_decay=1)})) == before
    others = [tune(**plain | {"fit": fit(layer_decay=0.5)}), tune(**plain, beside=Line()), tune(**plain, beside=Toy())]
    assert len({before, *map(digest, others)}) == 4
    moved = later(Fit, ("layer_decay", float, option(0.5, above=0, absent=1.0)))
    assert digest(tune(**plain | {"fit": moved()})) == digest(others[0]), "the default may change: what absent means may not"
    assert "layer_decay" not in to_json(tune(**plain | {"fit": fit()}))["fit"]


@dataclasses.dataclass(frozen=True)
class Mine(Full):
    pass


@dataclasses.dataclass(frozen=True)
class AlsoFull(Full):
    name: ClassVar[str] = "full"


def test_a_tuning_outside_wisetune_does_not_digest_as_the_one_that_it_is_made_of():
    """Else a store would give the weights of the one for those of the other."""
    assert len({digest(dataclasses.replace(FT, tuning=tuning)) for tuning in (Full(), Mine(), AlsoFull())}) == 3


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
    assert len(
        {digest(dataclasses.replace(PROBED, start=dataclasses.replace(MIX, parts=(START, other)))) for other in [FT, *changed(FT)]}
    ) == 1 + len(dataclasses.fields(FT))


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
    assert written["start"]["parts"][1]["tuning"] == {"spec": "test_recipe:Toy", "size": 4, "rate": "0.1"}
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


def test_recipes_are_called_by_the_methods_that_they_are():
    start, head, task = Start(PointMAESpec(), "0123456789abcdef"), LinearHead(), "f" * 16
    ft = Tune(start, Full(), head, task, Fit(lr=0.001), 2)
    lp = Tune(start, Linear(), head, task, Fit(), 2)
    mix = Mix((start, ft), Wise(0.3), task)
    lp_ft = Tune(lp, Full(), head, task, Fit(lr=0.0001), 2, head_from="start")
    called = {
        start: "pre-trained point-mae#01234567",
        ft: "full fine-tuning (lr 0.001), seed 2",
        lp: "linear probing, seed 2",
        lp_ft: "LP-FT (lr 0.0001), seed 2",
        mix: "WiSE-FT at alpha 0.3, seed 2",
        Tune(mix, Linear(), head, task, Fit(), 2): "WiSE-FT-LP at alpha 0.3, seed 2",
        Tune(ft, Linear(), head, task, Fit(), 2): "WiSE-FT-LP at alpha 1, seed 2",
        Tune(lp_ft, Linear(), head, task, Fit(), 2): "linear of LP-FT (lr 0.0001), seed 2",
        Tune(Tune(mix, Linear(), head, task, Fit(), 2), Full(), head, task, Fit(lr=0.1), 2, head_from="start"): (
            "full of WiSE-FT-LP at alpha 0.3, seed 2"
        ),
        dataclasses.replace(lp_ft, head_from="fresh"): "full of linear probing, seed 2",
        Mix((start, lp_ft), Wise(0.3), task): ("wise at alpha 0.3 of pre-trained point-mae#01234567 and LP-FT (lr 0.0001), seed 2"),
        Mix((lp_ft, ft), Wise(0.3), task): "wise at alpha 0.3 of LP-FT (lr 0.0001) and full fine-tuning (lr 0.001), seed 2",
        Tune(Mix((start, lp_ft), Wise(0.3), task), Linear(), head, task, Fit(), 2): (
            "linear of wise at alpha 0.3 of pre-trained point-mae#01234567 and LP-FT (lr 0.0001), seed 2"
        ),
        PROBED: f"{TOY} of test_recipe:Line of pre-trained {TOY}#random:0 and {TOY}, seed 0",
    }
    assert {node: in_words(node) for node in called} == called
    assert {node: in_words(to_json(node)) for node in called} == called, "of the form in files too"


def test_a_training_without_a_penalty_is_called_stored_and_described_as_before_there_were_any():
    assert "keep" not in to_json(FT)
    assert to_json(dataclasses.replace(FT, keep=L2Sp()))["keep"] == {"spec": "l2-sp", "weight": "1.0", "head": True}
    assert digest(dataclasses.replace(FT, keep=L2Sp())) != digest(dataclasses.replace(FT, keep=L2Sp(2.0))) != digest(FT)


def test_a_penalty_is_said_of_what_it_held():
    start, head, task = Start(PointMAESpec(), "0123456789abcdef"), LinearHead(), "f" * 16
    ft = Tune(start, Full(), head, task, Fit(lr=0.001), 2, keep=Ewc(10.0))
    lp = Tune(start, Linear(), head, task, Fit(), 2)
    mix = Mix((start, ft), Wise(0.3), task)
    called = {
        ft: "full fine-tuning (lr 0.001) with ewc of weight 10, seed 2",
        mix: "WiSE-FT at alpha 0.3 with ewc of weight 10, seed 2",
        Tune(mix, Linear(), head, task, Fit(), 2): "WiSE-FT-LP at alpha 0.3 with ewc of weight 10, seed 2",
        Tune(ft, Linear(), head, task, Fit(), 2): "WiSE-FT-LP at alpha 1 with ewc of weight 10, seed 2",
        Tune(
            lp, Full(), head, task, Fit(lr=0.1), 2, head_from="start", keep=L2Sp(0.01)
        ): "LP-FT (lr 0.1) with l2-sp of weight 0.01, seed 2",
        Tune(lp, Linear(), head, task, Fit(), 2, keep=L2Sp()): "linear with l2-sp of weight 1 of linear probing, seed 2",
        dataclasses.replace(FT, keep=Toy()): f"{TOY} with {TOY}, seed 7",
    }
    assert {node: in_words(node) for node in called} == called
    assert describe(mix) == "wise:alpha=0.3(point-mae#01234567, full[keep=ewc:weight=10.0](point-mae#01234567))"
    assert made_in_words(to_json(ft)) == "everything trained from the pre-trained weights with ewc of weight 10: 20 epochs, lr 0.001"
    assert made_in_words(to_json(mix)) == "0.7 x the pre-trained weights + 0.3 x full fine-tuning (lr 0.001) with ewc of weight 10"
    assert next(tree_in_words(to_json(ft))).endswith(
        f", seed 2, on data {task}; penalty ewc: weight 10.0, fisher true, fisher-batch None, half True, head True, items 300, labels 0"
    )


def test_how_weights_were_made_is_one_line():
    start, head, task = Start(PointMAESpec(), "0123456789abcdef"), LinearHead(), "f" * 16
    ft = Tune(start, Full(), head, task, Fit(lr=0.001, epochs=8), 2)
    mix = Mix((start, ft), Wise(0.3), task)
    made = {
        start: "what everything begins with",
        ft: "everything trained from the pre-trained weights: 8 epochs, lr 0.001",
        mix: "0.7 x the pre-trained weights + 0.3 x full fine-tuning (lr 0.001)",
        Tune(mix, Linear(), head, task, Fit(), 2): "a head trained on WiSE-FT at alpha 0.3: 20 epochs, lr 0.0005",
        PROBED: f"{TOY} of test_recipe:Line of pre-trained {TOY}#random:0 and {TOY}",
        Mix((START, FT), Line()): f"the pre-trained weights + {TOY}",
    }
    assert {node: made_in_words(to_json(node)) for node in made} == made


def test_a_tree_in_words_has_a_line_for_each_node():
    assert list(tree_in_words(to_json(PROBED))) == [
        f"tune {TOY} from a fresh {TOY} head: seed 0, on data 0123456789abcdef",
        "  mix test_recipe:Line at alpha 0.5, BatchNorm statistics from data 0123456789abcdef",
        f"    start: pre-trained {TOY}#random:0",
        f"    tune {TOY} from a fresh {TOY} head: seed 7, on data 0123456789abcdef",
        f"      start: pre-trained {TOY}#random:0",
    ]
