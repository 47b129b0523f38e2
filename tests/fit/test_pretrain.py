from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import pico
from pico import FAMILIES, PYRAMID, SPEC, TOKEN_SPEC, bits
from wisetune.errors import UsageError
from wisetune.fit import pretrain as module
from wisetune.fit.pretrain import Pretrain, Shapes, pretrain
from wisetune.nets.backbone import build_empty
from wisetune.nets.families.act import ACTSpec
from wisetune.runtime import torch_generator

OPTIONS = {"epochs": 3, "batch": 8, "warmup": 1.0, "decoder_depth": 1}


@pytest.fixture(scope="module")
def shapes():
    points = pico.data().train.points
    return [Shapes(points[:20].astype(np.float16), "z"), Shapes(points[20:], "y")]


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES)
def spec(request):
    return request.param


def test_the_loss_falls(shapes, spec):
    for options in ({"contrast": 0.0}, {}):
        log = pretrain(spec, shapes, Pretrain(**OPTIONS, lr=1e-2, **options))[1]
        assert len(log) == 3
        assert log[-1]["loss"] < 0.8 * log[0]["loss"]


def test_it_gives_an_encoder_for_fine_tuning(shapes):
    encoder, _ = pretrain(TOKEN_SPEC, shapes, Pretrain(**OPTIONS | {"epochs": 1}))
    assert encoder.spec == SPEC
    assert not any(part.training for part in encoder.modules())
    assert not encoder.anatomy.fresh


@pytest.mark.parametrize("given", [PYRAMID, dataclasses.replace(PYRAMID, norm="final")])
def test_of_a_pyramid_too(shapes, given):
    encoder, _ = pretrain(given, shapes, Pretrain(**OPTIONS | {"epochs": 1}))
    assert encoder.spec == PYRAMID
    assert set(encoder.state_dict()) == set(build_empty(PYRAMID).state_dict())
    assert not any(part.training for part in encoder.modules())
    assert all(value.requires_grad for value in encoder.parameters())
    assert not encoder.anatomy.fresh


def test_mask_and_decoder_are_the_familys_own_unless_given(shapes, spec):
    def log(**options):
        fixed = {key: value for key, value in OPTIONS.items() if key != "decoder_depth"} | {"epochs": 1, "batch": 18}
        return pretrain(spec, shapes, Pretrain(**fixed | options))[1]

    own = {"point-mae": {"mask": 0.6, "decoder_depth": 2}, "point-m2ae": {"mask": 0.8, "decoder_depth": 1}}[spec.name]
    assert log() == log(**own)
    assert log() != log(decoder_depth=3)
    assert (Pretrain().of(spec), Pretrain(mask=0.5).of(spec).mask) == (Pretrain(**own), 0.5)


def test_a_family_that_cannot_be_pre_trained_is_refused_with_those_that_can(shapes):
    with pytest.raises(UsageError, match=r"^'act' cannot be pre-trained by wisetune\. These can: point-m2ae, point-mae\.$"):
        pretrain(ACTSpec(), shapes, Pretrain())


def test_the_same_options_give_the_same_bits_and_others_do_not(shapes, spec):
    def end(before, **options):
        torch.manual_seed(before)
        return bits(pretrain(spec, shapes, Pretrain(**OPTIONS | {"epochs": 2, "batch": 18} | options))[0].state_dict())

    first = end(0)
    assert end(1) == first
    others = {"seed": 1, "mask": 0.3, "contrast": 0.0}
    if spec == SPEC:  # what these say is no family's own
        others |= {"block": 1.0, "turned": 0.0, "augment": "jitter", "temperature": 1.0}
    assert [name for name, value in others.items() if end(0, **{name: value}) == first] == []


def test_global_random_states_stay_as_they_were(shapes, spec):
    states = torch.get_rng_state().tolist(), repr(np.random.get_state())  # noqa: NPY002
    pretrain(spec, shapes, Pretrain(**OPTIONS | {"epochs": 1}))
    assert (torch.get_rng_state().tolist(), repr(np.random.get_state())) == states  # noqa: NPY002


def test_without_contrast_the_loss_is_the_reconstruction_of_one_view(shapes, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "contrast", lambda *_: calls.append(1) or torch.zeros(()))
    pretrain(SPEC, shapes, Pretrain(**OPTIONS | {"epochs": 1, "contrast": 0.0}))
    assert not calls
    pretrain(SPEC, shapes, Pretrain(**OPTIONS | {"epochs": 1}))
    assert len(calls) == 36 // 8


