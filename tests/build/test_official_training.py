from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from wisetune.build.job import Job
from wisetune.build.official import fit_of, told
from wisetune.build.request import Request, job_of
from wisetune.cli import app
from wisetune.cli import run as command
from wisetune.data.tasks import parse_task
from wisetune.errors import UsageError
from wisetune.fit.fit import Fit
from wisetune.fit.words import in_words
from wisetune.nets.create import BACKBONES, named
from wisetune.nets.files.pretrained import Pretrained
from wisetune.nets.heads import parse_head

USUAL = "epochs=30,lr=0.001,drop-path=0.1"
SCAN = named()["recon-scanobjectnn"]


def asked(text: str, name: str = "recon-scanobjectnn", called: str | None = None, **options) -> Fit:
    return fit_of(text, USUAL, named()[name].backbone, name if called is None else called, **options)


def test_without_a_preset_what_is_given_changes_the_usual():
    assert asked("epochs=3") == dataclasses.replace(Fit.from_options(USUAL), epochs=3)
    assert asked("3,lr=0.5") == Fit(epochs=3, lr=0.5, drop_path=0.1)
    assert asked("") == Fit.from_options(USUAL)


@pytest.mark.parametrize("text", ["official", "preset=official", "preset=scanobjectnn", "scanobjectnn", "official,reading=as_intended"])
def test_one_word_is_the_whole_official_training(text):
    fit = asked(text)
    assert fit == Fit.from_options(SCAN.fit.text())
    assert (fit.lr, fit.group_lr, fit.drop_path, fit.cosine) == (2e-5, 10.0, 0.2, "timm")


def test_the_published_reading_and_further_options():
    assert asked("official,reading=as_published") == Fit.from_options(SCAN.fit.text("as_published"))
    fit = asked("lr=0.1,reading=as_published,preset=scanobjectnn,epochs=7,select=best-on-test")
    published = Fit.from_options(SCAN.fit.text("as_published"))
    assert fit == dataclasses.replace(published, lr=0.1, epochs=7, cosine_epochs=6, select="best-on-test")


def test_official_and_a_preset_is_that_preset():
    assert asked("official,epochs=7,preset=scanobjectnn", "recon-mini") == asked("preset=scanobjectnn,epochs=7", "recon-mini")


def test_another_number_of_epochs_moves_the_end_of_the_published_cosine():
    fit = asked("official,reading=as_published,epochs=30")
    rates = [fit.schedule.lr_at(epoch) for epoch in range(30)]
    assert fit.lr_min <= rates[-1] < 0.1 * max(rates)
    assert asked("official,reading=as_published,epochs=301") == asked("official,reading=as_published")
    assert asked("official,reading=as_published,epochs=1").cosine_epochs == 1
    # Who gives both has both, and as intended the cosine ends with the training anyway.
    assert asked("official,reading=as_published,epochs=30,cosine-epochs=300").cosine_epochs == 300
    assert asked("official,reading=as_published,cosine-epochs=none,epochs=30").cosine_epochs is None
    assert asked("official,epochs=30").cosine_epochs is None


def test_the_weights_of_another_name_are_known_by_their_sizes():
    assert asked("official", called="pretrain.pth").lr == 2e-5
    read = dataclasses.replace(SCAN.backbone, reading="as_published", drop_path=0.0)
    assert fit_of("official", USUAL, read, "pretrain.pth").lr == 2e-5
    assert asked("official", "point-mae-few-shot", "random:point-mae-few-shot,seed=3").epochs == 150
    assert asked("official", "point-mae-modelnet-1k").epochs == 300


def test_heads_have_trainings_of_their_own():
    fit = asked("official", frozen=True)
    assert (fit.lr, fit.group) == (1e-4, ("head.",))
    assert asked("official", "recon-scanobjectnn-linear", frozen=True) == fit
    with pytest.raises(UsageError, match=r"no official training 'scanobjectnn-linear'\. Did you mean 'scanobjectnn'"):
        asked("preset=scanobjectnn-linear")


@pytest.mark.parametrize(
    ("text", "name", "called", "message"),
    [
        (
            "official",
            "point-mae-modelnet-1k",
            "x.pth",
            r"several official settings \(modelnet-1k, few-shot\)\. Name one: preset=modelnet-1k",
        ),
        ("official", "point-mae-mini", "point-mae-mini", r"no official setting \(modelnet-1k, modelnet-8k, .*Name one: preset=modelnet-1k"),
        (
            "oficial",
            "point-mae-mini",
            "",
            r"point-mae has no official training 'oficial'\. Did you mean 'official'\? There are: modelnet-1k",
        ),
        ("official,reading=intended", "point-mae-scanobjectnn", "", "reading is 'intended'; it can be as_intended, as_published"),
        ("reading=as_published", "point-mae-scanobjectnn", "", "none was named: official,reading=as_published"),
        ("modelnet-1k,preset=few-shot", "point-mae-scanobjectnn", "", "names two settings, 'modelnet-1k' and preset=few-shot; give one"),
        ("preset=few-shot,preset=mini", "point-mae-scanobjectnn", "", "gives 'preset' twice"),
        ("preset=scan", "point-mae-mini", "", "no official training 'scan'. Did you mean 'scanobjectnn'"),
        ("official,epoch=3", "point-mae-scanobjectnn", "", "Did you mean 'epochs'"),
    ],
)
def test_a_slip_is_answered(text, name, called, message):
    with pytest.raises(UsageError, match=message):
        asked(text, name, called)


