from __future__ import annotations

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pico
from pico import CPU, FIT, HEAD_FIT, bits
from wisetune.errors import DataError, TrainingError, UsageError
from wisetune.fit import finetune, loop
from wisetune.fit.finetune import Labelled, smoothed, tune
from wisetune.fit.fit import Fit
from wisetune.nets.families.recon import ReConSpec
from wisetune.nets.features import FeatureBank
from wisetune.nets.heads import LinearHead, Mlp3Head
from wisetune.nets.model import Model
from wisetune.nets.transformer import Block, DropPath, Transformer
from wisetune.points.redraw import redraw
from wisetune.runtime import torch_generator
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.tune.tuning import Tuning

QUICK = dataclasses.replace(FIT, epochs=2)
AUGMENTED = dataclasses.replace(QUICK, augment="jitter+scale-translate")


def model_of(spec=pico.SPEC, head=None) -> Model:
    backbone = pico.backbone(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = (head or LinearHead()).build(backbone.feature_width, 4)
    return Model(backbone, made)


def labelled(split) -> Labelled:
    return Labelled(split.points, split.labels, split.names, split.digest)


def run(model, fit, data, tuning: Tuning | None = None, seed=0, bank=None, **options):
    tuning = tuning or Full()
    frozen = None if tuning.moves_features else "the start"
    parameters = tuning.freeze(model)
    bank = bank or FeatureBank(CPU)
    return tune(model, parameters, fit, labelled(data.train), labelled(data.val), seed, frozen_key=frozen, bank=bank, **options)


@pytest.fixture
def groups(monkeypatch):
    """The parameter groups of the optimiser that a training makes."""
    found = []

    class Recorded(torch.optim.AdamW):
        def __init__(self, params, **options):
            found.extend(params)
            super().__init__(params, **options)

    monkeypatch.setattr(loop.torch.optim, "AdamW", Recorded)
    return found


def test_what_decays_follows_the_fields_rule(groups, pico_data):
    model = model_of(pico.TOKEN_SPEC, Mlp3Head(hidden=8))
    run(model, dataclasses.replace(QUICK, weight_decay=0.3), pico_data)
    names = {id(value): name for name, value in model.named_parameters()}
    decayed, plain = ({names[id(value)] for value in group["params"]} for group in groups)
    assert groups[1]["weight_decay"] == 0.0
    assert decayed | plain == set(names.values())
    assert not decayed & plain
    # As in add_weight_decay of Point-MAE's tools: the position of the class token decays, the token does not.
    assert {
        "backbone.cls_pos",
        "backbone.encoder.first_conv.0.weight",
        "backbone.blocks.blocks.0.attn.qkv.weight",
        "head.0.weight",
    } <= decayed
    assert {"backbone.cls_token", "backbone.norm.weight", "backbone.encoder.first_conv.1.weight", "head.0.bias", "head.1.weight"} <= plain
    assert all(value.ndim > 1 and not name.endswith(".bias") for name, value in model.named_parameters() if name in decayed)


def test_the_first_loss_is_the_cross_entropy_of_the_model_as_it_came(pico_data):
    model = model_of()
    with torch.inference_mode():
        logits = model(torch.from_numpy(pico_data.train.points))
    for smoothing in (0.0, 0.3):
        expected = F.cross_entropy(logits, torch.from_numpy(pico_data.train.labels), label_smoothing=smoothing).item()
        fit = Fit(epochs=1, batch=64, augment="none", smoothing=smoothing)
        assert run(copy.deepcopy(model), fit, pico_data, Linear())[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_training_learns_what_was_asked(pico_data):
    model = model_of()
    log = run(model, dataclasses.replace(FIT, epochs=10, batch=6, lr=2e-2, drop_path=0.0), pico_data)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    bank = FeatureBank(CPU)
    answer = bank.logits(model, "tuned", pico_data.train.points, pico_data.train.digest).argmax(axis=1)
    assert (answer == pico_data.train.labels).mean() > 0.5


@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
@pytest.mark.parametrize("fit", [QUICK, AUGMENTED], ids=["plain", "augmented"])
def test_the_same_training_gives_the_same_bits_whatever_ran_before(pico_data, pico_spec, tuning, fit):
    ends = []
    for before in range(2):
        torch.manual_seed(before)
        np.random.seed(before)  # noqa: NPY002 - no training may look at it
        model = model_of(pico_spec, Mlp3Head(hidden=8))
        ends.append((run(model, fit, pico_data, tuning), bits(model.state_dict())))
    assert ends[0] == ends[1]


def test_another_seed_gives_other_bits(pico_data):
    ends = []
    for seed in range(2):
        model = model_of()
        run(model, QUICK, pico_data, seed=seed)
        ends.append(bits(model.state_dict()))
    assert ends[0] != ends[1]


@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
def test_training_leaves_every_global_random_state_as_it_was(pico_data, tuning):
    model = model_of(head=Mlp3Head(hidden=8))
    # Python's own state is no witness: beartype draws from it which items of a tuple it looks at.
    states = (torch.get_rng_state().tolist(), repr(np.random.get_state()))  # noqa: NPY002
    run(model, AUGMENTED, pico_data, tuning)
    assert (torch.get_rng_state().tolist(), repr(np.random.get_state())) == states  # noqa: NPY002


@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
def test_a_trained_model_is_in_eval_mode(pico_data, tuning):
    model = model_of().train()
    run(model, QUICK, pico_data, tuning)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("fit", [QUICK, AUGMENTED, dataclasses.replace(QUICK, select="best")], ids=["cached", "augmented", "best"])
def test_probing_leaves_the_backbone_and_its_statistics_as_they_were(pico_data, pico_spec, fit):
    model = model_of(pico_spec, Mlp3Head(hidden=8)).train()
    backbone, head = bits(model.backbone.state_dict()), bits(model.head.state_dict())
    run(model, fit, pico_data, Linear())
    assert bits(model.backbone.state_dict()) == backbone
    after = bits(model.head.state_dict())
    assert [name for name in head if after[name] == head[name]] == []
    assert all(value.grad is None for value in model.backbone.parameters())


def test_full_tuning_moves_every_part_and_the_statistics(pico_data, pico_spec):
    model = model_of(pico_spec)
    before = bits(model.state_dict())
    run(model, QUICK, pico_data)
    after = bits(model.state_dict())
    # BatchNorm takes out again what the bias before it adds: its gradient is zero, or what rounding leaves of it.
    assert {name for name in before if after[name] == before[name]} <= {"encoder.first_conv.0.bias", "encoder.second_conv.0.bias"}


@pytest.mark.parametrize(("fit", "times"), [(QUICK, 1), (AUGMENTED, 2)], ids=["plain", "augmented"])
def test_a_frozen_backbone_sees_each_cloud_once_unless_augmented(pico_data, monkeypatch, fit, times):
    model = model_of()
    seen = []
    encode = model.backbone.encode
    monkeypatch.setattr(model.backbone, "encode", lambda groups: seen.append(len(groups[0])) or encode(groups))
    run(model, dataclasses.replace(fit, batch=9), pico_data, Linear())
    assert sum(seen) == times * len(pico_data.train)


def test_probing_from_kept_features_is_probing(pico_data):
    """By hand: features once, then a head alone."""
    model = model_of(head=Mlp3Head(hidden=8, dropout=0.0))
    head = copy.deepcopy(model.head)
    with torch.inference_mode():
        features = torch.from_numpy(FeatureBank(CPU).features(model, "k", pico_data.train.points, pico_data.train.digest))
    run(model, QUICK, pico_data, Linear())
    head.train()
    schedule, values = QUICK.schedule, list(head.parameters())
    decayed, plain = [value for value in values if value.ndim > 1], [value for value in values if value.ndim == 1]
    adamw = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}], weight_decay=QUICK.weight_decay)
    labels = torch.from_numpy(pico_data.train.labels)
    for epoch in range(QUICK.epochs):
        order = list(loop.batches(len(labels), QUICK.batch, 0, epoch))
        for step, rows in enumerate(order):
            for group in adamw.param_groups:
                group["lr"] = schedule.lr_at(epoch + step / len(order))
            adamw.zero_grad()
            F.cross_entropy(head(features[rows]), labels[rows]).backward()
            nn.utils.clip_grad_norm_(head.parameters(), QUICK.clip)
            adamw.step()
    assert bits(model.head.state_dict()) == bits(head.state_dict())


