"""What every backbone promises, asked of every entry of the catalog at a small size."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import pickle

import pytest
import torch

from net_samples import TINY, TINY_OPTIONS, TINY_PLAIN, cloud, same_state
from wisetune.errors import DataError
from wisetune.nets.backbone import build_empty
from wisetune.nets.create import BACKBONES, class_names, fresh_backbone, fresh_head
from wisetune.nets.families.act import ACTSpec
from wisetune.nets.families.maskpoint import MaskPointSpec
from wisetune.nets.families.point_bert import PointBERTSpec
from wisetune.nets.families.point_m2ae import PointM2AESpec
from wisetune.nets.families.recon import ReConSpec
from wisetune.nets.heads import LinearHead, Mlp3Head
from wisetune.nets.model import Model
from wisetune.nets.transformer import Block, Transformer
from wisetune.recipe import Start, digest

PROJECTED = {**TINY_OPTIONS, "readout": "projected"}
PYRAMID = PointM2AESpec(
    points=64, groups=(8, 6, 4), group_sizes=(8, 4, 4), widths=(8, 12, 16), depths=(1, 2, 1), heads=2, tokenizer=(6, 8, 10)
)
SPECS = {
    "act": [ACTSpec(**TINY_OPTIONS), ACTSpec(**PROJECTED, reading="as_published")],
    "maskpoint": [MaskPointSpec(**TINY_OPTIONS, token_width=12), MaskPointSpec(**PROJECTED, token_width=12, reading="as_published")],
    "point-bert": [PointBERTSpec(**TINY_OPTIONS, token_width=12), PointBERTSpec(**PROJECTED, token_width=12, reading="as_published")],
    "point-m2ae": [
        PYRAMID,
        dataclasses.replace(PYRAMID, norm="levels", readout="mean+max"),
        dataclasses.replace(PYRAMID, reading="as_published"),
    ],
    "point-mae": [TINY, TINY_PLAIN, dataclasses.replace(TINY, reading="as_published")],
    "recon": [ReConSpec(**TINY_OPTIONS), ReConSpec(**TINY_OPTIONS, readout="leads-max+total", reading="as_published")],
}
"""Small specs of each backbone; a new entry of the catalog must be added here."""


def test_every_entry_is_tested():
    assert set(SPECS) == set(BACKBONES.names())


def _cells():
    """Every spec with both heads; by default that of one layer on the first of each family alone."""
    for specs in SPECS.values():
        for spec in specs:
            for head in ("linear", "mlp3"):
                marks = [] if spec is specs[0] or head == "mlp3" else pytest.mark.slow
                yield pytest.param((spec, head), id=f"{spec}-{head}", marks=marks)


@pytest.fixture(params=[*_cells()])
def model(request) -> Model:
    return copy.deepcopy(_made(*request.param))


@functools.cache
def _made(spec, head) -> Model:
    backbone = fresh_backbone(spec, 0)
    chosen = {"linear": LinearHead(), "mlp3": Mlp3Head(hidden=8)}[head]
    model = Model(backbone, fresh_head(chosen, backbone, 3, 0), chosen, class_names(3))
    # Batch statistics that are not their initial values, as after training.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.train()(cloud(7, 6, 64))
    return model.eval()


@pytest.fixture
def points() -> torch.Tensor:
    return cloud(1, 4, 64)


def answer(model: Model, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(points)


def test_alone_and_in_a_batch(model, points):
    together = answer(model, points)
    assert together.shape == (4, 3)
    for row in range(4):
        torch.testing.assert_close(answer(model, points[row : row + 1])[0], together[row], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together[0], together[1], rtol=1e-3, atol=0)


def test_the_order_of_points_does_not_matter_beyond_the_first(model, points):
    order = torch.randperm(63, generator=torch.Generator().manual_seed(0)) + 1
    mixed = torch.cat([points[:, :1], points[:, order]], dim=1)
    torch.testing.assert_close(answer(model, mixed), answer(model, points), rtol=1e-5, atol=1e-6)


def test_eval_is_deterministic_and_changes_nothing(model, points):
    before = copy.deepcopy(model)
    assert torch.equal(answer(model, points), answer(model, points))
    assert same_state(model, before)


def test_the_pieces_make_the_whole(model, points):
    with torch.no_grad():
        features = model.features(points)
        assert features.shape == (4, model.backbone.feature_width)
        assert torch.equal(model.encode(model.group(points)), features)
        assert torch.equal(model.backbone.pool(model.backbone(points)), features)
        assert torch.equal(model.head(features), model(points))


def test_groups_depend_on_the_cloud_alone_and_may_be_cut(model, points):
    other = Model(fresh_backbone(model.backbone.spec, 1), model.head).eval()
    groups = model.group(points)
    for mine, theirs in zip(groups, other.group(points), strict=True):
        assert torch.equal(mine, theirs)
    with torch.no_grad():
        part = model.encode(tuple(part[1:3] for part in groups))
        torch.testing.assert_close(part, model.features(points)[1:3], rtol=1e-5, atol=1e-6)


def test_any_number_of_points(model):
    for n in (model.backbone.fewest_points, 64, 200):
        assert torch.isfinite(answer(model, cloud(2, 2, n))).all()


def test_no_clouds_at_all(model):
    assert answer(model, torch.zeros(0, 64, 3)).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_points_of_any_float_type(model, points, dtype):
    torch.testing.assert_close(answer(model, points.to(dtype)), answer(model, points.to(dtype).float()), rtol=1e-4, atol=1e-5)


def test_float64_model(model, points):
    single = answer(model, points)
    double = answer(copy.deepcopy(model).double(), points)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-5)


def test_meta_device(model, points):
    empty = build_empty(model.backbone.spec)
    assert all(value.is_meta for value in empty.state_dict().values())
    moved = copy.deepcopy(model).to("meta")
    assert moved(points.to("meta")).shape == (4, 3)


WRONG = [
    (torch.zeros(64, 3), r"points are \[64, 3\].*points\[None\]"),
    (torch.zeros(2, 64, 6), r"\[2, 64, 6\].*colours"),
    (torch.zeros(2, 64), r"\[batch, points, 3\]"),
    (torch.zeros(2, 3, 64), r"\[2, 3, 64\]"),
    (torch.zeros(3), r"points are \[3\]"),
    (torch.zeros(2, 64, 3, dtype=torch.int64), "torch.int64"),
    (torch.zeros(2, 7, 3), "have 7 points; this model needs at least 8"),
    (torch.zeros(2, 0, 3), "have 0 points"),
    (torch.full((2, 64, 3), float("nan")), "cloud 0 of the batch"),
    (torch.cat([torch.ones(1, 64, 3), torch.full((1, 64, 3), float("inf"))]), "cloud 1 of the batch"),
]


def test_points_that_cannot_be_encoded_are_refused(model):
    for wrong, says in WRONG:
        for call in (model, model.features, model.group):
            with pytest.raises(DataError, match=says):
                call(wrong)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e9])
def test_odd_clouds_give_finite_answers(model, scale):
    assert torch.isfinite(answer(model, cloud(3, 2, 64) * scale)).all()


def test_state_dict_round_trip(model, points):
    other = Model(fresh_backbone(model.backbone.spec, 8), fresh_head(model.head_spec, model.backbone, 3, 8)).eval()
    assert not torch.equal(answer(other, points), answer(model, points))
    other.load_state_dict(model.state_dict())
    assert torch.equal(answer(other, points), answer(model, points))
    assert not any(key.startswith(("backbone.", "head.")) for key in model.state_dict())
    # As a part of something larger the names keep their prefix.
    outer, fresh = torch.nn.ModuleDict({"inner": model}), torch.nn.ModuleDict({"inner": other})
    assert all(key.startswith("inner.") for key in outer.state_dict())
    fresh.load_state_dict(outer.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(
            {key: value for key, value in model.state_dict().items() if not key.startswith(model.backbone.anatomy.norms[-1])}
        )


def test_everything_is_in_the_state_dict(model):
    names = {id(value) for value in [*model.parameters(), *model.buffers()]}
    assert len(names) == len(model.state_dict())  # no buffer that is not saved, no tensor twice


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_equal_and_independent(model, points, how):
    wanted = answer(model, points)
    if how == "deepcopy":
        copied = copy.deepcopy(model)
    elif how == "pickle":
        copied = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        copied = torch.load(file, weights_only=False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    del model
    assert torch.equal(answer(copied, points), wanted)
    copied.load_state_dict(state)  # its hooks are its own
    assert torch.equal(answer(copied, points), wanted)


class Features(torch.nn.Module):
    """What follows from patches: finding these is no part of a graph."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, *groups: torch.Tensor) -> torch.Tensor:
        return self.model.encode(groups)


