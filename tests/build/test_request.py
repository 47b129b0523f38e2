from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest
import torch

from children import environment
from wisetune.build import estimator
from wisetune.build import request as module
from wisetune.build.estimator import Classifier
from wisetune.build.request import NO_PROBE, NO_PROBES, UNPROBED, Request, idle_options, weights_of
from wisetune.cli import run as command
from wisetune.cli.asked import Asked
from wisetune.errors import DataError, UsageError, WeightsError
from wisetune.keep.ewc import Ewc
from wisetune.measure.svm import Svm
from wisetune.measure.transfer import Transfer
from wisetune.nets.create import create

BARE = Request("demo:scans")


class Stop(Exception):
    """The job that was asked for; nothing is run."""


def asked(*given):
    raise Stop(given[0])


def job_of(request, **options):
    return module.job_of(request, weights_of(request), **options)


def test_the_job_has_every_word_of_the_request():
    request = Request(
        "npz:a.npz",
        start="random:point-mae-mini,seed=4",
        story="wise-ft:alphas=0.5",
        probes=("npz:b.npz", "folder:c"),
        probe_c="0.1",
        measures=("transfer:on=npz:d.npz",),
        seeds=(3, 5),
        head="mlp3",
        fit="epochs=7,lr=0.02",
        head_fit="epochs=9",
        corruption="items=5",
        rule="greedy",
        keep="ewc:weight=10",
    )
    job = job_of(request)
    probes = [Svm("npz:path=b.npz", "0.1"), Svm("folder:path=c", "0.1")]
    assert job.measures == (*probes, Transfer("npz:d.npz"))
    assert (str(job.story), job.on, job.start.weights) == ("wise-ft:alphas=0.5+1.0", "npz:path=a.npz", "random:4")
    assert (job.seeds, job.rule, job.keep) == ((3, 5), "greedy", Ewc(10.0))
    # What is not given stays as it is for runs.
    assert (job.fit.drop_path, job.head_fit.lr, job.head_fit.augment, job.head_fit.warmup) == (0.1, 0.003, "none", 0)
    assert (job.head.name, job.fit.epochs, job.fit.lr, job.gentle_fit.epochs, job.head_fit.epochs) == ("mlp3", 7, 0.02, 7, 9)
    assert job.gentle_fit == dataclasses.replace(job.fit, lr=0.002)
    assert job.corruption is not None
    assert job.corruption.items == 5
    assert (job.source, job.warnings) == (request.start, ())


def test_without_a_probe_the_bundled_objects_are_the_probe_and_that_is_said():
    job = job_of(BARE)
    assert [measure.needs for measure in job.measures] == [("demo:part=objects",)]
    assert (job.warnings, job_of(BARE, typed=True).warnings) == ((NO_PROBES,), (NO_PROBE,))
    assert job_of(dataclasses.replace(BARE, corruption="none")).corruption is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"on": "nowhere:x"}, "there is no task 'nowhere'"),
        ({"story": "wise"}, "there is no story 'wise'"),
        ({"start": "point-mae-min"}, "there are no weights"),
        (
            {"start": "random:point-mae-scanobjectnn"},
            r"the default probe.* has clouds of 1024 points, and .* takes 2048.*probes=\['folder:DIR'\]",
        ),
        ({"measures": ("acuracy",)}, "Did you mean 'accuracy'"),
        ({"probe_c": "big"}, "option 'c' of 'svm'"),
        ({"fit": "epoch=3"}, "Did you mean 'epochs'"),
        ({"head_fit": "lr=x"}, "must be a number"),
        ({"corruption": "no"}, "'no' is no option of the corruption measure; it can be none"),
        ({"keep": "ewc"}, r"'ewc' needs weight; for example 'ewc:weight=\.\.\.'"),
        ({"keep": "l2sp"}, "there is no penalty 'l2sp'. Did you mean 'l2-sp'"),
        ({"keep": "lwf"}, "'lwf' holds a model near the answers .* a fresh head.* the story lp-ft"),
        ({"keep": "l2-sp", "story": "lp"}, "the story 'lp' trains no backbone, which 'l2-sp' could hold near its start"),
        ({"rule": "intervall"}, "no rule 'intervall' for alpha. Did you mean 'interval'"),
        ({"seeds": ()}, "at least one training seed"),
    ],
)
def test_every_slip_is_found_before_data_are_loaded(changed, message):
    with pytest.raises(UsageError, match=message):
        job_of(dataclasses.replace(BARE, **changed))


def test_a_request_that_was_typed_names_the_option_of_a_slip():
    with pytest.raises(DataError, match=r"^'svm' is neither a path that is there nor a task"):
        job_of(dataclasses.replace(BARE, probes=("svm",)))
    with pytest.raises(DataError, match=r"^--probe: 'svm' is neither"):
        job_of(dataclasses.replace(BARE, probes=("svm",)), typed=True)
    with pytest.raises(UsageError, match=r"^--keep: 'lwf' holds"):
        job_of(dataclasses.replace(BARE, keep="lwf"), typed=True)
    assert str(job_of(dataclasses.replace(BARE, keep="lwf", story="lp-ft")).keep) == "lwf"
    assert job_of(dataclasses.replace(BARE, start="random:point-mae-scanobjectnn", probes=("npz:a.npz",))).start.weights == "random:0"