def test_augmentation_is_drawn_anew_each_epoch(pico_data, monkeypatch):
    model, seen = model_of(), []
    group = model.group
    monkeypatch.setattr(model, "group", lambda points: seen.append(points) or group(points))
    run(model, dataclasses.replace(AUGMENTED, batch=36), pico_data)
    assert len(seen) == 2
    orders = [next(loop.batches(36, 36, 0, epoch)).tolist() for epoch in range(2)]
    first, second = (points[order.index(0)] for points, order in zip(seen, orders, strict=True))
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, torch.from_numpy(pico_data.train.points[0]), atol=1e-3)


def test_the_best_weights_on_validation_are_kept_and_of_equals_the_later(pico_data, monkeypatch):
    accuracies = iter([0.2, 0.8, 0.8, 0.1])
    monkeypatch.setattr(finetune._Tuned, "accuracy", lambda *_: next(accuracies))
    model, states = model_of(head=Mlp3Head(hidden=8)), []
    fit = dataclasses.replace(FIT, epochs=4, select="best")
    log = run(model, fit, pico_data, progress=lambda *_: states.append(bits(model.state_dict())))
    assert [line["val_accuracy"] for line in log] == [0.2, 0.8, 0.8, 0.1]
    assert len({repr(state) for state in states}) == 4
    assert bits(model.state_dict()) == states[2]


