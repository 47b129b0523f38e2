from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

import pico
from pico import FIT, HEAD_FIT, START, TOKEN_SPEC, bits
from wisetune.build import builder as module
from wisetune.build.builder import backbone_of
from wisetune.data.task import Data
from wisetune.errors import Busy, TrainingError, UsageError, WeightsError
from wisetune.nets.files.carded import same_bits
from wisetune.nets.heads import LinearHead, Mlp3Head
from wisetune.recipe import Mix, Recipe, Start, Tune, digest, walk
from wisetune.store import Store
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.weights.mix import mix
from wisetune.weights.uniform import Uniform
from wisetune.weights.wise import Wise

QUICK = dataclasses.replace(FIT, epochs=2)
DATA = pico.data()
TASK = DATA.training_digest
TOKEN = Start(TOKEN_SPEC, "random:0")


def tuned(start: Recipe, how=None, **options) -> Tune:
    given = {"tuning": how or Full(), "head": LinearHead(), "task": TASK, "fit": QUICK} | options
    return Tune(start, **given)


FT, LP = tuned(START), tuned(START, Linear(), head=Mlp3Head(hidden=8))
DEEP = tuned(START, head=Mlp3Head(hidden=8), fit=dataclasses.replace(QUICK, drop_path=0.5, select="best"))
RECIPES: dict[str, tuple[Recipe, Start]] = {
    "full": (FT, START),
    "full with a deep head": (DEEP, START),
    "full with a class token": (tuned(TOKEN), TOKEN),
    "linear": (LP, START),
    "lp-ft": (tuned(LP, head=Mlp3Head(hidden=8), head_from="start"), START),
    "mixed": (Mix((START, FT), Wise(0.3)), START),
    "mixed, statistics again": (Mix((START, DEEP), Wise(0.3), TASK), START),
    "mixed at 0 with a class token": (Mix((TOKEN, tuned(TOKEN)), Wise(0.0)), TOKEN),
    "probe of a mix": (tuned(Mix((START, FT), Wise(0.3), TASK), Linear()), START),
    "warm probe of a mix": (tuned(Mix((START, FT), Wise(0.3), TASK), Linear(), head_from="start"), START),
}


def build(root, recipe: Recipe, start: Start = START, **options):
    return pico.builder(root, spec=start.backbone, **options).model(recipe)


@pytest.fixture
def trainings(monkeypatch) -> list[str]:
    """What was trained, in order: one word each."""
    done: list[str] = []
    tune = module.tune

    def counted(model, parameters, *arguments, **options):
        done.append("head" if options["frozen_key"] else "all")
        return tune(model, parameters, *arguments, **options)

    monkeypatch.setattr(module, "tune", counted)
    return done


@pytest.mark.parametrize("name", RECIPES)
def test_a_model_from_the_store_is_the_one_that_was_built(tmp_path, name, trainings):
    recipe, start = RECIPES[name]
    built = build(tmp_path / "s", recipe, start)
    assert trainings
    trainings.clear()
    loaded = build(tmp_path / "s", recipe, start)
    assert not trainings
    assert bits(loaded.state_dict()) == bits(built.state_dict())
    points = torch.from_numpy(DATA.test.points)
    with torch.inference_mode():
        assert torch.equal(loaded(points), built(points))
    assert not any(part.training for model in (built, loaded) for part in model.modules())


@pytest.mark.parametrize("name", RECIPES)
def test_built_bit_by_bit_over_restarts_a_model_is_the_same(tmp_path, name):
    """Each node in a builder of its own, so that each finds its parents in the store and not in memory."""
    recipe, start = RECIPES[name]
    for node in walk(recipe):
        last = build(tmp_path / "parts", node, start)
    assert bits(last.state_dict()) == bits(build(tmp_path / "whole", recipe, start).state_dict())


def test_drop_path_of_the_parents_training_does_not_reach_the_child(tmp_path):
    probe = tuned(START, Linear(), fit=dataclasses.replace(QUICK, drop_path=0.9))
    child = tuned(probe, head_from="start")
    build(tmp_path / "restarted", probe)
    assert bits(build(tmp_path / "restarted", child).state_dict()) == bits(build(tmp_path / "whole", child).state_dict())


