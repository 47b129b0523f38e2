"""Released files of tuned models: their names are ours by a pure map, both ways; and every way in which a file can be another's."""

from __future__ import annotations

import pytest
import torch

from my_tunings import Adapter
from net_samples import TINY_OPTIONS, TINY_PLAIN, cloud
from tuned_samples import RELEASED, empty, schema_of
from wisetune import create, load_official, official_state, resolve
from wisetune.errors import UsageError, WeightsError
from wisetune.nets.masked import MaskedAutoencoder
from wisetune.tune.dapt import DAPT
from wisetune.tune.tunings import TUNINGS

TUNED = ["dapt:rank=4", "dapt:rank=4,readout=prompts", "dapt:rank=6,readout=tokens", "idpt", "idpt:layer=0,readout=prompt", "vpt:prompts=3"]
CLOUDS = cloud(0, 2, 64)


def tiny(tuning: str | None, seed: int = 0, classes: int = 3, **options):
    return create("point-mae", classes=classes, tuning=tuning, seed=seed, reading="as_published", **TINY_OPTIONS | options)


def trained(tuning: str, seed: int = 7):
    """As if it had been trained: every value has moved."""
    model = tiny(tuning, seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not name.endswith(".share"):
                value += 0.1 * torch.rand_like(value)
    return model


def written(path, model, **more):
    """A file as the released codes write theirs."""
    torch.save({"base_model": {f"module.{name}": value for name, value in official_state(model).items()}, "epoch": 300, **more}, path)
    return path


def logits(model):
    with torch.no_grad():
        return model(CLOUDS)


@pytest.mark.parametrize("case", RELEASED)
def test_names_and_shapes_are_the_released_ones(shared, case):
    schema = schema_of(shared, case)
    model, tuning = empty(RELEASED[case], schema["config"]["cls_dim"], groups=schema["config"]["num_group"])
    theirs = {name: tuple(value.shape) for name, value in official_state(model).items()}
    assert theirs == {name: tuple(entry["shape"]) for name, entry in schema["entries"].items()}
    assert sum(value.numel() for value in model.parameters()) == schema["n_total"]
    chosen = tuning.freeze(model)
    assert sum(value.numel() for value in chosen.values()) == schema["n_trainable"]
    own = {name.removeprefix("backbone.").replace("head.", "cls_head_finetune.", name.startswith("head.")) for name in chosen}
    trains = {theirs for name in own for theirs in tuning.released(name) or (name,)}
    assert trains == {name for name, entry in schema["entries"].items() if entry["trainable"]}


@pytest.mark.parametrize("tuning", TUNED)
def test_a_released_file_loads_into_a_model_with_its_grafts(tmp_path, tuning):
    source, model = trained(tuning), tiny(tuning)
    assert not torch.equal(logits(model), logits(source))
    report = load_official(model, written(tmp_path / "ckpt-best.pth", source))
    assert torch.equal(logits(model), logits(source))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    assert (report.coverage, report.fresh, report.ignored, report.mismatched, report.notes) == (1.0, (), (), (), ())
    assert (report.layout, report.prefix) == ("base_model", "module.")


def test_another_number_of_classes_keeps_the_head_fresh(tmp_path):
    report = load_official(tiny("dapt:rank=4", classes=5), written(tmp_path / "w.pth", trained("dapt:rank=4")))
    assert report.coverage == 1
    assert {name.partition(".")[0] for name in report.fresh} == {"cls_head_finetune"}


def test_a_norm_that_stands_twice_has_the_values_that_torch_would_leave():
    """IDPT's BatchNorms are registered twice; of files in which the two differ the later name counts, whatever the order in the file."""
    source = trained("idpt")
    state = official_state(source)
    twice = {name: value for name, value in state.items() if name.startswith("blocks.cls.bn")}
    assert len(twice) == 4 * 5
    for order in (state, dict(reversed(state.items()))):
        model = tiny("idpt")
        report = load_official(model, {name: value + 1 if name in twice else value for name, value in order.items()})
        assert torch.equal(logits(model), logits(source))
        assert any("blocks.cls.bn1.weight and blocks.cls.conv1.1.weight are one tensor" in note for note in report.notes)
    for without in ("blocks.cls.bn", "blocks.cls.conv1.1"):
        model = tiny("idpt")
        load_official(model, {name: value for name, value in state.items() if not name.startswith(without)})
        assert torch.equal(logits(model), logits(source))


@pytest.mark.parametrize("tuning", ["dapt:rank=4", "idpt", "vpt", "lora:rank=4", "adapter:rank=4"])
def test_a_file_of_pre_training_leaves_the_grafts_fresh(tuning):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        pretraining = MaskedAutoencoder(TINY_PLAIN, decoder_depth=1)
    model = tiny(tuning)
    grafted = {
        name: value.clone() for name, value in model.state_dict().items() if any(name in graft.names for graft in model.backbone.grafts)
    }
    report = load_official(model, pretraining.state_dict())
    assert report.coverage == 1
    assert report.notes == ()
    assert grafted.keys() <= set(report.fresh)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in grafted.items())


