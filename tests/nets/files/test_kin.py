"""Another family's encoder in a plain classifier: only where it is asked for, and told as what it is."""

from __future__ import annotations

import pytest
import torch

from net_samples import TINY_OPTIONS, cloud
from wisetune.errors import UsageError, WeightsError, as_typed
from wisetune.nets.backbone import Backbone
from wisetune.nets.create import create, parse_backbone, with_options
from wisetune.nets.files.official import load_official
from wisetune.nets.files.pretrained import resolve
from wisetune.nets.model import Model

LAYOUTS = {
    "act": ("ACT_encoder.", {"proj_head.0.weight": (4, 4), "dvae_tokenizer.encoder.a": (3,), "ACT_decoder.norm.weight": (16,)}),
    "maskpoint": ("transformer_q.", {"transformer_k.norm.weight": (16,), "bin_cls_head.0.weight": (4, 4), "queue": (4, 8)}),
    "point-bert": (
        "transformer_q.",
        {"transformer_k.norm.weight": (16,), "dvae.codebook": (8, 4), "transformer_q.lm_head.weight": (8, 16)},
    ),
    "recon": ("MAE_encoder.", {"MAE_decoder.norm.weight": (16,), "img_proj.weight": (8, 16), "increase_dim.0.bias": (6,)}),
}
"""Of each family what its encoder's names begin with in a pre-training file, and some of what lies beside it."""
WIDE = {"maskpoint", "point-bert"}
"""Families whose tokens pass a linear map."""


def sizes(family: str, **options: object) -> dict[str, object]:
    return {**TINY_OPTIONS, **({"token_width": 12} if family in WIDE else {}), **options}


def encoder(family: str, **options: object) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return with_options(parse_backbone(family), sizes(family, **options)).build()


def file(family: str, **options: object) -> dict[str, torch.Tensor]:
    """A pre-training file in the family's official layout."""
    prefix, beside = LAYOUTS[family]
    within = {f"module.{prefix}{name}": value for name, value in encoder(family, **options).state_dict().items()}
    return {**within, **{f"module.{name}": torch.ones(shape) for name, shape in beside.items()}}


@pytest.fixture(params=LAYOUTS)
def family(request) -> str:
    return request.param


def classifier(family: str, name: str = "point-mae", **options: object) -> Model:
    return create(name, classes=3, **sizes(family, **options))


def test_the_encoder_of_a_pretraining_file(family, tmp_path):
    torch.save({"base_model": file(family), "epoch": 300}, tmp_path / "pretrain.pth")
    model, lender = classifier(family), encoder(family).state_dict()
    report = load_official(model, tmp_path / "pretrain.pth", family=family)
    assert (report.family, report.coverage) == (family, 1.0)
    state = model.state_dict()
    head = {name for name in state if name.startswith("cls_head_finetune.")}
    assert set(report.loaded) == set(state) - head == set(lender) & set(state)
    assert all(torch.equal(state[name], lender[name]) for name in report.loaded)
    assert set(report.fresh) == head
    assert set(report.ignored) == {key.removeprefix("module.") for key in file(family)} - set(report.loaded.values())
    text = str(report)
    assert f"note             this is the encoder of {family}; patches are cut as by a point-mae" in text
    assert f"cls_token and cls_pos are {family}'s, pre-trained; mixing takes them from the fine-tuned model all the same" in text
    assert ("another function than the one that was pre-trained" in text) == (family == "recon")


def test_it_is_refused_where_it_is_not_asked_for(family):
    model = classifier(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        WeightsError, match=f"It looks like {family} with .* A point-mae takes its encoder where that is asked for: family='{family}'"
    ):
        load_official(model, file(family))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_way_names_the_sizes_that_the_model_lacks():
    with pytest.raises(
        WeightsError, match=r"A point-mae of width=32, token-width=12 takes its encoder .*family='point-bert'\. Nothing was"
    ):
        load_official(create("point-mae", classes=3, **TINY_OPTIONS), file("point-bert", width=32))


def test_the_way_names_every_family_that_a_classifier_may_be_of():
    source = classifier("point-bert", "point-bert").state_dict()
    way = r"A point-mae of token-width=12 takes its encoder .*: family='maskpoint' or family='point-bert', whichever it is\."
    with pytest.raises(WeightsError, match=f"It looks like maskpoint or point-bert with .*{way}"):
        load_official(create("point-mae", classes=3, **TINY_OPTIONS), source)


