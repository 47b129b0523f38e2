from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
from types import SimpleNamespace

import pytest
from terminal import built, job, refused, wisetune

import pico
from wisetune.build import bar
from wisetune.fit import loop
from wisetune.nets.create import create
from wisetune.nets.files.save import save_model
from wisetune.results import Results
from wisetune.store import Store

SUMMARY = {"method", "rule", "alpha", "selected_on", "shown_on", "seeds", "before", "after", "linear_probing", "gain"}
SUMMARY |= {"rival", "conclusion", "model", "sentences", "notes"}
PLAN = {"story", "start", "task", "probes", "seeds", "head", "fit", "head_fit", "parameters", "models", "trainings", "mixes", "seconds"}


def test_findings_and_places_on_stdout_progress_on_stderr(first, finished):
    *sentences, report, model, which = first.out.replace("\xa0", " ").splitlines()
    assert sentences[0].startswith(("Take ", "Keep "))
    assert sentences[1].startswith("WiSE-FT-LP at α = ")
    assert "full fine-tuning has" in sentences[1]
    assert any(line.startswith("One seed: each model was trained once.") for line in sentences)
    assert report == "Report: out/report.html"
    assert model == "Model:  out/model.safetensors   (wisetune predict out FILE...)"
    assert which.strip().startswith("This file is ")
    assert "% after" in first.error
    assert ": training full fine-tuning, seed 0: epoch 2 of 2, loss " in first.error
    assert ": measuring svm of WiSE-FT at alpha 0.5, seed 0" in first.error
    assert "measuring svm of WiSE-FT-LP at alpha 0.5" not in first.error, "its backbone is that of WiSE-FT"
    assert first.error.splitlines()[-1].startswith("Done after ")
    assert "% after" not in first.out
    for name in ("report.html", "results.json", "model.safetensors", "tables/tables.json", "tables/sweep.csv", "tradeoff.png"):
        assert (finished / "out" / name).stat().st_size > 0


def test_the_same_command_again_trains_nothing_and_finds_the_same(first, finished):
    before, model = built(), (finished / "out/model.safetensors").read_bytes()
    study = Results.read(finished / "out/results.json").study
    again = wisetune(*job("wise-ft-lp:alphas=0+0.5+1,baselines=false"))
    assert (again.code, again.out) == (0, first.out)
    assert again.error.splitlines()[0] == "6 of 6 models are in the store already; going on."
    assert re.search(r"; training and measuring took .* in all calls\.$", again.error.splitlines()[-1])
    told = wisetune(*job("wise-ft-lp:alphas=0+0.5+1,baselines=false"), "--dry-run").out
    assert "\nstore     6 of 6 models are there already, and would not be made again\n" in told
    assert "store  " not in wisetune(*job("wise-ft-lp:alphas=0+0.5+1,baselines=false", out="new"), "--dry-run").out
    assert (study.found, study.trainings) == (0, 4)
    assert Results.read(finished / "out/results.json").study == study, "the time too: nothing was done in this call"
    assert built() == before
    assert (finished / "out/model.safetensors").read_bytes() == model


@pytest.mark.usefixtures("finished", "undrawn")
def test_a_larger_sweep_builds_only_what_is_new():
    before = built()
    assert wisetune(*job("wise-ft-lp:alphas=0+0.25+0.5+1,baselines=false"), "--quiet").code == 0
    after = built()
    assert {digest: after[digest] for digest in before} == before
    assert len(after) == len(before) + 2  # a mix, and a head on it


@pytest.mark.usefixtures("finished", "undrawn")
def test_another_command_in_a_finished_folder_says_what_it_replaces():
    sweep = job("wise-ft-lp:alphas=0+0.25+0.5+1,baselines=false")
    assert "replaced" not in wisetune(*sweep, "--dry-run").error
    assert "replaced" not in wisetune(*sweep).error
    dry = wisetune(*job("lp"), "--dry-run")
    assert dry.error.splitlines()[0].startswith("The report and the model in out would be replaced; ")
    done = wisetune(*job("lp"))
    assert done.error.splitlines()[0].startswith(
        "The report and the model in out are replaced; the models of the command before stay in its store."
    )
    assert "That was: wisetune " in done.error