@pytest.mark.parametrize("name", RECIPES)
def test_two_stores_hold_the_same_bytes(tmp_path, name):
    recipe, start = RECIPES[name]
    trees = []
    for place in ("one", "two"):
        torch.manual_seed(len(place))
        build(tmp_path / place, recipe, start)
        trees.append({str(path.relative_to(tmp_path / place)): path.read_bytes() for path in (tmp_path / place / "objects").rglob("*.*")})
    assert trees[0] == trees[1]
    assert len(trees[0]) == 4 * len(list(walk(recipe)))


def test_only_what_changed_is_stored(tmp_path):
    build(tmp_path, LP)
    build(tmp_path, Mix((START, FT), Wise(0.3)))
    stored = {node: Store(tmp_path).load(digest(node)) for node in (LP, FT, Mix((START, FT), Wise(0.3)))}
    assert all(name.startswith("cls_head_finetune.") for name in stored[LP].tensors)
    assert not any(name.startswith("cls_head_finetune.") for name in stored[Mix((START, FT), Wise(0.3))].tensors)
    assert {"encoder.first_conv.1.running_mean", "blocks.blocks.0.attn.qkv.weight"} <= set(stored[FT].tensors)


def test_a_zero_that_changes_its_sign_is_stored():
    zeros = torch.zeros(3)
    assert same_bits(zeros, zeros.clone())
    assert not same_bits(zeros, -zeros)
    assert same_bits(torch.tensor(float("nan")), torch.tensor(float("nan")))
    assert not same_bits(torch.tensor(1), torch.tensor(2))
    assert not same_bits(torch.zeros(3), torch.zeros(3, dtype=torch.float64))
    assert not same_bits(torch.zeros(3), torch.zeros(1, 3))


def test_equal_parts_are_trained_once_in_memory_and_over_restarts(tmp_path, trainings):
    builder = pico.builder(tmp_path)
    for alpha in (0.2, 0.5, 0.8):
        builder.model(tuned(Mix((START, FT), Wise(alpha)), Linear()))
    assert trainings == ["all", "head", "head", "head"]
    build(tmp_path, tuned(Mix((START, FT), Wise(0.5)), Linear()))
    build(tmp_path, tuned(FT, Linear()))
    assert trainings == ["all", "head", "head", "head", "head"]


def test_more_models_than_memory_keeps_are_still_built_once(tmp_path, trainings, monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 1)
    builder = pico.builder(tmp_path)
    small = [bits(builder.model(Mix((START, FT), Wise(alpha))).state_dict()) for alpha in (0.2, 0.5, 0.2)]
    assert trainings == ["all"]
    assert small[0] == small[2] != small[1]


@pytest.mark.parametrize("file", ["weights.safetensors", "manifest.json", "recipe.json", "log.jsonl"])
def test_a_damaged_object_is_built_again_and_is_the_same(tmp_path, trainings, file):
    first = bits(build(tmp_path, FT).state_dict())
    path = tmp_path / "objects" / digest(FT) / file
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
    assert bits(build(tmp_path, FT).state_dict()) == first
    assert trainings == ["all", "all"]
    assert path.read_bytes() == data
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_a_damaged_parent_of_a_sound_child_is_built_again(tmp_path, trainings):
    child = tuned(FT, Linear())
    first = bits(build(tmp_path, child).state_dict())
    (tmp_path / "objects" / digest(FT) / "weights.safetensors").unlink()
    assert bits(build(tmp_path, child).state_dict()) == first
    assert trainings == ["all", "head", "all"]


def test_a_fresh_head_is_a_function_of_the_seed_alone(tmp_path):
    """WiSE-FT-LP compares heads along alpha: all begin with the same values."""
    frozen = dataclasses.replace(HEAD_FIT, epochs=1, lr=1e-12, weight_decay=0.0)
    heads = []
    for number, (start, seed) in enumerate([(START, 0), (FT, 0), (START, 1)]):
        torch.manual_seed(number)
        model = build(tmp_path, tuned(start, Linear(), fit=frozen, seed=seed))
        heads.append(model.head.weight)
    assert torch.allclose(heads[0], heads[1], atol=1e-9)
    assert not torch.allclose(heads[0], heads[2], atol=1e-3)


def test_building_leaves_the_global_random_state_as_it_was(tmp_path):
    state = torch.get_rng_state()
    build(tmp_path, RECIPES["probe of a mix"][0])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_knows_its_head_and_its_classes(tmp_path):
    for name in ("linear", "lp-ft", "mixed", "probe of a mix"):
        model = build(tmp_path, RECIPES[name][0])
        assert model.classes == DATA.classes
        assert model.head_spec == (Mlp3Head(hidden=8) if name in ("linear", "lp-ft") else LinearHead())