@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
def test_the_accuracy_in_the_log_is_that_of_the_model_after_the_epoch(pico_data, tuning):
    model, answers = model_of(), []

    def look(done, *_):
        copied = copy.deepcopy(model).eval()
        logits = FeatureBank(CPU).logits(copied, f"after {done}", pico_data.val.points, pico_data.val.digest)
        answers.append(float((logits.argmax(axis=1) == pico_data.val.labels).mean()))

    log = run(model, dataclasses.replace(HEAD_FIT, lr=2e-2, select="best"), pico_data, tuning, progress=look)
    assert [line["val_accuracy"] for line in log] == pytest.approx(answers)
    assert len(set(answers)) > 1


def test_looking_at_validation_data_does_not_change_the_training(pico_data):
    last, best = model_of(), model_of()
    states = []
    run(last, FIT, pico_data)
    run(best, dataclasses.replace(FIT, select="best"), pico_data, progress=lambda *_: states.append(bits(best.state_dict())))
    assert states[-1] == bits(last.state_dict())


def test_the_best_weights_need_validation_data():
    data = pico.data(val=0)
    with pytest.raises(UsageError, match=r"select=best .* there is none; hold one out \(val=0\.2\) or use select=last"):
        run(model_of(), dataclasses.replace(FIT, select="best"), data)
    with pytest.raises(UsageError, match="select=best"):
        tune(model_of(), {}, dataclasses.replace(FIT, select="best"), labelled(data.train), None, 0, bank=FeatureBank(CPU))


@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
def test_a_loss_that_is_not_finite_names_the_files_of_its_batch(pico_data, tuning):
    model = model_of()
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match="at epoch 1, batch 1") as raised:
        run(model, dataclasses.replace(QUICK, batch=4), pico_data, tuning)
    rows = next(loop.batches(len(pico_data.train), 4, 0, 0))
    assert f"({', '.join(pico_data.train.names[row] for row in rows)}; their points are finite" in str(raised.value)
    assert ("their features too" in str(raised.value)) == (tuning == Linear())


def test_features_that_are_not_finite_are_told_from_points_that_are_not(pico_data):
    model = model_of()
    with torch.no_grad():
        model.backbone.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="their points are finite, their features from the frozen backbone are not"):
        run(model, QUICK, pico_data, Linear())


def test_points_that_are_not_finite_are_refused_by_name_before_training(pico_data):
    points = pico_data.train.points.copy()
    points[[1, 3], 5] = np.nan
    data = dataclasses.replace(pico_data, train=dataclasses.replace(pico_data.train, points=points))
    named = re.escape(f"{data.train.names[1]}, {data.train.names[3]}.")
    with pytest.raises(DataError, match=f"2 of {len(points)} clouds to train on have coordinates that are not finite: {named}"):
        run(model_of(), AUGMENTED, data)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("fit", [AUGMENTED, dataclasses.replace(QUICK, augment="none")], ids=["augmented", "cached"])
@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
def test_a_single_cloud_is_refused_by_name(pico_data, tuning, fit, count):
    data = dataclasses.replace(pico_data, train=pico_data.train.take(np.arange(count)))
    there = re.escape(pico_data.train.names[0]) if count else "none"
    with pytest.raises(DataError, match=rf"needs at least 2 clouds, and there is {count} \({there}.* Add clouds"):
        run(model_of(head=Mlp3Head(hidden=8)), fit, data, tuning)


def test_two_clouds_are_enough(pico_data):
    data = dataclasses.replace(pico_data, train=pico_data.train.take(np.arange(2)))
    assert len(run(model_of(head=Mlp3Head(hidden=8)), AUGMENTED, data)) == 2


def test_a_long_batch_is_named_by_its_first_files(pico_data):
    model = model_of()
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"\((solids train/\w+/\d\.ply, ){3}solids train/\w+/\d\.ply and \d+ more; their points"):
        run(model, QUICK, pico_data)


def test_drop_path_is_the_fits_while_training_and_the_backbones_after(pico_data):
    model, rates = model_of(), []
    drops = [module for module in model.modules() if isinstance(module, DropPath)]
    assert [drop.rate for drop in drops] == [0.0, 0.1]
    for rate in (0.4, None):
        run(model, dataclasses.replace(QUICK, drop_path=rate), pico_data, progress=lambda *_: rates.append([drop.rate for drop in drops]))
        assert [drop.rate for drop in drops] == [0.0, 0.1]
    assert rates == [[0.0, 0.4]] * 2 + [[0.0, 0.1]] * 2


