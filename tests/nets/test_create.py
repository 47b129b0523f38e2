from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from net_samples import TINY, TINY_OPTIONS, cloud, same_state
from wisetune.errors import UsageError
from wisetune.nets.create import BACKBONES, class_names, create, fresh_backbone, fresh_head, named, parse_any_head, parse_backbone
from wisetune.nets.families.point_mae import PRESETS, PointMAE, PointMAESpec
from wisetune.nets.heads import LinearHead, Mlp3Head, parse_head
from wisetune.nets.readout import readout
from wisetune.runtime import seed_of


def test_the_catalog_holds_backbones_and_no_machinery():
    assert "point-mae" in BACKBONES.names()
    for name in BACKBONES.names():
        assert BACKBONES.entry(name).name == name  # a new module of machinery that the catalog was not told of fails here


def test_the_example_of_the_docstring():
    model = create("point-mae", preset="modelnet-1k", classes=40, reading="as_published")
    assert not model.training
    assert model.backbone.spec == PointMAESpec(reading="as_published")
    assert isinstance(model.backbone, PointMAE)
    assert model.backbone.sampling == "pointnet2"
    assert model.head_spec == Mlp3Head()
    assert model.classes == tuple(map(str, range(40)))
    with torch.no_grad():
        points = cloud(0, 2, 1024)
        assert model(points).shape == (2, 40)
        assert model.features(points).shape == (2, 768)


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name in BACKBONES.names() for preset in BACKBONES.entry(name).presets()])
def test_every_preset(name, preset):
    chosen = BACKBONES.entry(name).presets()[preset]
    pyramid = {"depths": [1, 1, 1], "widths": [8, 12, 24]}
    small = {"heads": 2, "tokenizer": [4, 6, 8], **(pyramid if name == "point-m2ae" else {"depth": 1, "width": 24})}
    model = create(name, preset=preset, classes=None if chosen.classes else 3, **small)
    assert model.classes == class_names(chosen.classes or 3)
    assert model.head_spec == parse_any_head(chosen.head)
    assert (model.backbone.spec.groups, model.backbone.points) == (chosen.backbone.groups, chosen.backbone.points)


def test_a_preset_as_a_tuning_s_is_spelled_is_told_its_own_spelling():
    with pytest.raises(UsageError, match=r"a preset is named in one word, 'point-mae-mini', without options\.$"):
        parse_backbone("point-mae:preset=mini")
    with pytest.raises(UsageError, match=r"'point-mae-scanobjectn', without options\. Did you mean 'point-mae-scanobjectnn'\?"):
        parse_backbone("point-mae:width=96,preset=scanobjectn")


def test_one_word_names_a_preset():
    model = create("point-mae-mini", classes=["bolt", "nut"])
    assert model.backbone.spec == PRESETS["mini"].backbone
    assert model.classes == ("bolt", "nut")
    assert parse_backbone("point-mae-mini") == PRESETS["mini"].backbone
    assert parse_backbone(str(TINY)) == TINY
    assert parse_backbone(TINY.in_full()) == TINY
    assert set(named()) == {f"{name}-{preset}" for name in BACKBONES.names() for preset in BACKBONES.entry(name).presets()}


def test_a_spec_string_and_keywords_are_the_same():
    spelled = create("point-mae:points=64,groups=8,group-size=8,width=16,depth=2,heads=2,tokenizer=6+8+10", classes=3)
    assert same_state(spelled, create("point-mae", classes=3, **TINY_OPTIONS))


def test_the_reading_of_a_spec_string_holds_unless_another_is_given():
    text = "point-mae:points=64,groups=8,group-size=8,width=16,depth=1,heads=2,tokenizer=6+8+10,reading=as_published"
    assert create(text, classes=2).backbone.spec.reading == "as_published"
    assert create(text, classes=2, reading="as_intended").backbone.spec.reading == "as_intended"


