from __future__ import annotations

import itertools
import json
import os
import re
import signal
from types import SimpleNamespace

import pytest
from terminal import job, refused, wisetune

from wisetune.build import bar
from wisetune.fit import loop
from wisetune.nets.files.save import load_backbone, read_card
from wisetune.store import Store, states

PICO = "point-mae:points=64,groups=8,group-size=8,width=16,depth=2,heads=2,tokenizer=8+8+8,class-token=false,readout=max+mean"
PYRAMID = (
    "point-m2ae:points=64,groups=16+12+8,group-sizes=8+4+3,widths=8+12+16,depths=1+1+1,heads=2,tokenizer=8+8+8,drop-path=0.2,initial=fan-in"
)
BACKBONES = pytest.mark.parametrize("backbone", [PICO, PYRAMID], ids=["point-mae", "point-m2ae"])


def pretrain(*words, backbone=PICO, on="--on", epochs=2, out="made"):
    return wisetune("pretrain", backbone, on, "npz:solids.npz", "--out", out, "--options", f"epochs={epochs},batch=16", *words)


@BACKBONES
@pytest.mark.usefixtures("chatty")
def test_a_backbone_from_shapes_can_be_tuned_and_probed(world, backbone):
    done = pretrain(backbone=backbone)
    assert done.code == 0, done.error
    first, second = done.out.splitlines()
    assert first.startswith("Backbone: made/backbone.safetensors (loss ")
    assert second.startswith("Use it:   wisetune run wise-ft-lp --from made/backbone.safetensors --on folder:DIR")
    assert "solids.npz: 48 shapes" in done.error
    assert "% after" in done.error
    assert [json.loads(line)["epoch"] for line in (world / "made/log.jsonl").read_text().splitlines()] == [1, 2]
    about = json.loads((world / "made/about.json").read_text())
    assert about["command"].startswith(f"wisetune pretrain {backbone} --on npz:solids.npz")
    assert read_card(world / "made/backbone.safetensors").about["shapes"] == about["shapes"] == 48
    plan = wisetune(*job(from_="made/backbone.safetensors"), "--dry-run", "--json")
    shown = wisetune("probe", "made/backbone.safetensors", "--on", "npz:others.npz,val=0", "--random", "1", "--draws", "1", "--quiet")
    assert shown.code == 0, shown.error
    assert "random" in shown.out
    assert plan.json["parameters"] == sum(value.numel() for value in load_backbone(world / "made/backbone.safetensors").parameters())


@pytest.mark.usefixtures("chatty")
def test_quiet_shapes_that_stand_along_y_alone(world):
    done = pretrain("--quiet", "--half", on="--on-y")
    assert done.code == 0, done.error
    assert "% after" not in done.error
    assert [data["up"] for data in json.loads((world / "made/about.json").read_text())["data"]] == ["y"]
    assert (world / "made/backbone.safetensors").stat().st_size < 35_000


@pytest.mark.parametrize("backbone", [PICO, pytest.param(PYRAMID, marks=pytest.mark.slow)], ids=["point-mae", "point-m2ae"])
def test_killed_the_same_command_goes_on_and_ends_with_the_same_weights(world, monkeypatch, backbone):
    assert pretrain(epochs=3, out="straight", backbone=backbone).code == 0
    advance, told = bar.Bar.advance, []

    def kill_in_the_second(self, clouds, kind):
        advance(self, clouds, kind)
        told.append(clouds)
        if len(told) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(bar.Bar, "advance", kill_in_the_second)
        hours = itertools.count()
        patch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 3600.0 * next(hours)))  # every epoch is saved
        done = pretrain(epochs=3, backbone=backbone)
    assert (done.code, done.out) == (143, "")
    assert done.error.splitlines()[-1] == "wisetune: interrupted; the same command goes on from here."
    assert not (world / "made/backbone.safetensors").exists()
    half = wisetune("doctor", "made").out.splitlines()[-2]
    assert half.startswith(f"made is half done: 2 of 3 epochs are done. Go on with: wisetune pretrain {backbone.partition(',')[0]}")
    monkeypatch.setattr(bar, "_PLAIN_EVERY_S", -1.0)
    load, read = states.load, []
    monkeypatch.setattr(states, "load", lambda *given: read.append(given) or load(*given))
    again = pretrain(epochs=3, backbone=backbone)
    assert again.code == 0
    assert len(read) == 1, "the state is read to go on from it, and not to learn its epoch"
    assert "2 of 3 epochs were done before; going on with epoch 3.\n" in again.error
    assert re.search(r"^ 67 % after \d+ s: ", again.error, re.MULTILINE)
    assert "half done" not in wisetune("doctor", "made").out
    straight, killed = (load_backbone(world / name / "backbone.safetensors").state_dict() for name in ("straight", "made"))
    assert all(value.equal(killed[name]) for name, value in straight.items())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("point-mae", "--on", "solids.npz"), 2, "--out"),
        (("point-mae", "--out", "made"), 2, "there are no shapes to learn from. Give them with --on TASK, or with --on-y TASK"),
        (("point-may", "--on", "solids.npz", "--out", "made"), 2, "there is no backbone 'point-may-mini'. Did you mean 'point-mae-mini'?"),
        (("act", "--on", "solids.npz", "--out", "made"), 2, "'act' cannot be pre-trained by wisetune. These can: point-m2ae, point-mae."),
        (("recon:width=96", "--on", "solids.npz", "--out", "made"), 2, "'recon' cannot be pre-trained by wisetune. These can: point-m2ae,"),
        (("--size", "huge", "--on", "solids.npz", "--out", "made"), 2, "--size: point-mae has no size 'huge'. There are: modelnet-1k"),
        (("--on", "nowhere", "--out", "made"), 65, "--on: 'nowhere' is neither a path that is there nor a task"),
        (
            ("--on", "solids.npz", "--out", "made", "--options", "epoch=3"),
            2,
            "--options: 'masked' has no option 'epoch'. Did you mean 'epochs'?",
        ),
        (("--on", "solids.npz", "--out", "made", "--threads", "0"), 2, "--threads is 0; it must be at least 1"),
        (("--on", "solids.npz", "--out", "made", "--device", "warp"), 2, "device 'warp' cannot be used here"),
        (("--on-y", "folder:nowhere", "--out", "made", "--quiet"), 65, "--on-y: there is no folder 'nowhere'"),
    ],
)
def test_a_slip_is_one_message_and_writes_nothing(world, words, code, said):
    before = set(world.rglob("*"))
    refused(wisetune("pretrain", *words), code, said)
    assert set(world.rglob("*")) == before


@pytest.mark.usefixtures("world")
def test_an_out_that_is_a_file_is_exit_code_73_before_the_data_are_read(monkeypatch):
    monkeypatch.setattr("wisetune.build.pretraining.parse_task", lambda _: pytest.fail("data were read"))
    refused(pretrain(out="solids.npz"), 73, "--out solids.npz is a file, and a backbone needs a folder")


def test_a_folder_that_somebody_else_writes_to_is_exit_code_75(world):
    with Store(world / "made/store").lock("pretrain"):
        done = pretrain("--quiet")
    assert (done.code, done.out) == (75, "")
    assert "'pretrain' in made/store is in use by this process since" in done.error


def test_the_help_names_every_backbone_that_can_be_pre_trained():
    from wisetune.nets.create import pretrainable

    told = wisetune("pretrain", "--help").out
    assert [name for name in pretrainable() if name not in told] == []