def test_drop_path_changes_the_training(pico_data):
    ends = []
    for rate in (0.0, 0.5):
        model = model_of()
        run(model, dataclasses.replace(QUICK, drop_path=rate), pico_data)
        ends.append(bits(model.state_dict()))
    assert ends[0] != ends[1]


@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
def test_recomputed_blocks_train_to_the_same_bits(pico_data, monkeypatch, tuning):
    ends, calls = [], []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, *seen: calls.append(torch.is_grad_enabled()) or forward(self, *seen))
    for on in (False, True):
        model = model_of()
        run(model, dataclasses.replace(AUGMENTED, recompute=on), pico_data, tuning)
        assert not any(module.recomputed for module in model.modules() if isinstance(module, Transformer)), "it is the training's alone"
        ends.append((bits(model.state_dict()), sum(calls)))
        calls.clear()
    (kept, once), (again, twice) = ends
    assert kept == again
    assert twice == 2 * once
    assert (once > 0) == tuning.moves_features


def test_labels_are_smoothed_over_the_others_as_in_the_released_codes():
    logits, target = torch.tensor([[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 3.0, -2.0]]), torch.tensor([0, 1])
    # By hand: 0.7 for the class and 0.1 for each of the three others.
    weights = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]])
    torch.testing.assert_close(smoothed(logits, target, 0.3), -(weights * logits.log_softmax(1)).sum(1).mean())
    # Torch's form gives the class a quarter of what is spread: 0.4 there is 0.3 here.
    torch.testing.assert_close(smoothed(logits, target, 0.3), F.cross_entropy(logits, target, label_smoothing=0.4))
    assert smoothed(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), 0.3).item() == 0.0


def test_the_loss_smooths_as_it_was_asked(pico_data):
    model = model_of()
    with torch.inference_mode():
        logits = model(torch.from_numpy(pico_data.train.points))
    fit = Fit(epochs=1, batch=64, augment="none", smoothing=0.3, smoothing_over="others")
    expected = smoothed(logits, torch.from_numpy(pico_data.train.labels), 0.3).item()
    assert run(copy.deepcopy(model), fit, pico_data, Linear())[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_recons_group_is_its_class_token_with_its_place_and_the_head(groups, pico_data):
    spec = ReConSpec(points=64, groups=8, group_size=8, width=16, depth=2, heads=2, tokenizer=(8, 8, 8), initial="fan-in")
    model = model_of(spec, Mlp3Head(hidden=8))
    run(model, dataclasses.replace(QUICK, group=("cls", "head."), group_lr=10.0, group_decay=0.05), pico_data)
    names = {id(value): name for name, value in model.named_parameters()}
    own = {names[id(value)] for value in groups[-1]["params"]}
    assert (groups[-1]["times"], groups[-1]["weight_decay"]) == (10.0, 0.05)
    assert own == {"backbone.cls_token", "backbone.cls_pos", *(name for name in names.values() if name.startswith("head."))}
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_a_group_that_nothing_is_of_is_refused(pico_data):
    with pytest.raises(UsageError, match=r"no parameter that trains has 'cls' in its name\. They begin with: head"):
        run(model_of(), dataclasses.replace(QUICK, group=("head.", "cls"), group_lr=10.0), pico_data, Linear())


@pytest.mark.parametrize("tuning", [Full(), Linear()], ids=str)
def test_each_step_sees_points_drawn_from_the_pool(pico_data, monkeypatch, tuning):
    dense = np.concatenate([pico_data.train.points, pico_data.train.points[:, ::-1] * 0.9], axis=1)
    train = Labelled(dense, pico_data.train.labels, pico_data.train.names, "dense")
    model, seen = model_of(), []
    group = model.group
    monkeypatch.setattr(model, "group", lambda points: seen.append(points) or group(points))
    fit = dataclasses.replace(QUICK, batch=36, pool=80, pool_of=128)
    frozen = None if tuning.moves_features else "the start"
    tune(model, tuning.freeze(model), fit, train, None, 0, frozen_key=frozen, bank=FeatureBank(CPU))
    assert [tuple(points.shape) for points in seen] == [(36, 64, 3)] * 2
    for epoch, points in enumerate(seen):
        rows = next(loop.batches(36, 36, 0, epoch))
        draw = torch_generator(0, "pool", epoch, *map(int, rows))
        assert torch.equal(points, redraw(torch.from_numpy(dense[rows]), 64, 80, draw))


def test_a_pool_smaller_than_what_the_backbone_takes_is_refused(pico_data):
    with pytest.raises(UsageError, match=r"pool=63: the backbone takes clouds of 64 points, .* at least pool=64"):
        run(model_of(), dataclasses.replace(QUICK, pool=63), pico_data)