def test_read_as_intended_the_report_says_that_positions_were_added_once():
    model = create("point-mae", classes=3, tuning="dapt:rank=4", **TINY_OPTIONS)
    (note,) = load_official(model, official_state(trained("dapt:rank=4"))).notes
    assert "trained with positions added once" in note
    assert "reading=as_published" in note


@pytest.mark.parametrize(
    ("file", "into", "says"),
    [
        (
            "dapt:rank=4",
            None,
            "it looks like dapt with rank=4, readout=all, and this model has no tuning.*tuning='dapt:rank=4,readout=all'",
        ),
        ("dapt:rank=4", "dapt:rank=6", "it looks like dapt with rank=4, readout=all, and this model has dapt:reading=as_published,rank=6"),
        ("dapt:rank=4", "dapt:rank=4,readout=tokens", "it looks like dapt with rank=4, readout=all, and .*readout=tokens"),
        ("dapt:rank=4,readout=tokens", "dapt:rank=4", "its head sees 32 numbers of a cloud, and here it would see 48: .*another readout"),
        ("dapt:rank=4", "idpt", "it looks like dapt with rank=4, readout=all, and this model has idpt"),
        ("dapt:rank=4", "lora:rank=4", "it looks like dapt with rank=4, readout=all, and this model has lora"),
        ("idpt", "dapt:rank=4", "it looks like idpt with readout=all, and this model has dapt"),
        ("idpt", "idpt:readout=prompt", "it looks like idpt with readout=all, and this model has idpt.*readout=prompt"),
        ("idpt:readout=prompt", None, "it looks like idpt with readout=prompt, and this model has no tuning"),
        ("vpt:prompts=3", None, "it looks like vpt with prompts=3, deep=true, and this model has no tuning"),
        ("vpt:prompts=3", "vpt", "it looks like vpt with prompts=3, deep=true, and this model has vpt"),
        ("vpt:prompts=3", "vpt:prompts=3,deep=false", "it looks like vpt with prompts=3, deep=true, and this model has vpt.*deep=false"),
    ],
)
def test_a_file_of_another_tuning_is_named(file, into, says):
    model = tiny(into)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"does not fit this point-mae: {says}.*Nothing was loaded"):
        load_official(model, official_state(trained(file)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("file", "missing"),
    [("dapt:rank=4", "Adapter_MLP"), ("dapt:rank=4", "tfts_gamma_2"), ("idpt", "prompt_pos"), ("vpt", "cls_prompt_pos")],
)
def test_a_file_with_a_part_of_a_tuning_is_refused(file, missing):
    state = {name: value for name, value in official_state(trained(file)).items() if missing not in name or "blocks.0.Adapter" in name}
    with pytest.raises(WeightsError, match=r"of the backbone's values, not 100\.0%; missing: "):
        load_official(tiny(file), state)


def test_weights_of_a_tuned_model_are_no_backbone(tmp_path):
    """Prompts are few values beside a backbone's: without them it would load, run, and be another function."""
    path = written(tmp_path / "vpt.pth", trained("vpt:prompts=1"))
    with pytest.raises(WeightsError, match="a tuning put 4 tensors into its model for which there is no place here: cls_prompt_list"):
        resolve(path, tiny(None).backbone.spec)


def test_what_nobody_here_knows_in_a_files_blocks_is_not_left_out_in_silence():
    """Whatever it is called and however few its values are; beside the blocks codes leave things of their own."""
    plain, model = tiny(None).state_dict(), tiny(None)
    load_official(model, {**plain, "logit_scale": torch.ones(3)})
    with pytest.raises(
        WeightsError, match=r"2 of its tensors are in blocks, and have no place in .*: blocks\.blocks\.0\.gain, blocks\.blocks\.1\.gain"
    ):
        load_official(model, {**plain, "blocks.blocks.0.gain": torch.ones(1), "blocks.blocks.1.gain": torch.ones(1)})


@pytest.mark.parametrize("tuning", ["lora:rank=4", "adapter:rank=4", "ssf", "vpt:deep=false", "ppt:rank=4", "pointgst:rank=4"])
def test_what_has_no_map_of_names_gives_no_official_state(tuning):
    """Whether there is released code (of PPT and PointGST there is) or not."""
    with pytest.raises(UsageError, match=f"no official state dict: wisetune has no map of names for what '{tuning.partition(':')[0]}"):
        official_state(tiny(tuning))
    with pytest.raises(UsageError, match="official_state was given Identity; it takes a model"):
        official_state(torch.nn.Identity())


def test_a_model_that_does_something_else_than_the_released_code_gives_no_official_state():
    with pytest.raises(UsageError, match="no official state dict: released files of dapt were trained with positions added once"):
        official_state(create("point-mae", classes=3, tuning="dapt:rank=4", **TINY_OPTIONS))


def test_without_a_tuning_it_is_the_state_dict():
    model = tiny(None)
    assert official_state(model).keys() == model.state_dict().keys()


class TestCreate:
    def test_a_head_is_built_upon_what_was_grafted(self):
        widths = {
            "dapt:rank=4": 48,
            "dapt:rank=4,readout=prompts": 32,
            "dapt:rank=4,readout=tokens": 32,
            "idpt:readout=prompt": 16,
            "vpt": 32,
        }
        for tuning, width in widths.items():
            model = tiny(tuning)
            assert model.features(CLOUDS).shape == (2, width)
            assert model.head[0].in_features == width
            assert [graft.tuning for graft in model.backbone.grafts] == [
                TUNINGS.parse(f"{tuning}{',' if ':' in tuning else ':'}reading=as_published").in_full()
            ]

    def test_backbone_and_grafts_follow_from_the_seed(self):
        first, again, other = (tiny("dapt:rank=4", seed).state_dict() for seed in (1, 1, 2))
        plain = tiny(None, 1).backbone.state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert all(torch.equal(first[name], plain[name]) for name in plain)
        name = "blocks.blocks.0.dapt.adapter.down.weight"
        assert not torch.equal(first[name], other[name])

    def test_the_reading_is_of_both_unless_the_tuning_says_its_own(self):
        assert tiny("dapt:rank=4").backbone.spec.reading == "as_published"
        assert "reading=as_published" in tiny("dapt:rank=4").backbone.grafts[0].tuning
        assert "reading=as_intended" in tiny("dapt:rank=4,reading=as_intended").backbone.grafts[0].tuning
        assert "reading=as_intended" in tiny(DAPT(rank=4)).backbone.grafts[0].tuning

    def test_a_tuning_of_ones_own(self):
        assert tiny(Adapter(3)).backbone.grafts[0].tuning == "my_tunings:Adapter:rank=3"
        assert tiny("full").backbone.grafts == ()

    @pytest.mark.parametrize(
        ("tuning", "says"),
        [
            ("dapd", "there is no tuning 'dapd'. Did you mean 'dapt'"),
            (3, "create was given tuning=3; it takes a tuning or its spelling"),
            ("dapt:rank=64", "rank=64, and blocks.blocks.0 is 16 wide"),
        ],
    )
    def test_mistakes_are_named(self, tuning, says):
        with pytest.raises(UsageError, match=says):
            tiny(tuning)
