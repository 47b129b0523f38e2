"""What a job may not ask of its data, and what its trees are made of."""

from __future__ import annotations

import dataclasses

import pytest

import pico
from pico import FIT, GENTLE, HEAD_FIT, QUICK
from wisetune.errors import DataError, UsageError
from wisetune.measure.svm import Svm
from wisetune.measure.transfer import Transfer
from wisetune.recipe import Mix, Tune, walk
from wisetune.stories.ft import Ft
from wisetune.stories.lp import Lp
from wisetune.stories.lp_ft import LpFt
from wisetune.stories.wise_ft import WiseFt
from wisetune.stories.wise_ft_lp import WiseFtLp

STORY = WiseFtLp((0.0, 0.5))
ON_TEST = dataclasses.replace(FIT, epochs=3, select="best-on-test")


def test_data_that_a_recipe_names_and_a_job_does_not_have_are_asked_for():
    experiment = pico.experiment(Lp(), **QUICK)
    with pytest.raises(UsageError, match=r"data with the digest abc, and this job has others: solids \([0-9a-f]{16}\), others"):
        experiment.data_of("abc")
    assert experiment.data_of(experiment.downstream.training_digest) is experiment.downstream


def test_a_task_without_validation_data_is_refused():
    with pytest.raises(DataError, match=r"'solids,val=0' has no validation part"):
        pico.experiment(STORY, on="solids,val=0")
    with pytest.raises(DataError, match=r"'solids,val=0' has no validation part"):
        pico.experiment(STORY, measures=(Svm("solids,val=0"),))
    # What is only tested may do without.
    pico.experiment(STORY, measures=(Transfer("solids,val=0"),))
    with pytest.raises(DataError, match=r"measures on test clouds, and 'solids,test=0' has no test part"):
        pico.experiment(STORY, measures=(Transfer("solids,test=0"),))


def test_weights_that_are_best_on_validation_data_need_some():
    best = dataclasses.replace(HEAD_FIT, select="best")
    with pytest.raises(UsageError, match=r"select=best keeps the weights best on the validation split, but there is none; hold one out"):
        pico.experiment(Lp(), on="solids,val=0", measures=(), head_fit=best)
    # What is not trained needs none.
    pico.experiment(Lp(), on="solids,val=0", measures=(), fit=dataclasses.replace(FIT, select="best"))


@pytest.mark.parametrize(
    ("measure", "kind", "said"),
    [
        (Transfer("others"), DataError, r"3 classes have no partner: ring, cone, egg\."),
        (Transfer("others", "plat=cone"), UsageError, "has no class 'plat'"),
        (Svm("few"), DataError, "a class of 'few' has 2 training clouds"),
        (Svm("one", "0.01"), DataError, "the train part of 'one' has fewer than two"),
    ],
)
def test_what_cannot_be_measured_is_refused(monkeypatch, measure, kind, said):
    monkeypatch.setitem(pico.TASKS, "few", lambda: pico.data(train=2))
    monkeypatch.setitem(pico.TASKS, "one", lambda: pico.data(classes=["ball"]))
    with pytest.raises(kind, match=said):
        pico.experiment(STORY, measures=(Svm("others"), measure))


def tunes(experiment) -> dict[str, set[str]]:
    """Of each kind of training in a job the digests of what it trains and selects on."""
    found: dict[str, set[str]] = {}
    for tree in experiment.trees().values():
        for node in walk(tree):
            if isinstance(node, Tune):
                found.setdefault(node.tuning.name, set()).add(node.task)
    return found


def test_what_is_selected_on_enters_the_recipes_of_those_that_look_there():
    fits = {"fit": ON_TEST, "gentle_fit": dataclasses.replace(ON_TEST, lr=1e-3), "head_fit": HEAD_FIT}
    for story in (LpFt(), STORY):
        experiment = pico.experiment(story, **fits)
        task = experiment.downstream
        assert tunes(experiment) == {
            "full": {dataclasses.replace(task, val=task.test).training_digest},
            "linear": {task.training_digest},
        }
        # BatchNorm statistics are measured on the task as it is.
        mixes = {node.task for tree in experiment.trees().values() for node in walk(tree) if isinstance(node, Mix)}
        assert mixes <= {None, task.training_digest}
    experiment = pico.experiment(Lp(), **QUICK | {"head_fit": dataclasses.replace(HEAD_FIT, select="best-on-test")})
    assert tunes(experiment)["linear"] != {experiment.downstream.training_digest}


def test_a_test_split_to_select_on_has_to_be_there():
    with pytest.raises(UsageError, match=r"select=best-on-test keeps the weights best on the test split, but there is none"):
        pico.experiment(Ft(), on="solids,test=0", measures=(), fit=ON_TEST, gentle_fit=GENTLE)


POOLED = {"fit": pico.POOLED, "gentle_fit": pico.POOLED}


def test_a_fit_that_draws_from_more_points_trains_on_clouds_read_with_as_many():
    experiment = pico.experiment(WiseFt((0.5,)), pico.denser, **QUICK | POOLED)
    task = experiment.downstream
    assert tunes(experiment) == {
        "full": {dataclasses.replace(task, train=pico.denser("solids", pico.DENSE).train).training_digest},
        "linear": {task.training_digest},
    }
    assert any(f"fewer than {pico.DENSE} points" in text for text in experiment.warnings)


def test_a_pool_that_cannot_be_read_names_the_option():
    with pytest.raises(UsageError, match="pool=63: the backbone takes clouds of 64 points"):
        pico.experiment(WiseFt((0.5,)), pico.denser, **QUICK | POOLED | {"fit": dataclasses.replace(FIT, pool=63)})

    def small(text: str, points: int):
        if points > pico.POINTS:
            raise DataError(f"clouds have {pico.POINTS} points.")
        return pico.TASKS[text]()

    fit = dataclasses.replace(FIT, pool=80)
    with pytest.raises(DataError, match=r"^pool=80 reads training clouds with 80 points \(pool-of\): clouds have 64 points"):
        pico.experiment(Ft(), small, fit=fit, gentle_fit=fit)