def test_weights_are_a_pure_function_of_the_seed():
    state = torch.get_rng_state()
    first = create("point-mae", classes=3, seed=5, **TINY_OPTIONS)
    torch.rand(7)
    torch.manual_seed(99)
    again = create("point-mae", classes=3, seed=5, **TINY_OPTIONS)
    other = create("point-mae", classes=3, seed=6, **TINY_OPTIONS)
    assert same_state(first, again)
    assert not torch.equal(first.state_dict()["pos_embed.0.weight"], other.state_dict()["pos_embed.0.weight"])
    torch.set_rng_state(state)
    before = torch.rand(3)
    torch.set_rng_state(state)
    create("point-mae", classes=3, seed=5, **TINY_OPTIONS)
    assert torch.equal(torch.rand(3), before)


def test_without_classes_it_gives_features_alone():
    model, points = create("point-mae", seed=5, **TINY_OPTIONS), cloud(0, 2, 64)
    assert same_state(model.backbone, fresh_backbone(TINY, 5))
    with torch.no_grad():
        features = model.features(points)
        assert torch.equal(features, create("point-mae", classes=3, seed=5, **TINY_OPTIONS).features(points))
        assert torch.equal(features, model.backbone.features(points)), "so has what wisetune.resolve loads"
        assert create("recon", preset="svm", depth=1).features(cloud(0, 1, 1024)).shape == (1, 768)
    with pytest.raises(UsageError, match=r"this model has no head.*model.features\(points\)"):
        model(points)


def test_the_backbone_does_not_depend_on_the_head():
    few, many = create("point-mae", classes=3, **TINY_OPTIONS), create("point-mae", classes=7, head="linear", **TINY_OPTIONS)
    assert same_state(few.backbone, many.backbone)
    assert same_state(few.backbone, fresh_backbone(TINY, 0))
    assert same_state(many.head, fresh_head(LinearHead(), few.backbone, 7, 0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, "head"))  # each part has its own stream, the one that a tuning draws its head from
        assert same_state(many.head, LinearHead().build(32, 7))


