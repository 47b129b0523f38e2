"""What every part segmentation model promises, asked of every family at a small size, and of files in the official layout."""

from __future__ import annotations

import copy
import json
import pickle
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from my_tunings import Adapter
from net_samples import TINY_OPTIONS, cloud, same_state, schema
from wisetune.errors import DataError, UsageError, WeightsError
from wisetune.fit.finetune import Labelled, tune
from wisetune.fit.fit import Fit
from wisetune.measure.subject import Subject
from wisetune.nets.backbone import Backbone
from wisetune.nets.categories import part_numbers
from wisetune.nets.create import BACKBONES, class_names, create
from wisetune.nets.families.point_mae import PointMAE, PointMAESpec
from wisetune.nets.features import FeatureBank
from wisetune.nets.files.official import load_official
from wisetune.nets.files.save import load_backbone, load_model, save_model
from wisetune.nets.model import Model
from wisetune.nets.parts import Parts, PointMap, Propagation
from wisetune.nets.parts_graph import EdgeClimb
from wisetune.nets.segmenter import Segmenter
from wisetune.points.interpolate import spread_to
from wisetune.points.neighbours import gather
from wisetune.tune.linear import Linear
from wisetune.tune.saved import load_model as load_tuned

PYRAMID = {
    "points": 64,
    "groups": (8, 6, 4),
    "group_sizes": (8, 4, 4),
    "widths": (8, 12, 16),
    "depths": (1, 2, 1),
    "heads": 2,
    "tokenizer": (6, 8, 10),
    "norm": "each",
}
BARE = {**TINY_OPTIONS, "class_token": False, "readout": "max+mean"}
FAMILIES = {
    "point-mae": ("parts:categories=3", BARE),
    "act": ("parts:categories=3", BARE),
    "recon": ("parts:categories=3,leads=true", TINY_OPTIONS),
    "point-bert": ("parts-graph:categories=3,fine=20,middle=12", {**TINY_OPTIONS, "token_width": 12}),
    "point-m2ae": ("parts-pyramid:categories=3", PYRAMID),
}
OFFICIAL = {
    "point-mae": ("point_mae-pretrain", "MAE_encoder."),
    "act": ("act-pretrain", "ACT_encoder."),
    "recon": ("recon-pretrain", "MAE_encoder."),
    "point-bert": ("point_bert-pretrain", "transformer_q."),
    "point-m2ae": ("point_m2ae-pretrain", ""),
}
CATEGORY = torch.tensor([0, 2, 1, 2])


def small(family: str, seed: int = 0) -> Segmenter:
    head, options = FAMILIES[family]
    model = create(family, head=head, classes=5, seed=seed, **options)
    assert isinstance(model, Segmenter)
    return model


@pytest.fixture(params=FAMILIES)
def model(request) -> Segmenter:
    model = small(request.param)
    with torch.random.fork_rng(devices=[]):  # batch statistics that are not their initial values, as after training
        torch.manual_seed(0)
        model.train()(cloud(7, 6, 64), torch.arange(6) % 3)
    return model.eval()


@pytest.fixture
def points() -> torch.Tensor:
    return cloud(1, 4, 64)


def answer(model: Segmenter, points: torch.Tensor, category: torch.Tensor = CATEGORY) -> torch.Tensor:
    with torch.no_grad():
        return model(points, category)


def test_every_point_has_an_answer_which_depends_on_category_and_cloud(model, points):
    logits = answer(model, points)
    assert logits.shape == (4, 64, 5)
    assert not torch.allclose(logits, answer(model, points, (CATEGORY + 1) % 3), rtol=1e-3)
    assert logits.std(dim=1).min() > 1e-4
    torch.testing.assert_close(answer(model, points, F.one_hot(CATEGORY, 3)), logits)


def test_alone_and_in_a_batch(model, points):
    together = answer(model, points)
    for row in range(4):
        torch.testing.assert_close(answer(model, points[row : row + 1], CATEGORY[row : row + 1])[0], together[row], rtol=1e-5, atol=1e-5)


def test_points_in_another_order_have_the_same_answers(model, points):
    order = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(63, generator=torch.Generator().manual_seed(0)) + 1])
    torch.testing.assert_close(answer(model, points[:, order]), answer(model, points)[:, order], rtol=1e-4, atol=1e-5)


def test_groups_are_the_clouds_alone_and_may_be_cut(model, points):
    groups = model.group(points)
    for mine, theirs in zip(groups, small(model.backbone.spec.name, seed=1).group(points), strict=True):
        assert torch.equal(mine, theirs)
    with torch.no_grad():
        cut = model.answer(tuple(part[1:3] for part in groups), CATEGORY[1:3])
        torch.testing.assert_close(cut, answer(model, points)[1:3], rtol=1e-5, atol=1e-5)
        assert torch.equal(model.features(points), model.backbone.pool(model.backbone(points)))