AS_POINT_MAE = {"act", "maskpoint", "point-bert"}
"""Its encoder but for a few lines: what is traced of them is traced of it."""


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, id=str(spec), marks=[] if spec is specs[0] and spec.name not in AS_POINT_MAE else pytest.mark.slow)
        for specs in SPECS.values()
        for spec in specs
    ],
)
def test_features_can_be_exported(spec, points):
    features = Features(Model(fresh_backbone(spec, 0), torch.nn.Identity())).eval()
    groups = features.model.group(points)
    exported = torch.export.export(features, groups).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(*groups), features(*groups), rtol=1e-5, atol=1e-6)


def test_anatomy_names_what_is_there(model):
    backbone = model.backbone
    modules, parameters = dict(backbone.named_modules()), dict(backbone.named_parameters())
    anatomy = backbone.anatomy
    assert all(isinstance(modules[norm], torch.nn.LayerNorm) for norm in anatomy.norms)
    assert {*anatomy.fresh, *anatomy.class_token} <= set(parameters)
    for stage in anatomy.stages:
        assert {stage.tokenizer, stage.tokens, stage.position} <= set(modules)
        assert isinstance(modules[stage.blocks], Transformer)
        assert {site.width for site in stage.sites} == {stage.width}
    blocks = {name for name, module in modules.items() if isinstance(module, Block)}
    assert {site.block for site in anatomy.sites} == blocks
    assert len(blocks) == len(anatomy.sites)
    for site in anatomy.sites:
        for part in (value for field, value in dataclasses.asdict(site).items() if field not in ("block", "width")):
            assert part.startswith(site.block + ".")
            assert part in modules
        assert modules[site.qkv].out_features == 3 * site.width
        assert modules[site.proj].out_features == site.width == modules[site.norm1].normalized_shape[0]
    # Nothing of a block lies outside the sites.
    inside = tuple(site.block + "." for site in anatomy.sites)
    assert [name for name in parameters if ".blocks." in name and not name.startswith(inside)] == []
    assert anatomy.sites[-1].width == backbone.width


def test_every_parameter_learns(model, points):
    model.train()
    model(points).square().sum().backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not torch.isfinite(value.grad).all()]
    assert without == []


def test_the_spec_is_kept_and_its_spelling_builds_the_same(model):
    spec = model.backbone.spec
    assert BACKBONES.parse(str(spec)) == BACKBONES.parse(spec.in_full()) == spec
    assert same_state(fresh_backbone(spec, 4), fresh_backbone(BACKBONES.parse(str(spec)), 4))
    assert digest(Start(spec, "a")) == digest(Start(BACKBONES.parse(str(spec)), "a"))
    assert model.backbone.points == spec.points


def test_presets_and_sizes(model):
    cls = type(model.backbone.spec)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    sizes = cls.sizes(shapes)
    assert sizes is not None
    assert all(getattr(model.backbone.spec, option) == value for option, value in sizes.items())
    assert cls.sizes({"some.weight": (3, 4)}) is None
    for name, preset in cls.presets().items():
        assert BACKBONES.parse(str(preset.backbone)) == preset.backbone, name
        assert preset.source
