"""Which tunings of which model are put side by side."""

from __future__ import annotations

import dataclasses

import pytest

import pico
from my_tunings import Adapter
from wisetune.build.memory import compare_memory, memory_of
from wisetune.errors import UsageError
from wisetune.measure.training_memory import training_memory
from wisetune.nets.create import headed, parse_any_head
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.tune.tunings import TUNINGS

PICO = str(pico.SPEC)


def plain_model() -> Model:
    return Model(pico.backbone(), LinearHead().build(32, 3), LinearHead(), ("a", "b", "c")).eval()


def test_what_a_tuning_grafts_counts_and_the_model_stays_without_it():
    model = plain_model()
    before = pico.bits(model.state_dict())
    found = memory_of(Adapter(), model, 4)
    assert pico.bits(model.state_dict()) == before
    assert model.backbone.grafts == ()
    each = 2 * 16 * 2 + 2 + 16
    assert found.trainable == 2 * each + 33 * 3
    assert found.weights > memory_of(Linear(), model, 4).weights
    Adapter().graft_into(model)
    chosen = Adapter().freeze(model)
    assert found == training_memory(model, chosen, 4, in_training=Adapter().in_training(model))


def test_full_fine_tuning_stands_first_and_each_once():
    found = compare_memory(["linear", "my_tunings:Adapter:rank=3", "full", "linear"], PICO, batch=4, classes=3)
    assert list(found.memory) == ["full", "linear", "my_tunings:Adapter:rank=3"]
    assert found.full is found.memory["full"]
    assert found.full.peak > found.memory["linear"].peak
    assert (found.points, found.head, found.classes, found.batch, found.left_out) == (64, "mlp3", 3, 4, {})
    assert found.against_full(found.full) == 0
    assert found.against_full(found.memory["linear"]) == found.memory["linear"].peak / found.full.peak - 1


def test_all_is_the_whole_catalog_and_what_is_asked_for_beside_it():
    found = compare_memory(["all", "my_tunings:Adapter"], PICO, batch=4)
    assert {*found.memory, *found.left_out} == {*(str(TUNINGS.parse(name)) for name in TUNINGS.names()), "my_tunings:Adapter"}
    assert found.classes == 40


def test_of_a_classifier_all_leaves_out_what_was_made_for_parts_unless_it_was_asked_for():
    found = compare_memory(["all"], PICO, batch=4)
    assert found.left_out["idpt-parts"] == "it was made for part segmentation, and 'mlp3' is a head of classes"
    assert "idpt-parts" in compare_memory(["all", "idpt-parts"], PICO, batch=4).memory


def test_part_segmentation_is_counted_as_a_classifier_is():
    head = parse_any_head("parts:categories=3")
    found = compare_memory(["all"], PICO, batch=4, classes=5, head=str(head))
    assert (found.head, found.classes, found.parts) == ("parts:categories=3", 5, True)
    assert all("at most 16" in why for why in found.left_out.values())  # these blocks are narrow
    model = headed(pico.backbone(), head, tuple("abcde"), 0)
    assert found.full == training_memory(model, Full().trained(model), 4)
    # Of each level the prompt as made and as it came out, in place of maximum and mean; a map and its norm a level, and one position.
    idpt, linear = found.memory["idpt-parts"], found.memory["linear"]
    levels = len(set(model.backbone.anatomy.stages[0].read))
    assert idpt.trainable == linear.trainable + levels * (16 * 16 + 2 * 16) + 16
    assert idpt.held > linear.held


def test_the_official_count_of_idpt_for_parts():
    """As released, but for a norm a prompt that is registered and never called, 2,304 values in all."""
    found = compare_memory(["idpt-parts"], "point-mae-shapenetpart", batch=2)
    assert (found.head, found.classes) == ("parts", 50)
    assert found.memory["idpt-parts"].trainable == 5_686_066 - 2_304


def test_what_a_backbone_refuses_is_left_out_with_the_reason_unless_it_was_asked_for():
    found = compare_memory(["all"], PICO, batch=4)
    why = "'adaptformer' has rank=64, and blocks.blocks.0 is 16 wide"
    assert found.left_out["adaptformer"].startswith(why)
    assert "adaptformer" not in found.memory
    for methods in (["adaptformer"], ["all", "adaptformer"], ["adaptformer", "all"]):
        with pytest.raises(UsageError, match=why):
            compare_memory(methods, PICO, batch=4)


def test_a_preset_knows_its_head_and_classes_unless_others_are_given():
    found = compare_memory(["full"], "point-bert-scanobjectnn", batch=2)
    assert (found.head, found.classes, found.points) == ("mlp2", 40, 1024)
    found = compare_memory(["full"], "point-mae-mini", batch=2, classes=7, head="mlp3:dropout=0.1")
    assert (found.head, found.classes) == ("mlp3:dropout=0.1", 7)


def test_options_reach_the_step():
    model = plain_model()
    kept, again = (memory_of(Full(), model, 8, recompute=on) for on in (False, True))
    assert again.held < kept.held
    math = memory_of(Full(), model, 8, "math")
    assert (kept.attention, math.attention) == ("fused", "math")
    assert compare_memory(["full"], PICO, batch=8, classes=3, head="linear", attention="math").full == math


@pytest.mark.parametrize(
    ("methods", "options", "says"),
    [
        ([], {}, "no METHOD was given. There are: "),
        (["lineer"], {}, "there is no tuning 'lineer'. Did you mean 'linear'? There are: "),
        (["linear:rank=2"], {}, "'linear' has no option 'rank'"),
        (["linear"], {"backbone": "point-may"}, "--backbone: there is no backbone 'point-may'. Did you mean 'point-mae'?"),
        (["linear"], {"batch": 0}, "--batch is 0; a training step takes at least 2 clouds"),
        (["linear"], {"batch": 1}, "--batch is 1; a training step takes at least 2 clouds"),
        (["linear"], {"batch": 1 << 20}, "--batch is 1,048,576; at most 65,536 clouds"),
        (["linear"], {"classes": 0}, "--classes: classes=0; it must be a whole number from 1"),
        (["linear"], {"head": "mlp4"}, "--head: there is no head 'mlp4'"),
        (["my_tunings:Reading"], {}, "'my_tunings:Reading' reads values while it grafts"),
        (["my_tunings:Peeking"], {}, "'my_tunings:Peeking' reads values while it runs (Tensor.item() cannot be called on meta tensors)"),
    ],
)
def test_what_does_not_fit_is_said_in_words(methods, options, says):
    with pytest.raises(UsageError) as refused:
        compare_memory(methods, **{"backbone": PICO, "batch": 4} | options)
    assert says in str(refused.value)


def test_every_number_is_in_the_json():
    found = compare_memory(["linear"], PICO, batch=4, classes=3)
    told = found.to_json()
    assert [row["tuning"] for row in told["tunings"]] == ["full", "linear"]
    for row, one in zip(told["tunings"], found.memory.values(), strict=True):
        for field in dataclasses.fields(one):
            assert field.name in ("batch", "attention") or row[field.name] == getattr(one, field.name)
        assert row["saved_a_cloud"] == round(one.saved)
    assert told["tunings"][0]["peak_against_full"] == 0
    assert (told["batch"], told["classes"], told["attention"], told["recompute"]) == (4, 3, "fused", False)