def test_data_that_the_caller_holds_need_no_spelling():
    with pytest.raises(DataError):
        job_of(Request("arrays"))
    assert job_of(Request("arrays"), given=("arrays",)).on == "arrays"


def test_the_command_and_the_class_ask_for_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr("wisetune.build.experiment.Experiment", asked)
    monkeypatch.setattr(estimator, "Experiment", asked)
    with pytest.raises(Stop) as typed:
        command.run("wise-ft-lp", asked=Asked(from_="point-mae-mini", on="demo:scans", out=tmp_path, corruption="none"))
    with pytest.raises(Stop) as called:
        Classifier().fit("demo:scans")
    # What both are told is in the words of each.
    assert dataclasses.replace(typed.value.args[0], warnings=(NO_PROBES,)) == called.value.args[0]


def test_defaults_stand_once():
    for place in (command.run, Asked, Classifier):
        names = {"fit": "fit", "head_fit": "head_fit", "head": "head", "rule": "rule", "story": "story", "start": "start"}
        for name, parameter in inspect.signature(place).parameters.items():
            if name in names and parameter.default is not inspect.Parameter.empty:
                assert parameter.default == getattr(Request, name), name


def test_asking_needs_no_torch():
    code = "import sys, wisetune.cli.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


def test_a_start_of_another_family_is_told(tmp_path):
    lender = create("recon-mini", classes=2).backbone.state_dict()
    torch.save({"base_model": {f"MAE_encoder.{name}": value for name, value in lender.items()}}, tmp_path / "recon.pth")
    request = dataclasses.replace(BARE, start=str(tmp_path / "recon.pth"), backbone="act-mini", probes=("npz:a.npz",))
    with pytest.raises(WeightsError, match="family='recon'"):
        job_of(request)
    told = job_of(dataclasses.replace(request, family="recon")).warnings
    assert [warning.partition(":")[0] for warning in told] == ["recon.pth", "recon.pth"]
    assert "this is the encoder of recon" in told[0]
    assert "another function than the one that was pre-trained" in told[1]


def test_that_part_segmentation_is_not_trained_is_told():
    request = Request("npz:a.npz", start="random:point-mae-shapenetpart", backbone="point-mae-shapenetpart", probes=("npz:b.npz",))
    (told,) = job_of(request).warnings
    assert told.startswith(
        "point-mae-shapenetpart is a setting of part segmentation, which is not trained here: what is tuned is a classifier"
    )
    for start in ({}, {"backbone": None, "start": "random:point-mae-shapenetpart,seed=3"}):
        with pytest.raises(
            UsageError, match=r"^--fit: .*point-mae-shapenetpart.* is a setting of part segmentation, which is not trained here"
        ):
            job_of(dataclasses.replace(request, fit="official", **start), typed=True)
    assert job_of(dataclasses.replace(request, fit="preset=scanobjectnn")).fit.epochs == 300


def test_one_word_asks_for_the_official_training():
    request = Request("npz:a.npz", start="random:recon-scanobjectnn", probes=("npz:b.npz",), fit="official,epochs=50", head_fit="official")
    job = job_of(request)
    assert (job.fit.epochs, job.fit.lr, job.fit.group, job.fit.group_lr) == (50, 2e-5, ("cls", "head."), 10.0)
    assert (job.gentle_fit.lr, job.gentle_fit.group_lr) == (pytest.approx(2e-6), 10.0)
    assert (job.head_fit.lr, job.head_fit.group) == (1e-4, ("head.",))
    with pytest.raises(UsageError, match=r"^--fit: official names no training here"):
        job_of(dataclasses.replace(BARE, fit="official"), typed=True)


@pytest.mark.parametrize("story", ["ft", "lp", "lp-ft", "compare:tunings=bitfit"])
def test_a_story_that_chooses_no_alpha_needs_no_probe(story):
    request = dataclasses.replace(BARE, story=story, probes=("none",), probe_c="0.1", measures=("transfer:on=npz:d.npz",))
    # The bundled objects have too few points for it, which matters no more.
    job = job_of(dataclasses.replace(request, start="random:point-mae"))
    assert (job.measures, job.warnings) == ((Transfer("npz:d.npz"),), (UNPROBED,))
    assert idle_options(request, job) == ("--probe-c does nothing here: there is no probe.",)


def test_alpha_is_not_chosen_without_a_probe():
    request = dataclasses.replace(BARE, story="wise-ft:alphas=0.5", probes=("none",))
    with pytest.raises(
        UsageError, match=r"^wise-ft chooses alpha for the robustness that .*Give a probe \(probes=\['folder:DIR'\]\).*lp or lp-ft\.$"
    ):
        job_of(request)
    with pytest.raises(UsageError, match=r"^--probe: .*\(--probe TASK\).*; or wisetune compare\.$"):
        job_of(request, typed=True)
    # A measure of robustness that is no --probe does as well.
    probed = job_of(dataclasses.replace(request, measures=("svm:on=npz:b.npz",)))
    assert [measure.name for measure in probed.measures] == ["svm"]
    assert UNPROBED not in probed.warnings
    with pytest.raises(UsageError, match=r"none stands for no probe, and there is another: npz:b.npz"):
        job_of(dataclasses.replace(request, story="ft", probes=("none", "npz:b.npz")))
