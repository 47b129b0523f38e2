from __future__ import annotations

import json

import pytest
from terminal import job, refused, wisetune

from wisetune.results import Results


@pytest.mark.usefixtures("chatty")
def test_a_run_is_held_near_its_start_and_says_so_wherever_it_is_named(world):
    done = wisetune(*job("ft", keep="ewc:weight=10"))
    assert done.code == 0, done.error
    assert ": preparing ewc:weight=10.0 of full fine-tuning with ewc, seed 0" in done.error
    assert ": training full fine-tuning with ewc, seed 0: epoch 2 of 2, loss " in done.error
    study = Results.read(world / "out/results.json").study
    assert study.keep == "ewc:weight=10.0"
    page = (world / "out/report.html").read_text()
    assert "Penalty of training backbones" in page
    assert "full fine-tuning with ewc" in page
    row = next(row for row in wisetune("list", "out", "--json").json if "keep=" in row["recipe"])
    assert row["recipe"].startswith("full[keep=ewc:weight=10.0](")
    told = wisetune("show", "out", row["digest"]).out
    assert "; penalty ewc: weight 10.0, fisher true, fisher-batch None, half True, head True, items 300" in told
    kept = next(line for line in told.splitlines() if line.startswith("penalty"))
    assert kept.startswith("penalty  ewc:weight=10.0, head fresh, held values 9488, fisher true, fisher clouds 48, fisher mean ")
    log = [line for line in told.splitlines() if line.startswith("  epoch=")]
    assert len(log) == 2
    assert all("  penalty=" in line and line.endswith("penalty_weight=10.0") for line in log)
    assert wisetune("show", "out", row["digest"], "--json").json["extra"]["penalty"]["fisher_clouds"] == 48


@pytest.mark.usefixtures("world", "undrawn")
def test_with_and_without_it_are_models_of_their_own_and_share_what_it_does_not_touch():
    assert wisetune(*job("lp-ft")).code == 0
    before = {row["digest"] for row in wisetune("list", "out", "--json").json}
    for keep in ("lwf", "l2-sp:weight=0.01,head=false"):
        assert wisetune(*job("lp-ft", keep=keep)).code == 0
    new = [row for row in wisetune("list", "out", "--json").json if row["digest"] not in before]
    assert {row["recipe"].partition("(")[0] for row in new} == {"full[keep=lwf]", "full[keep=l2-sp:weight=0.01,head=false]"}


@pytest.mark.usefixtures("world")
def test_a_dry_run_says_it():
    words = job("wise-ft", keep="l2-sp")
    assert "\npenalty   l2-sp, of every training of a backbone\n" in wisetune(*words, "--dry-run").out
    assert json.loads(wisetune(*words, "--dry-run", "--json").out)["keep"] == "l2-sp"
    assert "penalty" not in wisetune(*job("wise-ft"), "--dry-run").out


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("story", "keep", "said"),
    [
        ("ft", "ewc", "--keep: 'ewc' needs weight; for example 'ewc:weight=...'"),
        ("ft", "ewc:weight=-1", "--keep: option 'weight' of 'ewc' is -1.0; it must be a number, at least 0"),
        ("ft", "ewc:10,fisher=full", "--keep: option 'fisher' of 'ewc' is 'full'; it can be true, empirical, batch"),
        ("ft", "l2", "--keep: there is no penalty 'l2'."),
        ("wise-ft", "lwf", "--keep: 'lwf' holds a model near the answers of the one that its training begins with"),
        ("lp", "l2-sp", "--keep: the story 'lp' trains no backbone, which 'l2-sp' could hold near its start."),
    ],
)
def test_a_slip_is_told_before_anything_is_loaded(story, keep, said):
    refused(wisetune(*job(story, keep=keep, on="folder:nowhere")), 65 if "nowhere" in said else 2, said)


def test_the_options_of_a_penalty_are_listed():
    told = wisetune("options", "ewc").out
    assert "weight=VALUE" in told
    assert "  fisher " in told
    assert "true, empirical, batch" in told
    assert "penalty   ewc, l2-sp, lwf" in wisetune("options").out


def test_answers_are_kept_in_lp_ft_of_a_tuning_that_begins_changed(world):
    done = wisetune(*job("lp-ft", keep="lwf", tuning="dapt:rank=4"))
    assert done.code == 0, done.error
    study = Results.read(world / "out/results.json").study
    assert study.methods["lp-ft"].name == "LP-FT of DAPT (rank=4) with lwf"
    recipes = [row["recipe"].partition("(")[0] for row in wisetune("list", "out", "--json").json]
    assert {"linear", "linear[grafted=dapt:rank=4]", "dapt:rank=4[keep=lwf]"} <= set(recipes)
    assert any(name.startswith("LP-FT of DAPT (rank=4) with lwf, seed") and "gates" in said for name, said in study.noted.items())