def test_a_default_device_does_not_move_fresh_weights():
    with torch.device("meta"):
        model = create("point-mae", classes=3, **TINY_OPTIONS)
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}
    assert same_state(model, create("point-mae", classes=3, **TINY_OPTIONS))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "point-mea",
            {"classes": 2},
            r"no backbone 'point-mea'. Did you mean 'point-mae'\? wisetune options backbone lists them all, .* of one\.$",
        ),
        (
            "point-mae",
            {"preset": "modelnet1k"},
            r"no preset 'modelnet1k'. Did you mean 'modelnet-1k'\? There are: modelnet-1k, modelnet-8k",
        ),
        (
            "point-mae",
            {"preset": "svm"},
            r"no preset 'svm'. Its authors did no experiment with a linear SVM.*preset='pretrain' gives maximum",
        ),
        ("nothing", {"preset": "mini"}, "no backbone 'nothing'. There are: .*point-mae"),
        ("point-mae-mini", {"preset": "scanobjectnn"}, "'point-mae-mini' names a preset already, .* give 'point-mae' and one preset"),
        ("point-mae:depth=2", {"preset": "mini", "classes": 2}, "beside preset='mini'"),
        ("point-mae", {"head": "linear"}, "needs classes=.*leave head= out too"),
        ("point-mae", {"preset": "mini", "head": "linear"}, "needs classes="),
        ("point-mae", {"classes": {"chair": ["seat"]}}, "classes name the parts of 1 categories, and 'mlp3' is a head of classes"),
        ("point-mae", {"classes": {"chair": 2}, "head": "parts"}, "has of each, by name, the names of its parts"),
        ("point-mae", {"classes": {}, "head": "parts"}, "has of each, by name, the names of its parts"),
        ("point-mae", {"classes": {"a b": ["c"], "a": ["b c"]}, "head": "parts:categories=2"}, "classes name 'a b c' more than once"),
        (
            "point-mae",
            {"classes": {"chair": ["seat"]}, "head": "parts", "preset": "mini"},
            "classes name 1 categories, and the head 'parts' knows 16. Give it categories=1",
        ),
        ("point-mae", {"classes": 2, "widht": 3}, r"no option 'widht'. Did you mean 'width'\? Options: points, groups"),
        ("point-mae", {"classes": 2, "head": "mlp4"}, "no head 'mlp4'. There are: linear, mlp1, mlp2, mlp3"),
        (
            "point-mae",
            {"classes": 2, "reading": "published"},
            "option 'reading' of 'point-mae' is 'published'; it can be as_intended, as_published",
        ),
        ("point-mae", {"classes": 2, "initial": "zeros"}, "option 'initial' of 'point-mae' is 'zeros'; it can be published, fan-in"),
        ("point-mae", {"classes": 0}, "classes=0"),
        ("point-mae", {"classes": True}, "classes=True"),
        ("point-mae", {"classes": "ab"}, "classes='ab'"),
        ("point-mae", {"classes": 2.5}, "classes=2.5; it must be a number or a list"),
        (40, {"classes": 2}, "create was given name=40; it takes a word, such as wisetune.create"),
        ("point-mae", {"classes": 2, "preset": 4}, "create was given preset=4"),
        ("point-mae", {"classes": 2, "head": 3}, "create was given head=3"),
        ("point-mae", {"classes": ["a", ""]}, "not empty"),
        ("point-mae", {"classes": ["a", "b", "a"]}, "'a' more than once"),
        ("point-mae", {"classes": 2, "width": "384"}, "option 'width' of 'point-mae' is 384; it must be a whole number"),
        ("point-mae", {"classes": 2, "width": 10**9}, "at least 1 and at most 8192"),
        ("point-mae", {"classes": 2, "depth": 10**9}, "at least 1 and at most 256"),
        ("point-mae", {"classes": 2, "depth": True}, "'depth' of 'point-mae' is true"),
        ("point-mae", {"classes": 2, "groups": 0}, "'groups' of 'point-mae' is 0"),
        ("point-mae", {"classes": 2, "heads": 5}, "the width must be a multiple of the heads"),
        ("point-mae", {"classes": 2, "points": 32}, "give clouds more points"),
        ("point-mae", {"classes": 2, "tokenizer": (8, 8)}, "three widths"),
        ("point-mae", {"classes": 2, "tokenizer": (8, 8, -1)}, r"'tokenizer' of 'point-mae' is 8\+8\+-1; each must be"),
        ("point-mae", {"classes": 2, "drop_path": 1.0}, "option 'drop-path' of 'point-mae' is 1.0"),
        ("point-mae", {"classes": 2, "drop_path": "x"}, "option 'drop-path' of 'point-mae' is x"),
        ("point-mae", {"classes": 2, "readout": "mean"}, "no readout 'mean'. There are: lead, lead.max, leads.max, max.mean"),
        (
            "point-mae",
            {"classes": 2, "class_token": False},
            "looks at a class token, and this backbone has none. Without one there are: max.mean, mean.max, total",
        ),
        ("point-mae", {"classes": 2, "head": "mlp3:hidden=1000000000"}, "at least 1 and at most 8192"),
        ("point-mae", {"classes": 2, "head": "mlp3:dropout=1"}, "'dropout' of 'mlp3' is 1.0"),
    ],
)
def test_mistakes_are_named(name, options, says):
    with pytest.raises(UsageError, match=says):
        create(name, **options)


def test_class_names():
    assert class_names(3) == ("0", "1", "2")
    assert class_names(["b", "a"]) == ("b", "a")


def test_heads_and_readouts_by_name():
    assert parse_head("mlp3:dropout=0.1") == Mlp3Head(dropout=0.1)
    assert [name for name, _ in Mlp3Head(hidden=4).build(6, 2).named_parameters()][-1] == "8.bias"
    assert LinearHead().build(6, 2).weight.shape == (2, 6)
    with pytest.raises(UsageError, match="no readout"):
        readout("cls", 1)


@pytest.mark.parametrize("asked", [{"name": "occo"}, {"name": "occo", "preset": "modelnet-1k"}, {"name": "occo-modelnet-1k"}])
def test_occo_says_that_nothing_was_released(asked):
    with pytest.raises(UsageError, match="were never released"):
        create(classes=3, **asked)


def test_a_backbone_that_is_not_used_is_not_imported():
    asked = ('"point-mae-mini", classes=2', '"point-mae", preset="mini", classes=2', '"point-mae:width=48,heads=2", classes=2')
    script = f"import sys, wisetune; {'; '.join(f'wisetune.create({words})' for words in asked)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {f"wisetune.nets.families.{name.replace('-', '_')}" for name in BACKBONES.names()} & set(loaded) == {
        "wisetune.nets.families.point_mae"
    }