@pytest.mark.usefixtures("world", "chatty", "undrawn")
def test_the_summary_as_json_and_nothing_else():
    done = wisetune(*job("lp"), "--json")
    assert done.code == 0
    assert set(done.json) == {"out", *SUMMARY}
    assert (done.json["out"], done.json["shown_on"], done.json["seeds"]) == ("out", "test", 1)
    assert 0 <= done.json["linear_probing"]["accuracy"]["value"] <= 1
    assert done.json["linear_probing"]["accuracy"]["n"] == 24
    assert "% after" in done.error


@pytest.mark.usefixtures("world", "undrawn")
def test_without_a_probe_that_is_said_once_and_not_before_an_error():
    done = wisetune(*job("lp", probe=None, head_fit="epochs=1"))
    assert done.code == 0, done.error
    assert (done.out.count("No --probe was given"), done.error.count("No --probe was given")) == (1, 0)
    assert "No --probe was given" not in wisetune(*job("lp", probe=None, on="folder:nowhere")).error


@pytest.mark.usefixtures("world", "chatty", "undrawn")
def test_quiet_has_no_progress_but_says_what_must_be_known():
    assert wisetune(*job("lp", head_fit="epochs=1"), "--quiet").error == ""
    done = wisetune(*job("lp", probe=None, out="other"), "--quiet", "--dry-run")
    assert done.code == 0
    assert done.error == (
        "No --probe was given: robustness is measured on the bundled clean CAD objects (demo:objects). Give your own with --probe TASK.\n"
    )


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("words", [("--quiet",), ("--dry-run",)])
def test_the_head_of_a_file_that_is_left_out_is_told_on_stderr(world, words):
    save_model(world / "parts.safetensors", create(str(pico.SPEC), head="parts:categories=2", classes=3))
    done = wisetune(*job(from_="parts.safetensors"), *words)
    assert done.code == 0
    assert (
        "parts.safetensors: this is a part segmentation model's file; its encoder is used, and its head left out."
        in done.error.splitlines()
    )


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(world):
    words = job("wise-ft-lp:alphas=0+0.5+1", seeds=3)
    done = wisetune(*words, "--dry-run")
    assert done.code == 0
    assert done.out.splitlines()[:2] == [
        "on        npz:solids.npz: 4 classes; clouds: 48 train, 12 val, 24 test",
        "probe     npz:others.npz: 4 classes; clouds: 40 train, 12 val, 20 test",
    ]
    assert "(3 seeds)" in done.out
    assert done.out.splitlines()[-1] == "Nothing was trained. Leave --dry-run out to start."
    assert not (world / "out").exists()
    plan = wisetune(*words, "--dry-run", "--json").json
    assert set(plan) >= PLAN
    assert (plan["seeds"], plan["task"]["name"], plan["start"]) == ([0, 1, 2], "npz:solids.npz", "mine.safetensors")
    assert plan["seconds"] > 0
    assert not (world / "out").exists()


def test_a_dry_run_counts_what_a_run_has_done_already(finished):
    words = job("wise-ft-lp:alphas=0+0.5+1,baselines=false")
    files = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert wisetune(*words, "--dry-run", "--json").json["clouds"] == 0
    assert wisetune(*words[:-1], "elsewhere", "--dry-run", "--json").json["clouds"] > 0
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == files


def test_a_dry_run_refuses_the_out_that_the_run_would_refuse(world):
    (world / "taken/store").mkdir(parents=True)
    (world / "taken/store/thesis.tex").touch()
    refused(wisetune(*job(out="taken"), "--dry-run"), 2, "holds other files (thesis.tex) and no wisetune store")
    refused(wisetune(*job(out="solids.npz"), "--dry-run"), 73, "--out solids.npz is a file, and a run needs a folder")


