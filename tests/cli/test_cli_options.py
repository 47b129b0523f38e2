from __future__ import annotations

import dataclasses
import re

import pytest
from terminal import refused, wisetune

from wisetune.build.request import Request
from wisetune.cli.options import _kinds, _spec
from wisetune.fit.fit import Fit
from wisetune.nets.create import BACKBONES, PARTS_HEADS
from wisetune.nets.families.point_mae import PointMAESpec
from wisetune.nets.heads import HEADS
from wisetune.nets.readout import READOUTS
from wisetune.points.augment import AUGMENTATIONS
from wisetune.spec import options_of
from wisetune.spelling import dashed


def test_every_option_with_its_default_and_bounds():
    done = wisetune("options", "fit")
    assert (done.code, done.error) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.out.splitlines() if re.match(r"  \w", line)}
    assert list(rows) == [dashed(field.name) for field in dataclasses.fields(Fit)]
    assert rows["lr"] == ["0.0005", "a number, above 0"]
    assert rows["select"] == ["last", "last, best, best-on-test"]
    assert rows["drop-path"] == ["none", "a number, at least 0 and below 1 or none"]
    assert Request.fit in done.out


def test_of_pre_training_what_each_backbone_decides():
    told = wisetune("options", "pretrain").out
    assert "point-m2ae mask=0.8,decoder-depth=1; point-mae mask=0.6,decoder-depth=2." in told


def test_without_a_name_all_that_have_options():
    listed = wisetune("options").out
    names = [name.strip() for line in listed.splitlines()[:-1] for name in line.split(maxsplit=1)[1].split(",")]
    assert {"fit", "pretrain", "wise-ft-lp", "folder", "corruption", "point-mae", "mlp3", "parts-graph"} <= set(names)
    for name in names:
        done = wisetune("options", name)
        assert (done.code, done.error) == (0, ""), name
        assert "ptions" in done.out, name


@pytest.mark.parametrize("name", [name for names in _kinds().values() for name in names])
def test_every_option_says_what_it_means_and_what_words_it_takes(name):
    noun = next(noun for noun, names in _kinds().items() if name in names)
    rows = options_of(_spec(noun, name))
    assert [row.name for row in rows if not row.means] == []
    lines = wisetune("options", name).out.splitlines()
    for row in rows:
        at = next(at for at, line in enumerate(lines) if line.startswith(f"  {row.name} "))
        assert lines[at].endswith(row.takes)
        assert lines[at + 1].strip() == row.means


def test_options_that_are_texts_name_their_words():
    told = {row.name: row.means for kind in (Fit, PointMAESpec) for row in options_of(kind)}
    assert all(word in told["augment"] for word in AUGMENTATIONS)
    assert all(word in told["readout"] for word in READOUTS)


def test_an_augmentation_is_not_said_to_be_of_training_where_it_is_voting_s():
    assert "training clouds" not in wisetune("options", "voting").out


@pytest.mark.parametrize(("name", "said"), [("fitt", "Did you mean 'fit'?"), ("pointmae", "Did you mean 'point-mae'?"), ("x", "")])
def test_what_there_is_not(name, said):
    refused(
        wisetune("options", name), 2, f"nothing with options is called '{name}'.", said, "wisetune options lists everything that has some"
    )


def test_a_tuning_from_outside_has_options_too():
    said = wisetune("options", "my_tunings:Adapter")
    assert (said.code, said.error) == (0, "")
    assert re.search(r"\n  rank +2  ", said.out)
    refused(wisetune("options", "my_tunings:Nobody"), 2, "nothing with options is called 'my_tunings:Nobody'")
    refused(wisetune("options", "no_lab.tuning:Mine"), 2, "the module 'no_lab.tuning' cannot be imported")


def test_a_tuning_lists_its_published_settings():
    said = wisetune("options", "dapt").out
    assert "as dapt:preset=NAME" in said
    assert (
        "  modelnet40\n    rank=72,dropout=0.0,readout=tokens\n    DAPT cfgs/finetune_modelnet_dapt.yaml\n    - The head sees no prompt"
        in said
    )
    assert said.count("Positions are added once") == 1
    assert "preset" not in wisetune("options", "full").out


def test_what_two_kinds_have_a_word_for_is_told_of_both():
    said = wisetune("options", "linear").out
    assert said.index("The tuning linear") < said.index("as class-token=VALUE:") < said.index("The head linear")


def test_the_options_of_fit_say_how_an_official_training_is_asked_for():
    said = wisetune("options", "fit").out
    assert "--fit official" in said
    assert "reading=as_published" in said
    assert "wisetune show point-mae-scanobjectnn" in said


def test_of_a_kind_everything_a_line_each():
    done = wisetune("options", "backbone")
    assert (done.code, done.error) == (0, "")
    for family in BACKBONES.names():
        line = next(at for at, line in enumerate(done.out.splitlines()) if line.startswith(f"{family} "))
        assert done.out.splitlines()[line + 1].strip() == f"presets: {', '.join(BACKBONES.entry(family).presets())}"
    heads = wisetune("options", "head").out
    assert all(re.search(rf"^{name} +\S", heads, re.M) for name in (*HEADS, *PARTS_HEADS))
    assert "options: hidden, dropout, second" in heads
    for noun in ("story", "task", "measure", "training"):
        assert wisetune("options", noun).code == 0


def test_a_backbone_s_presets_with_points_head_and_source():
    lines = wisetune("options", "recon").out.splitlines()
    row = next(line for line in lines if line.startswith("  scanobjectnn "))
    assert re.split(r"  +", row.strip())[1:] == [
        "2,048 points in 128 patches",
        "mlp3, 15 outputs",
        "ReCon cfgs/full/finetune_scan_hardest.yaml",
    ]
    refused(wisetune("options", "recon-mini"), 2, "'recon-mini' is a preset of recon: wisetune show recon-mini says what it is")
