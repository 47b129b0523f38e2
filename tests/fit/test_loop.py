from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from kept import Kept, save_each_epoch, until_done
from torch import nn

from wisetune.errors import DataError, TrainingError, UsageError
from wisetune.fit.loop import Schedule, Training, batches, decay_groups, percentile, train

X = torch.linspace(-1, 1, 22).reshape(11, 2)
Y = X @ torch.tensor([[2.0], [-1.0]]) + 0.5


def line(start: float = 0.1) -> nn.Linear:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, start)
    nn.init.zeros_(model.bias)
    return model


def training(model: nn.Module, **options) -> Training:
    def loss(rows, _):
        return (model(X[torch.from_numpy(rows)]) - Y[torch.from_numpy(rows)]).square().mean()

    return Training(model, loss, len(X), decay_groups(dict(model.named_parameters())), **options)


def test_the_rate_rises_linearly_and_falls_by_half_a_cosine():
    schedule = Schedule(epochs=12, batch=4, lr=1.0, warmup=2.0, lr_final=0.2)
    expected = {0: 0.2, 0.5: 0.4, 1: 0.6, 2: 1.0, 7: 0.6, 4.5: 0.2 + 0.4 * (1 + math.sqrt(0.5)), 12: 0.2, 13: 0.2}
    assert {epoch: schedule.lr_at(epoch) for epoch in expected} == pytest.approx(expected)


def test_without_warm_up_the_rate_begins_at_its_peak():
    assert Schedule(epochs=4, batch=4, lr=1.0).lr_at(0) == 1.0
    assert Schedule(epochs=1, batch=4, lr=1.0, warmup=1.0, lr_final=0.0).lr_at(0.5) == 0.5


@pytest.mark.parametrize(("count", "size", "sizes"), [(11, 4, [4, 4]), (12, 4, [4, 4, 4]), (3, 4, [3]), (4, 4, [4]), (0, 4, [])])
def test_a_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one(count, size, sizes):
    found = list(batches(count, size, 0, 0))
    assert [len(rows) for rows in found] == sizes
    rows = np.concatenate(found).tolist() if found else []
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(count))


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    orders = {(seed, epoch): np.concatenate(list(batches(50, 5, seed, epoch))).tolist() for seed in (0, 1) for epoch in (0, 1)}
    assert len({tuple(order) for order in orders.values()}) == 4
    assert np.concatenate(list(batches(50, 5, 1, 1))).tolist() == orders[1, 1]
    assert sorted(orders[0, 0]) == list(range(50))


def test_the_loop_takes_the_steps_of_torchs_adamw_with_the_schedules_rates():
    schedule = Schedule(epochs=3, batch=4, lr=0.1, weight_decay=0.3, warmup=1.0, lr_final=0.001, clip=0.5)
    ours, hand = line(), line()
    log = train(training(ours), schedule, seed=7)

    adamw = torch.optim.AdamW([{"params": [hand.weight], "weight_decay": 0.3}, {"params": [hand.bias], "weight_decay": 0.0}])
    losses, rates = [], []
    for epoch in range(3):
        losses.append(0.0)
        for step, rows in enumerate(batches(11, 4, 7, epoch)):
            rates.append(schedule.lr_at(epoch + step / 2))
            for group in adamw.param_groups:
                group["lr"] = rates[-1]
            adamw.zero_grad()
            loss = training(hand).loss(rows, epoch)
            loss.backward()
            nn.utils.clip_grad_norm_(hand.parameters(), 0.5)
            adamw.step()
            losses[-1] += loss.item() / 2
    assert torch.equal(ours.weight, hand.weight)
    assert torch.equal(ours.bias, hand.bias)
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    assert [entry["loss"] for entry in log] == pytest.approx(losses)
    assert [entry["lr"] for entry in log] == rates[1::2]


def test_a_gradient_that_is_too_long_is_cut():
    short, long = line(5.0), line(5.0)
    train(training(short), Schedule(epochs=1, batch=11, lr=0.1, clip=1e-9), 0)
    train(training(long), Schedule(epochs=1, batch=11, lr=0.1, clip=1e9), 0)
    # AdamW's first step is lr * g / (|g| + eps): only a gradient cut far below eps makes it small.
    assert (short.weight - 5.0 * (1 - 0.1 * 0.05)).abs().max() < 0.02
    assert (long.weight - 5.0 * (1 - 0.1 * 0.05)).abs().min() > 0.09