@pytest.mark.usefixtures("undrawn")
def test_terminated_the_same_command_goes_on_and_ends_with_the_same_model(world, monkeypatch):
    fit = "epochs=4,lr=0.01,augment=none"
    assert wisetune(*job("ft", fit=fit, out="straight"), "--quiet").code == 0
    epochs, advance = [], bar.Bar.advance

    def kill_in_the_third(self, clouds, kind):
        advance(self, clouds, kind)
        epochs.append(clouds)
        if len(epochs) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(bar.Bar, "advance", kill_in_the_third)
        hours = itertools.count()
        patch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 3600.0 * next(hours)))  # every epoch is saved
        done = wisetune(*job("ft", fit=fit), "--quiet")
    assert (done.code, done.out, done.error) == (143, "", "wisetune: interrupted; the same command goes on from here.\n")
    assert not built()
    told = wisetune("doctor", "out").out.splitlines()
    assert told[-2].startswith(
        "out is half done: 0 of 1 model is built, and of a training in progress 3 of 4 epochs are done. "
        "Go on with: wisetune run ft --from mine.safetensors "
    )
    with Store(world / "out/store").lock("run"):
        (busy,) = [line for line in wisetune("doctor", "out").out.splitlines() if line.startswith("out is ")]
    assert busy == "out is running: 0 of 1 model is built, and of a training in progress 3 of 4 epochs are done"
    assert told[-1] == "Its files are sound."
    assert wisetune("doctor", "out", "--json").json["left"] == told[-2].removeprefix("out is ")
    again = wisetune(*job("ft", fit=fit))
    assert again.code == 0
    assert again.error.splitlines()[0] == "Of full fine-tuning, seed 0, 3 of 4 epochs were done before; going on with epoch 4."
    assert wisetune("doctor", "out").out.splitlines()[-1] == "All is well."
    assert "half done" not in wisetune("doctor", "out").out
    assert built().keys() == built("straight").keys()
    assert (world / "out/model.safetensors").read_bytes() == (world / "straight/model.safetensors").read_bytes()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("words", "at", "said"),
    [
        (job(), "wisetune.data.npz.Npz.load", "interrupted before the work began; the same command starts it."),
        ([*job(), "--dry-run"], "wisetune.data.npz.Npz.load", "interrupted; a dry run leaves nothing to go on with."),
        ([*job(), "--dry-run"], "wisetune.build.work.plan", "interrupted; a dry run leaves nothing to go on with."),
        (job(), "wisetune.build.work.work", "interrupted; the same command goes on from here."),
        (
            ["pretrain", "--on", "solids.npz", "--out", "made"],
            "wisetune.data.npz.Npz.load",
            "interrupted before the work began; the same command starts it.",
        ),
    ],
)
def test_an_interrupt_says_what_is_true_at_that_moment(monkeypatch, words, at, said):
    monkeypatch.setattr(at, _interrupt)
    done = wisetune(*words, "--quiet")
    assert (done.code, done.out, done.error) == (130, "", f"wisetune: {said}\n")


READERS = (("predict", "out", "scans"), ("show", "out"), ("export", "out", "scans.safetensors"), ("report", "out"))