@pytest.mark.parametrize("n", [64, 200])
def test_any_number_of_points(model, n):
    assert answer(model, cloud(2, 4, n)).shape == (4, n, 5)


def test_clouds_of_too_few_points_are_refused(model):
    fewest = model.fewest_points
    assert torch.isfinite(answer(model, cloud(2, 4, fewest))).all()
    with pytest.raises(DataError, match=f"have {fewest - 1} points; this model needs at least {fewest}"):
        model(cloud(2, 4, fewest - 1), CATEGORY)


@pytest.mark.parametrize(
    ("category", "says"),
    [
        (torch.tensor([0, 1, 2, 3]), "categories are 0 to 3; this model knows 3"),
        (torch.tensor([0, -1, 2, 1]), "categories are -1 to 2"),
        (torch.tensor([0, 1]), r"shape \[2\] for 4 clouds"),
        (torch.tensor([0.0, 1, 2, 1]), r"float32 of shape \[4\]"),
        (torch.zeros(4, 2), r"one-hot, \[4, 3\]"),
        (torch.zeros(4, 3), "rows that are not one-hot"),
        (torch.ones(4, 3, dtype=torch.long), "rows that are not one-hot"),
        (torch.tensor([[0.5, 0.5, 0]] * 4), "rows that are not one-hot"),
        (torch.tensor([[2.0, -1, 0]] * 4), "rows that are not one-hot"),
    ],
)
def test_categories_that_there_are_not_are_refused(points, category, says):
    with pytest.raises(DataError, match=says):
        small("point-mae")(points, category)


def test_a_category_may_be_named_and_one_be_given_for_all(points):
    named = create(
        "point-mae", head="parts:categories=3", classes={"Cap": ["peak"], "Mug": ["cup", "handle"], "Bag": ["body", "strap"]}, **BARE
    )
    numbered = small("point-mae")
    for model, words in ((named, ["Cap", "bag", "Mug", "BAG"]), (numbered, [0, 2, 1, 2]), (numbered, np.array([0, 2, 1, 2]))):
        assert torch.equal(answer(model, points, words), answer(numbered, points))
    assert torch.equal(answer(named, points, np.array(["Cap", "Bag", "Mug", "Bag"])), answer(numbered, points))
    for one in ("Mug", 1):
        assert torch.equal(answer(named, points, one), answer(named, points, torch.tensor([1] * 4)))
    with pytest.raises(UsageError, match=re.escape("there is no category 'Mgu'. Did you mean 'Mug'? There are: Cap, Mug, Bag.")):
        named(points, "Mgu")
    for category, says in (
        (["Cap"], "int64 of shape [1] for 4 clouds"),
        (5, "categories are 5 to 5; this model knows 3"),
        ([0.5] * 4, "categories are given as a list"),
        (object(), "categories are given as a object"),
    ):
        with pytest.raises(DataError, match=re.escape(says)):
            named(points, category)
    with pytest.raises(UsageError, match="this model knows no names of categories"):
        numbered(points, "Cap")


def test_the_parts_of_a_cloud_are_those_of_its_category(points):
    parts = {"Cap": ["peak"], "Mug": ["cup", "handle"], "Bag": ["body", "strap"]}
    model = create("point-mae", head="parts:categories=3", classes=parts, **BARE)
    assert model.classes == ("Cap peak", "Mug cup", "Mug handle", "Bag body", "Bag strap")
    assert model.parts == {"Cap": range(1), "Mug": range(1, 3), "Bag": range(3, 5)}
    logits, found = answer(model, points), model.segment(points, CATEGORY)
    assert found.shape == (4, 64)
    for row, category in enumerate(CATEGORY.tolist()):
        theirs = list(model.parts.values())[category]
        assert torch.equal(found[row], logits[row, :, theirs.start : theirs.stop].argmax(dim=-1) + theirs.start)
    assert not torch.equal(found, logits.argmax(dim=-1)), "of all parts another may be the highest"
    assert not found.requires_grad
    with pytest.raises(UsageError, match="does not know which parts are of which category"):
        small("point-mae").segment(points, CATEGORY)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_released_settings_know_the_parts_of_shapenetpart(family):
    """Numbers as in the released labels: Chair is category 4 with parts 12 to 15, Table the last."""
    preset = BACKBONES.entry(family).presets()["shapenetpart"]
    names = list(part_numbers(preset.classes))
    assert (len(names), len(class_names(preset.classes))) == (16, 50)
    assert [len(parts) for parts in preset.classes.values()] == [4, 2, 2, 4, 4, 3, 3, 2, 4, 2, 6, 2, 3, 3, 3, 3]
    assert names == sorted(names)
    assert (names[4], part_numbers(preset.classes)["Chair"]) == ("Chair", range(12, 16))
    assert class_names(preset.classes)[13] == "Chair seat"