def test_what_decays_and_what_does_not():
    model = line()
    groups = decay_groups(dict(model.named_parameters()))
    assert [group["params"] for group in groups] == [[model.weight], [model.bias]]
    assert ["weight_decay" in group for group in groups] == [False, True]
    assert groups[1]["weight_decay"] == 0.0
    assert decay_groups({"bias": model.bias}) == [{"params": [model.bias], "weight_decay": 0.0}]


def test_tokens_and_biases_of_any_shape_do_not_decay_and_embeddings_of_places_do():
    # As the released code has it: the class token's place (cls_pos) decays, the token itself does not.
    table = {name: nn.Parameter(torch.zeros(1, 1, 4)) for name in ("cls_token", "mask_token", "conv.bias", "cls_pos", "qkv.weight")}
    table["norm.weight"] = nn.Parameter(torch.zeros(4))
    decayed, plain = ([name for name in table if any(table[name] is value for value in group["params"])] for group in decay_groups(table))
    assert decayed == ["cls_pos", "qkv.weight"]
    assert plain == ["cls_token", "mask_token", "conv.bias", "norm.weight"]


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_step_that_is_not_finite_stops_the_training_and_is_not_taken(poison):
    model = line()
    healthy = training(model)

    def loss(rows, epoch):
        value = healthy.loss(rows, epoch)
        if epoch == 1:
            # The square root of 0 is 0, and its slope is infinite.
            value = value * math.inf if poison == "loss" else value + (model.bias * 0).sqrt().sum()
        return value

    sick = Training(model, loss, len(X), healthy.groups, name_of=lambda rows: f"cloud {rows[0]}.ply and others")
    seen = []
    sick.before_epoch = lambda: seen.append(model.weight.detach().clone())
    with pytest.raises(TrainingError, match=r"at epoch 2, batch 1 \(cloud \d+\.ply and others\)\. Nothing of this step was kept"):
        train(sick, Schedule(epochs=3, batch=4, lr=0.1), 0)
    assert len(seen) == 2
    assert torch.equal(seen[1], model.weight)


def test_a_batch_has_a_name_by_itself():
    model = line()
    sick = Training(model, lambda *_: model(X).sum() * math.nan, 3, training(model).groups)
    with pytest.raises(TrainingError, match=r"\(items \d, \d, \d\)"):
        train(sick, Schedule(epochs=1, batch=4, lr=0.1), 0)


def test_batches_of_one_are_refused_before_torch_does():
    with pytest.raises(UsageError, match=r"batch=1; .* at least 2"):
        train(training(line()), Schedule(epochs=1, batch=1, lr=0.1), 0)
    for count, there in ((1, "items 0"), (0, "none")):
        with pytest.raises(DataError, match=rf"needs at least 2 clouds, and there is {count} \({there}\)"):
            train(dataclasses.replace(training(line()), count=count), Schedule(epochs=1, batch=4, lr=0.1), 0)


def test_the_caller_is_told_of_each_epoch_and_may_add_to_its_line():
    model, told, modes = line(), [], []
    own = training(model, before_epoch=lambda: modes.append("train"), after_epoch=lambda done: modes.append("look") or {"half": done / 2})
    log = train(own, Schedule(epochs=2, batch=4, lr=0.1), 0, progress=lambda done, total, line: told.append((done, total, line["half"])))
    assert told == [(1, 2, 0.5), (2, 2, 1.0)]
    assert modes == ["train", "look", "train", "look"]
    assert [entry["half"] for entry in log] == [0.5, 1.0]


def test_a_state_is_saved_when_time_has_passed_and_always_at_the_end(monkeypatch):
    kept = Kept()
    train(training(line()), Schedule(epochs=4, batch=4, lr=0.1), 0, kept)
    assert kept.saves == 1  # no test is slow enough for another
    save_each_epoch(monkeypatch)
    kept = Kept()
    train(training(line()), Schedule(epochs=4, batch=4, lr=0.1), 0, kept)
    assert kept.saves == 4


