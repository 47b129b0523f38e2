"""``wisetune show FILE`` of what others wrote, and the way from there to a model that predicts."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from terminal import refused, wisetune

import wisetune as python
from wisetune.build.request import Request, job_of, weights_of
from wisetune.nets.create import create
from wisetune.nets.files import look
from wisetune.nets.files._archive import LEGACY_START
from wisetune.nets.files.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(name, model, prefix="", **beside):
    torch.save({"base_model": {f"module.{prefix}{key}": value for key, value in model.state_dict().items()}, **beside}, name)


def test_a_classifier_in_one_look():
    save("it is.pth", create("recon-mini", classes=7, head="mlp3"), epoch=300, metrics={"acc": 92.5})
    done = wisetune("show", "it is.pth")
    assert (done.code, done.error) == (0, "")
    for line in (
        "it is.pth: a classification file of recon",
        "sizes      width=128, depth=6, tokenizer=32+64+128",
        "holds      184 tensors, 2,629,579 values of float32 and int64 (layout base_model, prefix 'module.')",
        "head       mlp3, 7 classes",
        "beside     epoch=300, metrics.acc=92.5",
        "fits       recon-mini: points=1024,groups=32",
        "next       wisetune run wise-ft-lp --from 'it is.pth' --backbone recon-mini --on TASK --probe OTHER --out OUT",
    ):
        assert line in done.out.splitlines()
    told = wisetune("show", "it is.pth", "--json").json
    assert told["families"] == [{"family": "recon", "sizes": {"width": "128", "depth": "6", "tokenizer": "32+64+128"}}]
    assert (told["holds"], told["head"], told["outputs"]) == ("classification", "mlp3", 7)
    assert told["presets"] == {"recon-mini": str(create("recon-mini", classes=2).backbone.spec)}


def test_the_lines_that_it_prints_work():
    model = create("point-mae-mini", classes=3, head="mlp3", seed=2)
    save("c.pth", model)
    told = wisetune("show", "c.pth", "--json").json
    assert wisetune("show", "c.pth").out.splitlines()[0] == "c.pth: a classification file of point-mae"
    names = {"wisetune": python}
    for line in told["next"][2:]:
        exec(line, names)
    again = python.load_model("mine.safetensors")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    words = dict(zip(shlex.split(told["next"][0])[3::2], shlex.split(told["next"][0])[4::2], strict=True))
    assert list(words) == ["--from", "--backbone", "--on", "--probe", "--out"]
    asked = Request("demo:scans", words["--from"], backbone=words["--backbone"], probes=("demo:objects",))
    assert job_of(asked, weights_of(asked)).start.backbone == model.backbone.spec


def test_a_classifier_on_scans_is_saved_with_their_frame(monkeypatch):
    with torch.device("meta"):
        state = dict(create("recon", preset="scanobjectnn").state_dict())
    monkeypatch.setattr(look, "read_state", lambda _: Checkpoint(state, {}, "plain"))
    Path("s.pth").write_bytes(LEGACY_START)
    lines = wisetune("show", "s.pth", "--json").json["next"]
    assert "--backbone recon-scanobjectnn --on TASK,normalise=none --probe OTHER --head mlp3 --fit official" in lines[0]
    assert "wisetune.create('recon', preset='scanobjectnn')" in lines[2]
    assert "save_model('mine.safetensors', model, {'normalise': 'none'})" in lines[-1]


def test_what_run_would_refuse_is_said_by_show_too():
    torch.save({"a": Evil()}, "evil.pth")
    refused(wisetune("show", "evil.pth"), 65, "evil.pth", "which weights never need")
    save("cut.pth", create("recon-mini", classes=2))
    with open("cut.pth", "r+b") as file:
        file.truncate(5000)
    refused(wisetune("show", "cut.pth"), 65, "cut.pth", "it was cut off")
    torch.save({"visual.conv1.weight": torch.ones(2)}, "clip.pth")
    refused(wisetune("show", "clip.pth"), 65, "clip.pth holds 1 tensor, under the names of no backbone", "It looks like CLIP.")


class Evil:
    def __reduce__(self):
        return eval, ("1",)


def test_predict_with_such_a_file_says_the_steps():
    save("c.pth", create("recon-mini", classes=2))
    refused(
        wisetune("predict", "c.pth", "x.npy"),
        65,
        "c.pth was not written by wisetune",
        "wisetune show c.pth says of which model",
        "wisetune.load_official(model, 'c.pth'); wisetune.save_model('mine.safetensors', model)",
    )


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("point-mae-scanobjectn", "point-mae-scanobjectnn"),
        ("Point-MAE", "point-mae"),
        ("pointmae", "point-mae"),
        ("recon_mini", "recon-mini"),
    ],
)
def test_a_name_that_was_mistyped(word, meant):
    refused(wisetune("show", word), 65, f"there is neither a run nor a backbone '{word}'. Did you mean '{meant}'?")


def test_a_family_says_its_presets_and_a_part_segmentation_its_head():
    lines = wisetune("show", "point-m2ae").out.splitlines()
    assert (
        "presets    modelnet-1k, scanobjectnn, shapenetpart, svm, pretrain, mini (wisetune options point-m2ae says what each is)" in lines
    )
    assert "takes      clouds of 1,024 points" in lines
    done = wisetune("show", "point-mae-shapenetpart", "--shapes")
    assert "  convs3.weight  [50, 256, 1]" in done.out.splitlines()
    assert "model(points, category); 16 categories: Airplane, Bag, " in done.out
    assert wisetune("show", "point-mae-shapenetpart", "--json").json["categories"][4] == "Chair"


def test_a_file_of_a_tuned_model_is_called_so():
    tiny = "point-mae:width=32,depth=2,heads=2,tokenizer=8+16+16,groups=8,group-size=8,points=64"
    tuned = python.create(tiny, classes=3, tuning="dapt:rank=4", reading="as_published")
    torch.save({"base_model": python.official_state(tuned)}, "dapt.pth")
    told = wisetune("show", "dapt.pth")
    assert "tuned      dapt:rank=4,readout=all;" in told.out
    assert "tuning='dapt:rank=4,readout=all', reading='as_published')" in told.out