@pytest.mark.parametrize("words", READERS)
def test_a_half_done_run_has_no_model_yet_and_the_way_on_is_named(world, monkeypatch, words):
    command = [*map(str, job()), "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr("wisetune.build.runner.Runner.run", _interrupt)
        assert wisetune(*command).code == 130
    ways = "not finished: it works, or was stopped. wisetune doctor out says which", f"goes on with: {shlex.join(['wisetune', *command])}"
    refused(wisetune(*words), 65, "there is no ", *ways)
    (world / "out/run.json").write_text("torn")
    refused(wisetune(*words), 65, "wisetune doctor out says which", "goes on with: the command that began it")
    (world / "out/run.json").unlink()
    refused(wisetune(*words), 65, "wisetune doctor out says which", "goes on with: the command that began it")


@pytest.mark.parametrize("words", READERS)
def test_what_else_a_folder_without_a_model_may_be_is_said(finished, words):
    for name in ("model.safetensors", "results.json"):
        (finished / "out" / name).unlink()
    refused(wisetune(*words), 65, "has been removed since; its command writes it again: wisetune run wise-ft-lp")
    (finished / "out/backbone.safetensors").touch()
    refused(
        wisetune(*words),
        65,
        "that of a pre-training, with a backbone to begin with: wisetune run wise-ft-lp --from out/backbone.safetensors",
    )


@pytest.mark.usefixtures("world", "undrawn")
def test_each_seed_is_trained():
    assert wisetune(*job("lp", seeds=2, head_fit="epochs=1"), "--json").json["seeds"] == 2
    assert len(built()) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"story": "wise-ft-pl"},
            "there is no story 'wise-ft-pl'. Did you mean 'wise-ft-lp'? There are: compare Tunings beside full",
        ),
        ({"story": "wise-ft:alphas=0,0.5,1"}, "Join the values of 'alphas' by +: alphas=0.0+0.5+1."),
        ({"story": "wise-ft:alphas="}, "a sweep was given no alphas; give some, joined by +, for example alphas=0+0.5+1"),
        ({"story": "wise-ft:alphas=half"}, "option 'alphas' of 'wise-ft' is 'half'; it must be a number"),
        ({"story": "wise-ft:alpha=0.5"}, "'wise-ft' has no option 'alpha'. Did you mean 'alphas'?"),
        ({"from_": "point-mae-miny"}, "there are no weights 'point-mae-miny'. Did you mean 'point-mae-mini'?"),
        ({"from_": "random:point-mae-tiny"}, "there is no backbone 'point-mae-tiny'"),
        ({"backbone": "point-mae-mini"}, "'mine.safetensors' is point-mae:points=64"),
        ({"on": "npz:solids.npz,val=2"}, "val"),
        ({"probe_c": "much"}, "much"),
        ({"measure": "transfr:on=others.npz"}, "--measure: there is no measure 'transfr'. Did you mean 'transfer'?"),
        ({"head": "mlp4"}, "--head: "),
        ({"fit": "epochs=2,augment=none,lrr=1"}, "--fit: 'fit' has no option 'lrr'. Did you mean 'lr'?"),
        ({"fit": "select=first"}, "option 'select' of 'fit' is 'first'; it can be last, best"),
        ({"head_fit": "epochs=none"}, "--head-fit: option 'epochs'"),
        (
            {"corruption": "foo"},
            "--corruption: 'foo' is no option of the corruption measure; it can be none, or options such as items=300.",
        ),
        (
            {"from_": "random:point-mae-modelnet-8k", "probe": None},
            "has clouds of 1024 points, and the backbone of random:point-mae-modelnet-8k",
        ),
        ({"corruption": "item=3"}, "'corruption' has no option 'item'. Did you mean 'items'?"),
        ({"seeds": 0}, "--seeds is 0; it must be at least 1"),
        ({"threads": 0}, "--threads is 0; it must be at least 1"),
        ({"device": "warp"}, "device 'warp' cannot be used here: there is no such device. There are: auto, "),
    ],
)
def test_a_slip_is_one_message_before_anything_is_read(world, changed, said):
    (world / "solids.npz").write_bytes(b"reading this would be another error")
    refused(wisetune(*job(**changed)), 2, said)
    assert not (world / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"on": "nowhere"}, "--on: 'nowhere' is neither a path that is there nor a task. Tasks: demo, few-shot, folder, npz"),
        ({"probe": "nowhere"}, "--probe: 'nowhere' is neither a path that is there nor a task"),
        ({"probe": "folder:nowhere"}, "--probe: there is no folder 'nowhere'"),
        ({"measure": "transfer:on=folder:nowhere"}, "--measure transfer: there is no folder 'nowhere'"),
        ({"on": "folder:nowhere"}, "--on: there is no folder 'nowhere'. Name a folder with one sub-folder a class"),
        ({"on": "folder:flat"}, "'flat' has no sub-folders; each class needs one"),
        ({"on": "folder:single,val=0,test=0"}, "only the class 'ball'"),
        ({"on": "npz:missing.npz"}, "missing.npz: cannot be opened: No such file"),
        (
            {"story": "wise-ft", "on": "npz:solids.npz,val=0"},
            "has no validation part, on which alpha would be chosen: give a share above 0",
        ),
        ({"from_": "missing.safetensors"}, "--from: missing.safetensors: there is no such file"),
        ({"from_": "solids.npz", "backbone": "point-mae-mini"}, "solids.npz"),
        ({"from_": "torn.safetensors"}, "torn.safetensors: its header is longer than the file: it was cut off"),
        (
            {"measure": "transfer:on=others.npz"},
            "3 classes have no partner: cone, egg, ring. Pair them with map=[left=right,...], or leave them out with map=shared",
        ),
    ],
)
def test_data_and_weights_that_cannot_be_used_are_exit_code_65(world, changed, said):
    for name in ("flat", "single/ball"):
        (world / name).mkdir(parents=True)
    for scan in (world / "scans/train/ball").iterdir():
        (world / "single/ball" / scan.name).write_bytes(scan.read_bytes())
    (world / "torn.safetensors").write_bytes((world / "mine.safetensors").read_bytes()[:60])
    refused(wisetune(*job(**changed), "--quiet"), 65, said)
    assert not list((world / "out").rglob("*.safetensors"))