def test_where_a_classifier_is_expected_it_is_refused_in_words(points):
    model, bank = small("point-mae"), FeatureBank(torch.device("cpu"))
    assert not isinstance(model, Model), "whatever takes one cannot be handed it unseen"
    with pytest.raises(UsageError, match=r"needs the category of each: model\(points, category\)"):
        model(points)
    for ask in (
        lambda: bank.logits(model, "w", points.numpy(), "p"),
        lambda: Subject(model, "w", "b", bank),
        lambda: tune(model, {}, Fit(), Labelled(points.numpy(), CATEGORY.numpy(), tuple("abcd"), "p"), None, 0, bank=bank),
    ):
        with pytest.raises(UsageError, match="takes a classifier, and this is a part segmentation model"):
            ask()
    assert bank.features(model, "w", points.numpy(), "p").shape == (4, 32), "they are the backbone's, and any probe may have them"


def test_the_patches_of_one_cloud_differ_by_what_is_derived_from_them(points):
    """A classifier, two heads and two precisions of one backbone, asked of one bank."""
    bank, spec = FeatureBank(torch.device("cpu")), small("point-bert").backbone.spec
    head, array = "parts-graph:categories=3,fine={},middle=12", points.numpy()
    models = [
        create(str(spec), classes=5, head="linear"),
        *(create(str(spec), classes=5, head=head.format(fine)) for fine in (20, 24)),
        create(str(spec), classes=5, head="linear").double(),
    ]
    for model in models:
        for kept, own in zip(bank.groups(model, array, "p"), model.group(points), strict=True):
            assert torch.equal(kept, own)
    again = create(str(spec), classes=7, head="mlp3", seed=3)
    assert bank.groups(again, array, "p") is bank.groups(models[0], array, "p")


def test_float64_and_meta(model, points):
    double = answer(copy.deepcopy(model).double(), points)
    assert double.dtype == torch.float64
    torch.testing.assert_close(answer(model, points).double(), double, rtol=1e-3, atol=1e-4)
    assert copy.deepcopy(model).to("meta")(points.to("meta"), CATEGORY.to("meta")).shape == (4, 64, 5)