def test_a_family_without_official_trainings_of_heads_says_so():
    with pytest.raises(UsageError, match=r"point-mae has no official training of heads\. Give options"):
        asked("official", "point-mae-scanobjectnn", frozen=True)


@pytest.mark.parametrize("name", named())
def test_every_setting_is_told_in_words(name):
    lines = list(told(name))
    text = "\n".join(lines)
    if named()[name].fit is None:
        assert ("wisetune trains no part segmentation" if name.endswith("-shapenetpart") else "no official one") in text
        return
    assert all(fault in text for fault in named()[name].fit.faults)
    # What the page says to type is what it says.
    spelled = next(line for line in lines if "with every option" in line).rpartition(": ")[2]
    frozen = named()[name].fit.frozen
    assert asked(spelled, name, frozen=frozen) == asked("official", name, frozen=frozen)


def asked_by(monkeypatch, line: str) -> tuple[Request, Job]:
    """What a command line asks for, with weights of the backbone's shape in the place of the file's."""
    found: list[Request] = []
    monkeypatch.setattr(command, "carry_out", lambda request, *_: found.append(request))
    program, *words = shlex.split(line)
    assert program == "wisetune"
    called, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    called(*bound.args, **bound.kwargs)
    (request,) = found
    return request, job_of(request, Pretrained(request.start, named()[request.backbone].backbone, "0123", {}))


def check_official(request: Request, job: Job) -> None:
    """It is the training of the preset that is its backbone, on clouds in the units that it was made for."""
    preset = named()[request.backbone]
    assert (job.head_fit if preset.fit.frozen else job.fit) == Fit.from_options(preset.fit.text())
    assert str(job.head) == str(parse_head(preset.head))
    # ScanObjectNN's clouds are not normalised by the official codes.
    assert parse_task(job.on).normalise == ("none" if "scan" in preset.source.lower() else "sphere")


@pytest.mark.parametrize("name", [name for name, preset in named().items() if preset.fit])
def test_the_command_that_is_shown_is_the_official_training(name, monkeypatch):
    line = next(line for line in told(name) if line.startswith("run ")).removeprefix("run").strip()
    request, job = asked_by(monkeypatch, line.replace("TASK", "npz:a.npz").replace("OTHER", "npz:b.npz"))
    assert request.backbone == name
    assert job.story.name == ("lp" if named()[name].fit.frozen else "ft")
    check_official(request, job)


def test_so_is_the_one_of_the_readme(monkeypatch):
    text = (Path(__file__).parents[2] / "README.md").read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("    wisetune run") and "official" in line]
    check_official(*asked_by(monkeypatch, line))


def test_words_say_what_is_unusual_and_nothing_of_what_is_not():
    plain = "\n".join(in_words(Fit()))
    assert plain.splitlines()[:2] == [
        "20 epochs of batches of 32, AdamW with weight decay 0.05",
        "learning rate 0.0005: 1 epoch of warm-up from 1e-06, a cosine to 1e-06, with every batch",
    ]
    assert not any(word in plain for word in ("smoothed", "times the rate", "points", "percentile"))
    fit = Fit(smoothing=0.3, smoothing_over="others", clip_percentile=10.0, pool=1200, pool_of=8192, group=("head.",), group_lr=10.0)
    said = "\n".join(in_words(dataclasses.replace(fit, select="best-on-test", cosine="timm-late", cosine_epochs=19)))
    for words in (
        "at epoch 19, once an epoch and over all epochs as timm has it, an epoch late",
        "parameters with 'head.' in their names: 10 times the rate",
        "percentile 10 of the norms so far",
        "labels smoothed by 0.3 over the other classes",
        "at random from the 1200 farthest of 8192 of a cloud, one choice for a batch",
        "best on the TEST split: its numbers are too good",
    ):
        assert words in said


def test_the_usual_fits_of_a_request_name_no_preset():
    for text in (Request.fit, Request.head_fit):
        assert fit_of(text, text, BACKBONES.parse("point-mae"), "point-mae-mini") == Fit.from_options(text)