@pytest.mark.usefixtures("world", "undrawn")
def test_classes_without_a_partner_can_be_paired_or_left_out():
    done = wisetune(*job(head_fit="epochs=1", measure="transfer:on=[npz:others.npz],map=[plate=cone,stick=egg,shared]"), "--quiet")
    assert done.code == 0, done.error
    done = wisetune(*job(head_fit="epochs=1", measure="transfer:on=[npz:others.npz],map=[plat=cone]"), "--quiet")
    refused(done, 2, "the first data set has no class 'plat'. Did you mean 'plate'? It has: ball, box")
    refused(wisetune(*job(measure="transfer:on=[npz:others.npz]"), "--dry-run"), 65, "3 classes have no partner: cone, egg, ring")


def test_packed_scans_without_their_library_are_a_missing_extra(world, packed):
    (world / "scans/train/ball/packed.laz").write_bytes(packed)
    refused(wisetune(*job(on="folder:scans"), "--quiet"), 69, "pip install 'wisetune[las]'")


@pytest.mark.usefixtures("world")
def test_training_that_runs_away_is_exit_code_70():
    refused(wisetune(*job("ft", fit="epochs=4,lr=1e30,augment=none"), "--quiet"), 70, "the loss is nan", "Lower the learning rate")
    assert not built()


@pytest.mark.usefixtures("world")
def test_weights_that_ran_away_in_their_last_step_are_exit_code_65():
    done = wisetune(*job("ft", fit="epochs=2,lr=1e30,augment=none"), "--quiet")
    refused(done, 65, "are not finite for 12 of 12 clouds: these weights have run away", "Lower the learning rate")


@pytest.mark.usefixtures("world")
def test_an_out_that_cannot_be_written_is_exit_code_73():
    refused(wisetune(*job(out="solids.npz"), "--quiet"), 73, "--out solids.npz is a file, and a run needs a folder")


@pytest.mark.parametrize("out", ["scans", "scans/out"])
@pytest.mark.parametrize("asked", [{"on": "folder:scans"}, {"probe": "folder:scans"}], ids=["on", "probe"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry"])
def test_an_out_in_a_data_folder_is_refused_and_nothing_is_written_there(world, out, asked, dry):
    before = sorted((world / "scans").rglob("*"))
    refused(wisetune(*job(**asked, out=out), "--quiet", *dry), 2, f"--out {out} lies in the data folder 'scans'")
    assert sorted((world / "scans").rglob("*")) == before


def test_an_out_of_something_else_is_left_alone(world):
    (world / "taken/store").mkdir(parents=True)
    (world / "taken/store/thesis.tex").write_text("all of it")
    refused(wisetune(*job(out="taken"), "--quiet"), 2, "holds other files (thesis.tex) and no wisetune store")
    assert [path.name for path in (world / "taken").rglob("*")] == ["store", "thesis.tex"]


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_somebody_else_is_at_is_exit_code_75(world):
    with Store(world / "out/store").lock("run"):
        refused(wisetune(*job(), "--quiet"), 75, "'run' in out/store is in use by this process since", "use another --out")
    assert wisetune(*job(head_fit="epochs=1"), "--quiet").code == 0


@pytest.mark.usefixtures("world")
def test_options_of_a_training_that_the_story_has_none_of_are_told():
    idle = "--fit does nothing here: lp trains heads alone, as --head-fit says (epochs=3,lr=0.05,augment=none)."
    assert wisetune(*job("lp"), "--dry-run").error.splitlines()[-1] == idle
    assert "does nothing" not in wisetune(*job("lp", fit=None), "--dry-run").error
    assert "--head-fit does nothing here: ft trains no head on frozen features" in wisetune(*job("ft"), "--dry-run").error
    assert "does nothing" not in wisetune(*job("lp-ft"), "--dry-run").error


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("story", ["lp", "compare:tunings=bitfit"])
def test_a_tuning_that_the_story_would_not_use_is_refused(story):
    refused(wisetune(*job(story, tuning="lora:rank=4")), 2, "--tuning: the story '", "'lora:rank=4' would not be used", "compare --tunings")
    assert wisetune(*job("ft", tuning="lora:rank=4"), "--dry-run").code == 0
    assert wisetune(*job(story, tuning="full"), "--dry-run").code == 0