def test_a_training_that_had_ended_is_not_begun_again():
    kept, model = Kept(), line()
    log = train(training(model), Schedule(epochs=2, batch=4, lr=0.1), 0, kept)
    again = line(9.0)
    assert train(training(again), Schedule(epochs=2, batch=4, lr=0.1), 0, kept) == log
    assert torch.equal(again.weight, model.weight)


def test_dropout_of_an_epoch_does_not_depend_on_what_ran_before(monkeypatch):
    save_each_epoch(monkeypatch)

    def run(kept):
        model = nn.Sequential(line(), nn.Dropout(0.5))
        own = training(model)
        own.groups = decay_groups(dict(model.named_parameters()))
        return train(own, Schedule(epochs=4, batch=4, lr=0.1), 0, kept), model[0].weight.tolist()

    assert until_done(run, Kept(), 1, 3) == until_done(run, Kept(), 2, 1) == until_done(run, Kept(), 0, 0)


def test_the_callers_random_state_is_as_it_was():
    own = training(nn.Sequential(line(), nn.Dropout(0.5)))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(own, Schedule(epochs=2, batch=4, lr=0.1), 0)
    assert torch.equal(torch.get_rng_state(), before)


# 300 epochs, 10 of warm-up from 1e-6, peak 5e-4, lowest 1e-6, worked out by hand from timm's rule: within the warm-up 1e-6 + t (5e-4 - 1e-6) / 10,
# then 1e-6 + (5e-4 - 1e-6) (1 + cos(pi t / 300)) / 2, and the lowest from 300 on.
TIMM = {
    0: 1e-6,
    1: 5.09e-5,
    5: 2.505e-4,
    9: 4.501e-4,
    10: 4.98633212e-4,
    75: 4.26923142e-4,
    150: 2.505e-4,
    225: 7.40768581e-5,
    299: 1.01367979e-6,
    300: 1e-6,
    305: 1e-6,
}
OFFICIAL = Schedule(epochs=300, batch=32, lr=5e-4, warmup=10, warmup_lr=1e-6, cosine="timm")


def test_the_rate_of_timm_stands_for_an_epoch_and_falls_from_the_first_on():
    assert {epoch: OFFICIAL.lr_at(epoch) for epoch in TIMM} == pytest.approx(TIMM, rel=1e-8)
    assert OFFICIAL.lr_at(9.99) == OFFICIAL.lr_at(9)


def test_the_rate_as_published_is_that_of_the_epoch_before_and_a_training_may_be_longer_than_its_cosine():
    late = dataclasses.replace(OFFICIAL, epochs=301, cosine="timm-late", cosine_epochs=300)
    assert late.lr_at(0) == late.lr_at(1) == 1e-6
    assert {epoch + 1: late.lr_at(epoch + 1) for epoch in TIMM} == pytest.approx(
        {epoch + 1: rate for epoch, rate in TIMM.items()}, rel=1e-8
    )


def test_a_group_of_its_own_has_a_higher_peak_and_the_same_ends():
    assert {epoch: OFFICIAL.lr_at(epoch, times=10) for epoch in (0, 5, 150, 300)} == pytest.approx(
        {0: 1e-6, 5: 2.5005e-3, 150: 2.5005e-3, 300: 1e-6}, rel=1e-9
    )
    smooth = Schedule(epochs=12, batch=4, lr=0.1, warmup=2.0, lr_final=0.2)
    assert smooth.lr_at(7, times=10) == pytest.approx(0.6)


def test_the_warm_up_may_begin_elsewhere_than_the_cosine_ends():
    schedule = dataclasses.replace(OFFICIAL, lr_final=1e-7)
    assert (schedule.lr_at(0), schedule.lr_at(300)) == (1e-6, 1e-7)