def test_the_start_is_what_was_kept(tmp_path):
    model = build(tmp_path, START)
    assert bits(model.state_dict()) == bits(pico.backbone().state_dict())
    assert [path.name for path in (tmp_path / "objects").glob("*")] == [digest(START)]


def test_a_recipe_and_a_store_are_all_that_another_machine_needs(tmp_path):
    """The checkpoint is gone; the data are looked up by digest."""
    first = bits(build(tmp_path, DEEP).state_dict())
    recipe = pickle.loads(pickle.dumps(tuned(DEEP, head=Mlp3Head(hidden=8), head_from="start")))
    data = {TASK: DATA}.__getitem__
    assert bits(module.build(DEEP, Store(tmp_path), data, pico.CPU).state_dict()) == first
    module.build(recipe, Store(tmp_path), data, pico.CPU)
    (tmp_path / "objects" / digest(START) / "weights.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"the pre-trained weights point-mae#random:0 are not in the store"):
        module.build(DEEP, Store(tmp_path, tell=lambda _: None), data, pico.CPU)
    assert bits(build(tmp_path, DEEP).state_dict()) == first, "they are kept again"


def test_a_head_can_begin_only_with_one_that_is_there_and_knows_the_classes(tmp_path):
    with pytest.raises(UsageError, match=r"begins with its parent's head, but point-mae.* has none"):
        build(tmp_path, tuned(START, head_from="start"))
    other = Data("more", (*DATA.classes, "cone"), DATA.train, DATA.val, DATA.test, {})
    with pytest.raises(
        UsageError, match=r"knows other classes \(ball, box, stick, plate\) than the task \(ball, box, stick, plate, cone\)"
    ):
        pico.builder(tmp_path, DATA, other).model(tuned(LP, head_from="start", task=other.training_digest))


def test_a_mix_is_what_the_formula_says(tmp_path):
    mixed = build(tmp_path, Mix((START, FT), Wise(0.3))).state_dict()
    start, end = pico.backbone().state_dict(), build(tmp_path, FT).state_dict()
    for name, value in mixed.items():
        if name in start and value.is_floating_point():
            assert torch.allclose(value, 0.7 * start[name] + 0.3 * end[name], atol=1e-6), name
        else:
            assert torch.equal(value, end[name]), name


def test_at_0_parts_without_pre_trained_value_are_the_fine_tuned_ones(tmp_path):
    mixed = build(tmp_path, Mix((TOKEN, tuned(TOKEN)), Wise(0.0)), TOKEN).state_dict()
    start, end = pico.backbone(TOKEN_SPEC).state_dict(), build(tmp_path, tuned(TOKEN), TOKEN).state_dict()
    for name, value in mixed.items():
        fresh = name in ("cls_token", "cls_pos") or name not in start or not value.is_floating_point()
        assert torch.equal(value, (end if fresh else start)[name]), name
    assert not torch.equal(start["cls_token"], end["cls_token"])


def test_statistics_are_those_of_the_training_clouds_on_the_mixed_weights(tmp_path):
    recipe = Mix((START, FT), Wise(0.5), TASK)
    again, plain = build(tmp_path, recipe), build(tmp_path, dataclasses.replace(recipe, task=None))
    differing = [name for name, value in again.state_dict().items() if not torch.equal(value, plain.state_dict()[name])]
    assert differing
    assert all("running_" in name or "num_batches" in name for name in differing)
    # Of the first BatchNorm they can be found by hand: it sees a linear image of the patches' points.
    centres_offsets = plain.group(torch.from_numpy(DATA.train.points[:32]))
    conv, norm = again.backbone.encoder.first_conv[0], again.backbone.encoder.first_conv[1]
    rows = centres_offsets[1].reshape(-1, 3) @ conv.weight.squeeze(-1).T + conv.bias
    # 36 clouds are more than one batch; all are measured.
    rest = plain.group(torch.from_numpy(DATA.train.points[32:]))[1].reshape(-1, 3) @ conv.weight.squeeze(-1).T + conv.bias
    rows = torch.cat([rows, rest])
    assert torch.allclose(norm.running_mean, rows.mean(dim=0), atol=1e-4)
    assert torch.allclose(norm.running_var, rows.var(dim=0), rtol=1e-3)


@pytest.mark.parametrize("as_given", [lambda points: points, torch.from_numpy, list])
def test_mix_from_python_gives_the_model_that_a_run_builds(tmp_path, as_given):
    built = build(tmp_path, Mix((START, FT), Wise(0.5), TASK))
    mixed = mix(pico.backbone(), build(tmp_path, FT), 0.5, clouds=as_given(DATA.train.points))
    assert bits(mixed.state_dict()) == bits(built.state_dict())


def test_the_log_and_the_audit_are_kept(tmp_path):
    builder = pico.builder(tmp_path)
    recipe = Mix((START, FT), Wise(0.3), TASK)
    built = builder.model(recipe)
    assert built is builder.model(recipe)
    fresh = pico.builder(tmp_path)
    assert [line["epoch"] for line in fresh.log(FT)] == [1, 2]
    assert {line["audit"] for line in fresh.log(recipe)} >= {"keys", "distance", "batchnorm"}
    assert all(line["ok"] for line in fresh.log(recipe))
    assert fresh.log(START) == fresh.log(LP) == []
    assert Store(tmp_path).load(digest(FT)).extra == {"trained": sum(value.numel() for value in built.parameters())}


def test_a_failed_training_leaves_no_object_and_no_lock(tmp_path):
    wild = tuned(START, fit=dataclasses.replace(QUICK, lr=1e30, warmup=0.0))
    for _ in range(2):
        with pytest.raises(TrainingError):
            build(tmp_path, wild)
    store = Store(tmp_path)
    assert not store.has(digest(wild))
    with store.lock(digest(wild)):
        pass


def test_a_node_that_another_process_builds_is_waited_for(tmp_path, trainings, monkeypatch):
    """What it leaves is taken; nothing is trained twice."""
    store = Store(tmp_path)
    build(tmp_path / "theirs", FT)
    theirs = Store(tmp_path / "theirs").load(digest(FT))
    trainings.clear()
    lock = Store.lock

    def lock_after_them(self, name, **options):
        assert options["wait"]
        store.commit(FT, theirs.tensors, theirs.log, theirs.extra)
        return lock(self, name, **options)

    monkeypatch.setattr(Store, "lock", lock_after_them)
    model = build(tmp_path, FT)
    assert not trainings
    assert bits(model.state_dict()) == bits(build(tmp_path / "theirs", FT).state_dict())


def test_the_lock_is_held_while_training(tmp_path, monkeypatch):
    tune, tried = module.tune, []

    def trying(*arguments, **options):
        with pytest.raises(Busy), Store(tmp_path).lock(digest(FT)):
            pass
        tried.append(True)
        return tune(*arguments, **options)

    monkeypatch.setattr(module, "tune", trying)
    build(tmp_path, FT)
    assert tried


MIXED = Mix((START, FT), Wise(0.5))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (START, START),
        (FT, FT),
        (LP, START),
        (tuned(tuned(FT, Linear()), Linear()), FT),
        (MIXED, MIXED),
        (tuned(MIXED, Linear()), MIXED),
        (Mix((START, FT), Wise(1.0)), FT),
        (Mix((START, tuned(FT, Linear())), Wise(1.0)), FT),
        (Mix((START, FT), Wise(1.0), TASK), Mix((START, FT), Wise(1.0), TASK)),
        (Mix((START, FT), Wise(0.0)), START),
        (tuned(Mix((START, FT), Wise(0.0)), Linear(), head_from="start"), START),
        (Mix((START, FT), Wise(0.0), TASK), Mix((START, FT), Wise(0.0), TASK)),
        (Mix((TOKEN, tuned(TOKEN)), Wise(0.0)), Mix((TOKEN, tuned(TOKEN)), Wise(0.0))),
        (Mix((LP, FT), Wise(0.0)), Mix((LP, FT), Wise(0.0))),
        (Mix((START, FT), Uniform()), Mix((START, FT), Uniform())),
    ],
)
def test_whose_backbone_a_model_has(recipe, expected):
    assert backbone_of(recipe) == expected


@pytest.mark.parametrize(
    "recipe", [LP, tuned(MIXED, Linear(), head_from="start"), Mix((START, FT), Wise(1.0)), Mix((START, FT), Wise(0.0))]
)
def test_equal_backbones_have_equal_features(tmp_path, recipe):
    """What the feature bank relies on."""
    model, backbone = build(tmp_path, recipe), build(tmp_path, backbone_of(recipe))
    points = torch.from_numpy(DATA.val.points)
    with torch.inference_mode():
        assert torch.equal(model.features(points), backbone.features(points))