def test_a_way_that_would_not_work_is_not_named():
    narrow = create("act", classes=3, **sizes("act", width=32, tokenizer=(4, 4, 4))).state_dict()
    mask = classifier("maskpoint", "maskpoint")
    with pytest.raises(
        WeightsError, match=r"A maskpoint of width=32, tokenizer=4\+4\+4, token-width=none takes its encoder .*family='act'"
    ):
        load_official(mask, narrow)
    # Its heads do not divide that width, so no maskpoint with it can be named without another change.
    odd = create("act", classes=3, **sizes("act", width=33, heads=3)).state_dict()
    with pytest.raises(WeightsError) as told:
        load_official(mask, odd)
    assert "takes its encoder" not in str(told.value)


def test_a_way_leaves_the_class_token_as_it_is_where_that_works():
    with pytest.raises(WeightsError, match=r"A point-mae takes its encoder where that is asked for: family='act'"):
        load_official(classifier("act", class_token=False, readout="max+mean"), file("act"))


def test_on_the_command_line_the_way_is_spelled_as_there():
    with as_typed(), pytest.raises(WeightsError, match=r"asked for: --family recon\. Nothing"):
        load_official(classifier("recon"), file("recon"))


def test_the_note_on_the_class_token_names_the_families_that_mix_it():
    report = load_official(classifier("recon"), file("recon"), family="recon")
    assert "as of every point-mae; load it into act or maskpoint or point-bert to have them mixed" in str(report)


def test_two_plain_families_are_one_function_and_recon_is_another():
    points = cloud(0, 2, 64)
    for family in LAYOUTS:
        own, borrowed = encoder(family).eval(), classifier(family, head="linear").backbone
        load_official(borrowed, file(family), family=family)
        with torch.no_grad():
            tokens, seen = own(points), borrowed(points)
        assert torch.allclose(tokens.patch, seen.patch, atol=1e-6) == (family != "recon")
        assert torch.allclose(tokens.lead[:, :1], seen.lead, atol=1e-6) == (family != "recon")


def test_a_plain_encoder_without_class_token_leaves_that_out():
    backbone = classifier("recon", class_token=False, readout="max+mean").backbone
    report = load_official(backbone, file("recon"), family="recon")
    assert {"MAE_encoder.cls_token", "MAE_encoder.img_pos", "MAE_encoder.blocks.blocks.0.norm1_contrast.weight"} <= set(report.ignored)
    assert (report.fresh, report.coverage) == ((), 1.0)
    assert not any("cls_token" in note for note in report.notes)


def test_an_act_mixes_the_class_token_and_has_nothing_to_say_of_it():
    model = classifier("recon", "act")
    report = load_official(model, file("recon"), family="recon")
    assert len(report.notes) == 2
    assert torch.equal(model.backbone.cls_token, encoder("recon").cls_token)


def test_a_deeper_encoder_is_not_cut():
    with pytest.raises(WeightsError, match=r"22 of its tensors have no place in point-mae:.*: MAE_encoder \(22\).*It looks like recon"):
        load_official(classifier("recon"), file("recon", depth=4), family="recon")


def test_a_family_that_the_file_is_none_of():
    with pytest.raises(WeightsError, match=r"family='recon' was given, and it is none of that family's\. It looks like act with"):
        load_official(classifier("act"), file("act"), family="recon")


def test_its_own_family_changes_nothing():
    source = create("point-mae", classes=3, seed=4, **TINY_OPTIONS).state_dict()
    report = load_official(create("point-mae", classes=3, **TINY_OPTIONS), source, family="point-mae")
    assert (report.family, report.notes, report.fresh) == ("", (), ())


@pytest.mark.parametrize(("name", "family"), [("recon", "act"), ("point-mae", "point-m2ae"), ("point-m2ae", "point-mae")])
def test_other_architectures_are_no_kin(name, family):
    model = create(f"{name}-mini", classes=2)
    with pytest.raises(UsageError, match=f"family='{family}' was given with a {name}: their encoders are different architectures"):
        load_official(model, {}, family=family)


def test_a_family_that_there_is_none_of():
    with pytest.raises(UsageError, match=r"there is no backbone 'reckon'.*Did you mean 'recon'"):
        load_official(create("point-mae", classes=3, **TINY_OPTIONS), {}, family="reckon")


def test_a_start_of_another_family(tmp_path):
    torch.save({"base_model": file("recon")}, tmp_path / "pretrain.pth")
    spec = classifier("recon").backbone.spec
    with pytest.raises(WeightsError, match="family='recon'"):
        resolve(tmp_path / "pretrain.pth", spec)
    found = resolve(tmp_path / "pretrain.pth", spec, family="recon")
    assert (found.spec, found.report.family) == (spec, "recon")
    assert torch.equal(found.load().cls_token, encoder("recon").cls_token)
    with pytest.raises(UsageError, match=r"'point-mae-mini' .*family='recon'.* released checkpoint"):
        resolve("point-mae-mini", family="recon")