def test_copies_and_files_are_the_same_model(model, points, tmp_path):
    wanted = answer(model, points)
    save_model(tmp_path / "w.safetensors", model)
    read = load_model(tmp_path / "w.safetensors")
    assert type(read) is Segmenter
    assert read.classes == tuple("01234")
    assert same_state(load_backbone(tmp_path / "w.safetensors"), model.backbone)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), read):
        assert same_state(other, model)
        assert torch.equal(answer(other, points), wanted)
    other = small(model.backbone.spec.name, seed=3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(answer(other, points), wanted)
    assert not any(key.startswith(("backbone.", "head.")) for key in model.state_dict())


def test_a_file_knows_the_parts_of_each_category(points, tmp_path):
    parts = {"Cap": ("peak",), "Mug": ("cup", "handle"), "Bag": ("body", "strap")}
    model = create("point-mae", head="parts:categories=3", classes=parts, **BARE)
    save_model(tmp_path / "w.safetensors", model)
    read = load_model(tmp_path / "w.safetensors")
    assert (read.categories, read.classes) == (parts, model.classes)
    assert torch.equal(read.segment(points, "Mug"), model.segment(points, "Mug"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tuning_grafts_into_it_and_trains_what_it_says(family, points, tmp_path):
    model, tuning = small(family), Adapter()
    before = answer(model, points)
    with torch.random.fork_rng(devices=[]):
        tuning.graft_into(model)
    assert not torch.allclose(answer(model, points), before)
    trained = tuning.freeze(model)
    assert {name.split(".")[0] for name in trained} == {"head", "backbone"}
    assert all(name.startswith("head.") or ".adapter." in name for name in trained)
    assert set(Linear().freeze(small(family))) == {f"head.{name}" for name, _ in model.head.named_parameters()}
    tuning.freeze(model.train())
    model(points, CATEGORY).square().sum().backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == set(trained)
    assert [model.head] == Linear().in_training(model)
    model.eval()
    save_model(tmp_path / "w.safetensors", model)
    assert torch.equal(answer(load_tuned(tmp_path / "w.safetensors"), points), answer(model, points))


def test_every_parameter_learns(model, points):
    model.train()
    model(points, CATEGORY).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not torch.isfinite(value.grad).all()] == []


@pytest.mark.parametrize("family", OFFICIAL)
def test_a_pretraining_file_loads_as_the_official_loader_says(shared, family):
    schema_name, encoder = OFFICIAL[family]
    report_name = f"{family.replace('-', '_')}-partseg-load-report.json"
    official = json.loads((shared / "reference/backbones/schemas" / report_name).read_text())
    values = {name: torch.full(shape, 0.5) if shape else torch.tensor(7) for name, shape in schema(shared, schema_name).items()}
    report = load_official(create(family, preset="shapenetpart"), {f"module.{name}": value for name, value in values.items()})
    assert report.loaded == official["loaded"]
    assert set(report.fresh) == set(official["missing_in_checkpoint"])
    assert encoder == "" or all(source.startswith(encoder) for source in report.loaded.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_released_part_segmentation_file_comes_back_whole(family, points, tmp_path):
    other, model = small(family, seed=4), small(family)
    metrics = {"train_acc": np.float64(0.9), "test_acc": 0.9, "class_avg_iou": np.float64(0.8), "inctance_avg_iou": np.float64(0.8)}
    torch.save({"epoch": 3, **metrics, "model_state_dict": other.state_dict(), "optimizer_state_dict": {}}, tmp_path / "best_model.pth")
    report = load_official(model, tmp_path / "best_model.pth")
    assert (report.fresh, report.ignored, report.layout) == ((), (), "model_state_dict")
    assert torch.equal(answer(model, points), answer(other, points))


def test_a_head_knows_what_its_names_begin_with(model):
    assert {name.partition(".")[0] for name in model.head.state_dict()} == set(model.head_spec.layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_part_segmentation_file_loads_into_a_classifier(family):
    """At these sizes the head is most of the file: a layer of it that is taken for the backbone's is a refusal."""
    other = small(family, seed=4)
    options = FAMILIES[family][1] | ({"norm": "final"} if family == "point-m2ae" else {})
    report = load_official(create(family, head="linear", classes=5, **options), other.state_dict())
    assert set(report.ignored) >= {name for name in other.state_dict() if name.startswith(other.head_prefixes)}
    assert report.coverage == 1


def test_older_files_of_act_lack_the_suffix(points):
    other, model = small("act", seed=4), small("act")
    assert {"label_conv_cls.0.weight", "propagation_0_cls.mlp_bns.1.weight", "bns2_cls.bias"} <= set(other.state_dict())
    older = {name.replace("_cls.", "."): value for name, value in other.state_dict().items()}
    assert load_official(model, older).fresh == ()
    assert torch.equal(answer(model, points), answer(other, points))


def test_a_head_of_other_parts_stays_fresh():
    other = create("point-mae", head="parts:categories=3", classes=7, **BARE)
    report = load_official(small("point-mae"), other.state_dict())
    assert {name.partition(".")[0] for name in report.fresh} >= {"convs3", "label_conv", "propagation_0"}
    assert [name for name, _, _ in report.mismatched] == ["convs3.weight", "convs3.bias"]


def test_the_pyramid_needs_the_norm_of_each_level():
    with pytest.raises(UsageError, match=r"norm=each.*shapenetpart"):
        create("point-m2ae", head="parts-pyramid:categories=3", classes=5, **PYRAMID | {"norm": "final"})


@pytest.mark.parametrize(
    ("family", "head", "options", "says"),
    [
        ("point-mae", "parts:leads=true", BARE, "'parts:leads=true' joins lead tokens, and this point-mae has none. Leave leads=true out"),
        ("point-m2ae", "parts", PYRAMID, "those of 'point-m2ae' have patches of their own. Take parts-pyramid"),
        ("point-m2ae", "parts-graph", PYRAMID, "those of 'point-m2ae' have patches of their own. Take parts-pyramid"),
    ],
)
def test_a_head_is_not_built_for_a_backbone_that_it_cannot_read(family, head, options, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        create(family, head=head, classes=5, **options)


def test_a_backbone_without_levels_has_no_head_of_parts():
    class Flat(PointMAE):
        levels = Backbone.levels

    with pytest.raises(UsageError, match="'point-mae' has no levels, which part segmentation reads"):
        Parts().build(Flat(PointMAESpec(**BARE)), 5)


def test_a_file_of_a_head_that_cannot_read_its_backbone_is_refused(tmp_path):
    """It may come from anywhere."""
    model = create("point-mae", head="parts", classes=5, **BARE)
    model.head_spec = Parts(leads=True)
    save_model(tmp_path / "w.safetensors", model)
    with pytest.raises(WeightsError, match=r"w\.safetensors does not say what model it holds: 'parts:leads=true' joins lead tokens"):
        load_model(tmp_path / "w.safetensors")


def test_middle_centres_are_some_of_the_fine_ones():
    with pytest.raises(UsageError, match="middle=30 and fine=20"):
        create("point-bert", head="parts-graph:fine=20,middle=30", classes=5, **TINY_OPTIONS)


class TestAlgebra:
    """What is computed cheaply equals what is published, with its gradients, while training."""

    @staticmethod
    def same(mine, published, parameters) -> None:
        torch.testing.assert_close(mine, published, rtol=1e-10, atol=1e-12)
        weights = torch.randn(mine.shape, generator=torch.Generator().manual_seed(5), dtype=mine.dtype)
        ours = torch.autograd.grad((mine * weights).sum(), parameters, retain_graph=True)
        theirs = torch.autograd.grad((published * weights).sum(), parameters)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)

    def test_a_map_of_joined_parts(self):
        layer = PointMap(9, 4).double()
        points, whole = (
            torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True),
            torch.randn(2, 1, 4, dtype=torch.float64, requires_grad=True),
        )
        for parts in ((points, whole), (whole, points)):
            joined = torch.cat([part.expand(2, 7, -1) for part in parts], dim=-1)
            published = F.conv1d(joined.transpose(1, 2), layer.weight, layer.bias).transpose(1, 2)
            self.same(layer(*parts), published, [*layer.parameters(), points, whole])

    def test_propagation(self):
        layer = Propagation(3, 6, (8, 5)).double()
        points, centres = cloud(1, 2, 30).double(), cloud(2, 2, 9).double()
        tokens = torch.randn(2, 9, 6, dtype=torch.float64, requires_grad=True)
        near = torch.cdist(points, centres).square()
        distance, index = near.sort(dim=-1)
        inverse = 1 / (distance[..., :3] + 1e-8)
        weight = inverse / inverse.sum(dim=-1, keepdim=True)
        spread = (torch.stack([tokens[row][index[row, :, :3]] for row in range(2)]) * weight[..., None]).sum(dim=2)
        x = torch.cat([points, spread], dim=-1).transpose(1, 2)
        for conv, norm in zip(layer.mlp_convs, layer.mlp_bns, strict=True):
            x = F.relu(copy.deepcopy(norm)(F.conv1d(x, conv.weight, conv.bias)))
        mine = layer(points, tokens, spread_to(points, centres))
        torch.testing.assert_close(mine, x.transpose(1, 2), rtol=1e-9, atol=1e-10)
        self.same(spread_to(points, centres).of(tokens), spread, [tokens])

    def test_edges(self):
        layer = EdgeClimb(4).double()
        below, own = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (6, 9))
        to_below, to_own = torch.randint(0, 6, (2, 9, 3)), torch.randint(0, 9, (2, 9, 3))

        def published(maps: nn.Sequential, there: torch.Tensor, at: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
            edges = torch.cat([gather(there, near) - at[:, :, None], at[:, :, None].expand(-1, -1, 3, -1)], dim=-1)
            return maps(edges.permute(0, 3, 1, 2)).amax(dim=3).transpose(1, 2)

        inside = published(layer.layer1, below, own, to_below)
        self.same(layer(below, own, to_below, to_own), published(layer.layer2, inside, inside, to_own), [*layer.parameters(), below, own])


def test_a_point_that_is_a_centre_has_its_value():
    centres = cloud(3, 2, 5)
    values = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spread_to(centres, centres).of(values), values, rtol=1e-5, atol=1e-5)
    assert spread_to(cloud(1, 2, 9), centres[:, :2]).index.shape == (2, 9, 2)


def test_the_graph_head_samples_as_its_backbone():
    rules = {}
    for family in ("maskpoint", "point-bert", "point-mae"):
        for reading in ("as_intended", "as_published"):
            model = create(family, head="parts-graph:fine=20,middle=12", classes=4, reading=reading, **TINY_OPTIONS)
            assert model.head.rule == model.backbone.sampling
            rules[family, reading] = model.head.rule
    assert {rules[family, "as_intended"] for family, _ in rules} == {"intended"}
    assert rules["maskpoint", "as_published"] == "pointops"
    assert rules["point-bert", "as_published"] == rules["point-mae", "as_published"] == "pointnet2"