def test_names_that_have_a_part_are_a_group_of_their_own():
    table = {name: nn.Parameter(torch.zeros(2, 4)) for name in ("cls_token", "cls_pos", "qkv.weight", "head.0.weight")}
    table |= {name: nn.Parameter(torch.zeros(4)) for name in ("norm.weight", "head.0.bias")}

    def told(*options):
        return [
            (
                [name for name in table if any(table[name] is value for value in group["params"])],
                *[group.get(key) for key in ("times", "weight_decay")],
            )
            for group in decay_groups(table, *options)
        ]

    apart = ["cls_token", "cls_pos", "head.0.weight", "head.0.bias"]
    # ReCon's code decays all of its group, tokens and biases too; without a decay of its own the field's rule holds in it.
    assert told(("cls", "head."), 10.0, 0.05) == [(["qkv.weight"], None, None), (["norm.weight"], None, 0.0), (apart, 10.0, 0.05)]
    assert told(("cls", "head."), 10.0) == [
        (["qkv.weight"], None, None),
        (["norm.weight"], None, 0.0),
        (["cls_pos", "head.0.weight"], 10.0, None),
        (["cls_token", "head.0.bias"], 10.0, 0.0),
    ]


def test_a_group_of_its_own_takes_steps_at_its_own_rate_and_decay():
    schedule = Schedule(epochs=2, batch=4, lr=0.01, weight_decay=0.3, lr_final=0.001)
    ours, hand = line(), line()
    task = training(ours)
    task.groups = decay_groups(dict(ours.named_parameters()), ("bias",), 10.0, 0.2)
    train(task, schedule, seed=7)
    adamw = torch.optim.AdamW([{"params": [hand.weight], "weight_decay": 0.3}, {"params": [hand.bias], "weight_decay": 0.2}])
    for epoch in range(2):
        for step, rows in enumerate(batches(11, 4, 7, epoch)):
            for group, times in zip(adamw.param_groups, (1.0, 10.0), strict=True):
                group["lr"] = schedule.lr_at(epoch + step / 2, times)
            adamw.zero_grad()
            training(hand).loss(rows, epoch).backward()
            nn.utils.clip_grad_norm_(hand.parameters(), schedule.clip)
            adamw.step()
    assert torch.equal(ours.weight, hand.weight)
    assert torch.equal(ours.bias, hand.bias)


def test_the_running_percentile_is_the_smallest_so_far_until_there_are_twenty_and_then_the_second():
    norms = list[float]()
    limits = [percentile(norms, 10.0, float(norm)) for norm in (5, 3, 4, *range(30, 10, -1))]
    # Of n norms before, the k-th smallest with k = n // 10 and at least 1: 20 norms have been met when the 21st comes.
    assert limits == [5.0, *[3.0] * 19, 4.0, 4.0, 4.0]
    assert norms == sorted(norms)


def test_a_gradient_is_cut_at_the_percentile_of_the_norms_so_far():
    schedule = Schedule(epochs=2, batch=4, lr=0.1, clip=1e-9, clip_percentile=50.0)
    ours, hand = line(), line()
    train(training(ours), schedule, seed=7)
    adamw = torch.optim.AdamW([{"params": [hand.weight]}, {"params": [hand.bias], "weight_decay": 0.0}], weight_decay=schedule.weight_decay)
    met = []
    for epoch in range(2):
        for step, rows in enumerate(batches(11, 4, 7, epoch)):
            for group in adamw.param_groups:
                group["lr"] = schedule.lr_at(epoch + step / 2)
            adamw.zero_grad()
            training(hand).loss(rows, epoch).backward()
            met.append(torch.cat([value.grad.flatten() for value in hand.parameters()]).norm().item())
            nn.utils.clip_grad_norm_(hand.parameters(), sorted(met)[max((len(met) - 1) // 2, 1) - 1])
            adamw.step()
    torch.testing.assert_close(ours.weight, hand.weight)
    torch.testing.assert_close(ours.bias, hand.bias)


def test_norms_so_far_survive_a_kill(monkeypatch):
    save_each_epoch(monkeypatch)
    schedule = Schedule(epochs=5, batch=4, lr=0.1, clip_percentile=30.0)

    def run(kept):
        model = line()
        train(training(model), schedule, 0, kept)
        return model.weight.tolist()

    assert until_done(run, Kept(), kill_after=1, kills=4) == until_done(run, Kept(), kill_after=0, kills=0)


def test_a_loss_that_is_not_finite_is_found_where_norms_decide_too():
    model = line()
    sick = Training(model, lambda *_: model(X).sum() * math.nan, 3, training(model).groups)
    with pytest.raises(TrainingError, match="at epoch 1, batch 1"):
        train(sick, Schedule(epochs=1, batch=4, lr=0.1, clip_percentile=10.0), 0)