def test_without_reconstruction_the_contrast_alone_trains(shapes, spec):
    log = pretrain(spec, shapes, Pretrain(**OPTIONS | {"epochs": 4}, lr=1e-2, rebuild=0.0, contrast=1.0))[1]
    assert log[-1]["loss"] < log[0]["loss"]


def test_a_mask_that_hides_no_patch_of_these_clouds_is_refused(shapes, spec):
    with pytest.raises(UsageError, match=r"mask=0\.1 hides 0 of 8 patches"):
        pretrain(spec, shapes, Pretrain(**OPTIONS, mask=0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "option 'epochs' of 'masked' is 0; it must be a whole number, at least 1"),
        ({"batch": 1}, "at least 2"),
        ({"lr": 0.0}, "above 0"),
        ({"weight_decay": -1.0}, "at least 0"),
        ({"warmup": -1.0}, "at least 0"),
        ({"mask": 7.0}, "'mask' of 'masked' is 7.0; it must be a number, above 0 and below 1"),
        ({"mask": 0.0}, "above 0 and below 1"),
        ({"mask": 1.0}, "above 0 and below 1"),
        ({"block": 1.5}, "at most 1"),
        ({"contrast": -0.1}, "at least 0"),
        ({"rebuild": -0.1}, "at least 0"),
        ({"contrast": 0.0, "rebuild": 0.0}, "nothing is learnt"),
        ({"temperature": 0.0}, "above 0"),
        ({"decoder_depth": 0}, "at least 1"),
        ({"augment": "scale-translat"}, "Did you mean 'scale-translate'"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        Pretrain(**options)


def test_the_weight_of_reconstruction_is_on_one_scale_with_and_without_contrast(shapes):
    """A tiny learning rate: the losses are those of the first weights, whose two views differ little."""
    fixed = OPTIONS | {"epochs": 1, "lr": 1e-12}

    def loss(**options):
        return pretrain(SPEC, shapes, Pretrain(**fixed, **options))[1][0]["loss"]

    one = loss(contrast=0.0)
    assert loss(contrast=0.0, rebuild=3.0) == pytest.approx(3 * one, rel=1e-5)
    assert loss(contrast=1e-9) == pytest.approx(2 * one, rel=0.1)


def test_warm_up_takes_at_most_half_of_a_short_pre_training():
    assert Pretrain(epochs=4).schedule.warmup == 2.0
    assert Pretrain().schedule.warmup == 10.0
    assert Pretrain().schedule.lr_final == 1e-6


def test_a_view_is_a_subset_turned_about_the_shapes_own_up_axis(shapes):
    views = module._Views(shapes, 40, Pretrain(augment="none"))
    assert len(views) == 36
    rows = np.array([35, 0, 20, 19])
    drawn = views.draw(rows, torch_generator("test")).numpy()
    for row, view in zip(rows, drawn, strict=True):
        source, at, up, across = (shapes[0], row, 2, [0, 1]) if row < 20 else (shapes[1], row - 20, 1, [0, 2])
        whole = source.points[at].astype(np.float32)
        heights = {round(float(height), 5) for height in whole[:, up]}
        assert {round(float(height), 5) for height in view[:, up]} <= heights
        assert len(np.unique(view[:, up])) >= 35  # no point twice (but for equal heights)
        radii = np.linalg.norm(view[:, across], axis=1)
        assert all(np.abs(np.linalg.norm(whole[:, across], axis=1) - radius).min() < 1e-5 for radius in radii)
        assert np.abs(view[:, None] - whole[None]).max(axis=2).min() > 1e-4  # but it is turned


def test_the_share_of_turned_views_is_what_was_asked(shapes):
    rows = np.arange(36)
    for share, counts in ((0.0, {0}), (0.5, range(9, 28)), (1.0, {36})):
        drawn = module._Views(shapes, 40, Pretrain(augment="none", turned=share)).draw(rows, torch_generator("test")).numpy()
        wholes = [(shapes[0].points[row] if row < 20 else shapes[1].points[row - 20]).astype(np.float32) for row in rows]
        moved = [np.abs(view[0] - whole).max(axis=1).min() > 1e-4 for view, whole in zip(drawn, wholes, strict=True)]
        assert sum(moved) in counts
