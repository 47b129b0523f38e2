from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch

import pico
from pico import FIT, GENTLE, HEAD_FIT, bits
from wisetune.build import builder as builder_module
from wisetune.build import job as job_module
from wisetune.build import watch
from wisetune.build.builder import keep_start
from wisetune.build.choice import OVER_SEEDS, choose
from wisetune.build.job import Runner
from wisetune.build.meter import Silent, weigh
from wisetune.build.watch import Spent
from wisetune.build.work import earlier, plan, work
from wisetune.errors import DataError, UsageError
from wisetune.fit import finetune, loop
from wisetune.measure.accuracy import Accuracy
from wisetune.measure.corruption import Corruption
from wisetune.measure.subject import Subject
from wisetune.measure.svm import Svm
from wisetune.measure.transfer import Transfer
from wisetune.measure.voting import Voting
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Tune, digest, walk
from wisetune.records import Record
from wisetune.results import Results, Row, Variant
from wisetune.store import Store
from wisetune.stories.ft import Ft
from wisetune.stories.lp import Lp
from wisetune.stories.lp_ft import LpFt
from wisetune.stories.story import Story
from wisetune.stories.wise_ft import WiseFt
from wisetune.stories.wise_ft_lp import WiseFtLp

QUICK = {"fit": dataclasses.replace(FIT, epochs=1), "gentle_fit": dataclasses.replace(FIT, epochs=1, lr=1e-3), "head_fit": HEAD_FIT}
STORY = WiseFtLp((0.0, 0.5))
FULL = {
    **QUICK,
    "measures": (Svm("others", "0.01"), Transfer("others", "shared")),
    "corruption": Corruption(items=4),
    "source": "a test",
}


class Counting(Silent):
    """A meter that adds up, each kind of work by itself."""

    def __init__(self) -> None:
        self.done, self.said = Counter[str](), list[str]()

    def advance(self, clouds: float, kind: str) -> None:
        self.done[kind] += clouds

    def stage(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One job with everything."""
    return pico.runner(tmp_path_factory.mktemp("job") / "store", STORY, **FULL).run("wisetune run")


def places(results: Results) -> Counter:
    return Counter((row.method, row.alpha, row.record.measure.partition(":")[0], row.record.split) for row in results.rows)


def test_every_method_is_measured_once_by_every_measure(finished):
    methods = [(name, None) for name in ("ft", "ft-low-lr", "lp", "lp-ft")]
    methods += [(name, alpha) for name in ("wise-ft", "wise-ft-lp") for alpha in (0.0, 0.5, 1.0)]
    best = finished.results.study.recommended
    expected = Counter({(*method, measure, split): 2 for method in methods for measure in ("accuracy", "svm") for split in ("val", "test")})
    expected += Counter({(*method, "transfer", "test"): 2 for method in methods})
    expected += Counter({(*method, "corruption", "test"): 36 for method in (("lp", None), ("ft", None), (best.method, best.alpha))})
    assert places(finished.results) == expected
    assert {row.seed for row in finished.results.rows} == {0}


def test_marks_of_right_answers_are_as_long_as_the_split(finished):
    for row in finished.results.rows:
        if "right" in row.record.detail:
            assert len(row.record.detail["right"]) == row.record.n


def test_at_equal_alpha_both_methods_have_the_same_robustness(finished):
    probes = {}
    for row in finished.results.rows:
        if row.record.role == "robustness":
            probes.setdefault((row.alpha, row.record.split), set()).add((row.method, row.record.value, row.record.detail["right"]))
    for alpha in (0.0, 0.5, 1.0):
        for split in ("val", "test"):
            found = [value[1:] for value in probes[alpha, split]]
            assert len(found) == 2
            assert len(set(found)) == 1


def test_each_rule_chose_an_alpha_for_each_method(finished):
    chosen = finished.results.chosen
    assert [(choice.method, choice.seed) for choice in chosen] == [("wise-ft-lp", 0)] * 2 + [("wise-ft", 0)] * 2
    assert len({choice.rule for choice in chosen}) == 2
    assert all(choice.alpha in (0.0, 0.5, 1.0) and choice.why and choice.steps for choice in chosen)


def test_the_recommended_model_is_that_of_the_chosen_alpha(finished, tmp_path):
    study = finished.results.study
    by_interval = [choice for choice in finished.results.chosen if choice.method == "wise-ft-lp"][1]
    assert study.recommended == Variant("wise-ft-lp", by_interval.alpha)
    runner = pico.runner(tmp_path, STORY, **FULL)
    recipe = runner.trees()[0, Variant("wise-ft-lp", by_interval.alpha)]
    assert finished.recipe == recipe
    assert bits(runner.builder.model(recipe).state_dict()) == bits(finished.model.state_dict())
    assert finished.model.classes == finished.data.classes


def test_the_study_tells_the_protocol(finished):
    study = finished.results.study
    assert study.story == "wise-ft-lp:alphas=0.0+0.5+1.0"
    assert (study.start_weights, study.seeds, study.rule) == ("random:0", [0], "interval")
    assert study.task.counts["train"] == {"ball": 9, "box": 9, "stick": 9, "plate": 9}
    assert study.task.digest == pico.data().digest
    assert [probe.spec for probe in study.probes] == ["svm:on=others,c=0.01", "transfer:on=others,map=shared"]
    assert (study.start, study.architecture, study.command) == ("a test", str(pico.SPEC), "wisetune run")
    assert "validation" in study.selection


def test_the_study_tells_how_long_it_took_and_what_was_done_before(finished, tmp_path):
    trees = pico.runner(tmp_path, STORY, **FULL).trees()
    trainings = {node for tree in trees.values() for node in walk(tree) if isinstance(node, Tune)}
    study = finished.results.study
    assert study.seconds is not None
    assert study.seconds > 0
    assert (study.trainings, study.found) == (len(trainings), 0)


def test_the_worst_clouds_are_wrong_ones_least_sure_of_their_class_before_right_ones(finished):
    data, clouds = finished.data, finished.results.clouds
    with torch.inference_mode():
        probability = finished.model(torch.from_numpy(data.test.points)).softmax(dim=1)
    labels = torch.from_numpy(data.test.labels)
    own, right = probability[torch.arange(len(data.test)), labels], probability.argmax(dim=1) == labels
    expected = sorted(range(len(labels)), key=lambda row: (bool(right[row]), float(own[row])))[: len(clouds)]
    assert [cloud.name for cloud in clouds] == [data.test.names[row] for row in expected]
    row = data.test.names.index(clouds[0].name)
    assert clouds[0].true == data.classes[data.test.labels[row]]
    assert clouds[0].predicted == data.classes[int(probability[row].argmax())]
    assert clouds[0].probability == pytest.approx(float(probability[row].max()), abs=1e-3)
    assert clouds[0].true_probability == pytest.approx(float(own[row]), abs=1e-3)
    assert clouds[0].points == [round(float(value)) for value in 1000 * data.test.points[row].ravel()]


def test_logs_and_audits_are_there(finished):
    assert set(finished.results.log) == {f"{name} seed 0" for name in ("ft", "ft-low-lr", "lp", "lp-ft")}
    assert [line["epoch"] for line in finished.results.log["lp seed 0"]] == list(range(1, HEAD_FIT.epochs + 1))
    assert finished.results.audits
    assert all(line["ok"] for lines in finished.results.audits.values() for line in lines)


def test_results_are_plain_json(finished):
    written = json.dumps(finished.results.to_json(), allow_nan=False)
    assert Results.from_json(json.loads(written)) == finished.results


def test_the_same_job_in_a_fresh_store_gives_the_same_bytes(finished, tmp_path):
    torch.manual_seed(9)
    again = pico.runner(tmp_path, STORY, **FULL).run("wisetune run")
    assert json.dumps(pico.timeless(again.results).to_json()) == json.dumps(pico.timeless(finished.results).to_json())
    assert bits(again.model.state_dict()) == bits(finished.model.state_dict())


def test_a_job_that_was_done_does_nothing_again(tmp_path, monkeypatch):
    first = pico.runner(tmp_path, STORY, **QUICK).run()
    monkeypatch.setattr(builder_module, "tune", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(Svm, "of", lambda *_: pytest.fail("measured again"))
    meter = Counting()
    again = pico.runner(tmp_path, STORY, meter, **QUICK)
    assert work(again) == {}
    assert pico.timeless(again.run().results) == pico.timeless(first.results)
    assert meter.done == {}
    once_more = again.run().results
    assert pico.timeless(once_more) == pico.timeless(first.results), "the same runner once more"
    assert (first.results.study.found, once_more.study.found) == (0, first.results.study.trainings)


def test_the_time_is_that_of_all_calls_which_did_something(tmp_path, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(watch, "monotonic", lambda: 100.0 * next(ticks))
    kept = list[Spent]()
    first = pico.runner(tmp_path, STORY, **QUICK).run("", Spent(1000.0, 1), kept.append).results.study
    assert first.seconds is not None
    assert (first.seconds > 1000.0, first.found) == (True, 1)
    assert [spent.seconds for spent in kept] == sorted({spent.seconds for spent in kept}), "while it works, in case it is killed"
    assert len(kept) > 2
    assert kept[-1] == Spent(first.seconds, 1)
    again = pico.runner(tmp_path, STORY, **QUICK).run("", kept[-1]).results.study
    assert (again.seconds, again.found) == (first.seconds, 1), "a call that did nothing leaves it alone"


def test_the_time_of_a_short_call_that_is_killed_is_kept(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watch, "monotonic", lambda: now[0])
    kept, killed = list[Spent](), watch.Watch(Silent())
    killed.start(Spent(10.0, 1), 2, kept.append)
    for now[0] in (103.0, 104.0, 109.0, 112.0, 125.0):
        killed.advance(1, "train")
    assert kept == [Spent(13.0, 1), Spent(19.0, 1), Spent(35.0, 1)]


def test_a_new_measure_is_added_without_training(tmp_path, monkeypatch):
    before = pico.runner(tmp_path, STORY, **QUICK).run()
    monkeypatch.setattr(builder_module, "tune", lambda *_, **__: pytest.fail("trained again"))
    after = pico.runner(tmp_path, STORY, **QUICK | {"measures": (Svm("others", "0.01"), Svm("others", "1"))}).run()
    assert set(map(repr, before.results.rows)) < set(map(repr, after.results.rows))


def test_one_more_test_cloud_trains_nothing_again(tmp_path, monkeypatch):
    monkeypatch.setitem(pico.TASKS, "solids,more", lambda: dataclasses.replace(pico.data(), test=pico.data(test=7).test))
    pico.runner(tmp_path, STORY, **QUICK).run()
    monkeypatch.setattr(builder_module, "tune", lambda *_, **__: pytest.fail("trained again"))
    finished = pico.runner(tmp_path, STORY, on="solids,more", **QUICK).run()
    assert {row.record.n for row in finished.results.rows if row.record.name == "accuracy" and row.record.split == "test"} == {28}


def test_data_that_moved_are_not_measured_again_and_records_tell_where_they_are_now(tmp_path, monkeypatch):
    monkeypatch.setitem(pico.TASKS, "moved", pico.probe)
    monkeypatch.setitem(pico.TASKS, "changed", lambda: dataclasses.replace(pico.probe(), train=pico.data("more").train))
    pico.runner(tmp_path, Lp(), **QUICK).run()
    of = Svm.of
    monkeypatch.setattr(Svm, "of", lambda *_: pytest.fail("measured again"))
    rows = pico.runner(tmp_path, Lp(), **QUICK | {"measures": (Svm("moved", "0.01"),)}).run().results.rows
    assert {row.record.measure for row in rows} == {"accuracy", "svm:on=moved,c=0.01"}
    measured = []
    monkeypatch.setattr(Svm, "of", lambda *given: measured.append(str(given[0])) or of(*given))
    for measures in ((Svm("moved", "0.02"),), (Svm("changed", "0.01"),)):
        pico.runner(tmp_path, Lp(), **QUICK | {"measures": measures}).run()
    assert measured == ["svm:on=moved,c=0.02", "svm:on=changed,c=0.01"]


def test_the_page_names_every_device_that_took_part(tmp_path, monkeypatch):
    """Weights and records of an earlier run keep the stamp of where they were made."""
    real = job_module.stamp
    monkeypatch.setattr(builder_module, "stamp", lambda _: real("cuda"))
    monkeypatch.setattr(job_module, "stamp", lambda _: real("cuda") | {"torch": "2.0"})
    first = pico.runner(tmp_path, Lp(), **QUICK).run().results
    assert (first.stamp["device"], first.stamp["torch"]) == ("cuda", f"{real('cuda')['torch']}, 2.0")
    monkeypatch.setattr(builder_module, "stamp", real)
    monkeypatch.setattr(job_module, "stamp", real)
    again = pico.runner(tmp_path, Lp(), **QUICK).run().results
    assert (again.stamp["device"], again.rows) == ("cuda, cpu", first.rows)
    assert {name: value for name, value in again.stamp.items() if name not in ("device", "torch")} == {
        name: value for name, value in real("cpu").items() if name not in ("device", "torch")
    }


def test_a_measure_of_another_version_is_measured_again(tmp_path, monkeypatch):
    first = pico.runner(tmp_path, Lp(), **QUICK).run()
    measured, of = [], Svm.of
    monkeypatch.setattr(Svm, "of", lambda *given: measured.append(1) or of(*given))
    pico.runner(tmp_path, Lp(), **QUICK).run()
    assert not measured
    monkeypatch.setattr(Svm, "version", Svm.version + 1)
    again = pico.runner(tmp_path, Lp(), **QUICK)
    assert work(again)
    assert pico.timeless(again.run().results) == pico.timeless(first.results)
    assert len(measured) == 1


def test_data_that_a_recipe_names_and_a_job_does_not_have_are_asked_for(tmp_path):
    runner = pico.runner(tmp_path, Lp(), **QUICK)
    with pytest.raises(UsageError, match=r"data with the digest abc, and this job has others: solids \([0-9a-f]{16}\), others"):
        runner.builder.data("abc")
    assert runner.builder.data(runner.downstream.training_digest) is runner.downstream


@pytest.mark.parametrize("corrupted", [None, Corruption(items=4)])
def test_the_meter_ends_where_it_was_told_to_expect(tmp_path, corrupted):
    meter = Counting()
    runner = pico.runner(tmp_path, STORY, meter, **FULL | {"corruption": corrupted})
    expected = work(runner)
    runner.run()
    # One model less is corrupted where the chosen one is a baseline: at alpha 0 it is linear probing.
    fewer = {**expected, "corruption": expected["corruption"] - 36 * 4} if corrupted else expected
    assert meter.done in (expected, fewer)
    clouds = len(runner.downstream.train)
    assert (expected["train"], expected["mix"]) == (3 * clouds, clouds)
    assert (expected["look"], expected["head"]) == (3 * clouds, 3 * HEAD_FIT.epochs * clouds)
    assert "training full fine-tuning, seed 0" in meter.said
    assert any(said.startswith("training full fine-tuning, seed 0: epoch 1 of 1, loss ") for said in meter.said)
    assert "mixing WiSE-FT at alpha 0.5, seed 0" in meter.said
    assert "measuring svm of WiSE-FT at alpha 0.5, seed 0" in meter.said
    assert "measuring svm of WiSE-FT-LP at alpha 0.5, seed 0" not in meter.said, "its backbone is that of WiSE-FT"
    if corrupted:
        again = pico.runner(tmp_path, STORY, **FULL | {"corruption": corrupted})
        assert work(again) == {}


def test_measures_that_keep_no_features_look_anew_for_every_head(tmp_path, monkeypatch):
    looked, once = [], Subject.once
    monkeypatch.setattr(Subject, "once", lambda self, split: looked.append(len(split)) or once(self, split))
    meter = Counting()
    runner = pico.runner(tmp_path, STORY, meter, **QUICK | {"measures": (Voting(draws=2),)})
    expected = work(runner)
    runner.run()
    assert meter.done == expected
    assert expected["voting"] == sum(looked) == len(set(runner.trees().values())) * 2 * 48
    # Of two models with one backbone, corrupted clouds are looked at for each.
    monkeypatch.setattr(job_module, "choose", lambda *_: ([], Variant("wise-ft-lp", 1.0)))
    meter = Counting()
    runner = pico.runner(tmp_path, WiseFtLp((0.5,)), meter, **QUICK | {"measures": (), "corruption": Corruption(items=4)})
    expected = work(runner)
    runner.run()
    assert meter.done["corruption"] == expected["corruption"] == 3 * 36 * 4


@pytest.mark.parametrize("story", [Ft(), Lp(), LpFt()], ids=str)
def test_so_it_does_without_a_sweep(tmp_path, story):
    meter = Counting()
    runner = pico.runner(tmp_path, story, meter, **FULL | {"corruption": Corruption(items=4)})
    expected = work(runner)
    runner.run()
    assert meter.done == expected


def test_the_epochs_of_a_training_that_was_killed_are_not_expected_again(tmp_path, monkeypatch):
    class Stop(Counting):
        def advance(self, clouds: float, kind: str) -> None:
            super().advance(clouds, kind)
            if self.done["train"] >= 2 * epoch:
                raise KeyboardInterrupt

    hours = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: 3600.0 * next(hours))  # every epoch is saved
    fit = dataclasses.replace(FIT, epochs=3)
    first = pico.runner(tmp_path, Ft(), Stop(), **QUICK | {"fit": fit})
    epoch, whole = len(first.downstream.train), work(first)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    meter = Counting()
    again = pico.runner(tmp_path, Ft(), meter, **QUICK | {"fit": fit})
    expected = work(again)
    assert expected == {**whole, "train": whole["train"] - 2 * epoch}
    assert earlier(again) == ["Of full fine-tuning, seed 0, 2 of 3 epochs were done before; going on with epoch 3."]
    again.run()
    assert meter.done == expected


def test_a_sweep_of_eleven_alphas_trains_eleven_heads_and_looks_at_each_backbone_once(tmp_path, monkeypatch):
    trained = []
    tune = builder_module.tune

    def counted(*arguments, **options):
        trained.append("head" if options["frozen_key"] else "all")
        return tune(*arguments, **options)

    monkeypatch.setattr(builder_module, "tune", counted)
    one = {"fit": QUICK["fit"], "gentle_fit": QUICK["fit"], "head_fit": QUICK["fit"]}
    runner = pico.runner(tmp_path, WiseFtLp(statistics="mixed", baselines=False), **one)
    looked = []
    encode = Model.encode

    def counting(model, groups):
        if torch.is_inference_mode_enabled():
            looked.append(len(groups[0]))
        return encode(model, groups)

    monkeypatch.setattr(Model, "encode", counting)
    runner.run()
    assert Counter(trained) == {"all": 1, "head": 11}
    once = sum(len(task.split(part)) for task in (pico.data(), pico.probe()) for part in ("train", "val", "test"))
    # The start at alpha 0, nine mixes, the fine-tuned model at 1; then the worst clouds of the one that is recommended.
    assert sum(looked) - 11 * once in {0, len(pico.data().test)}


def test_a_plan_counts_and_trains_nothing(tmp_path):
    runner = pico.runner(tmp_path, WiseFtLp(), **QUICK)
    told = plan(runner)
    assert (told["trainings"], told["mixes"]) == (14, 10)
    assert told["models"] == len(set(runner.trees().values()))
    todo = work(runner)
    assert told["clouds"] == weigh({**todo, "head": 0}) > 0
    # What a head's own steps take is among it.
    assert told["seconds"] > told["clouds"] / told["clouds_per_second"]
    assert told["seconds"] > 0
    assert [path.name for path in (tmp_path / "objects").glob("*")] == [digest(pico.START)]
    json.dumps(told)


@pytest.mark.parametrize(("story", "best"), [(Ft(), "ft"), (Lp(), "lp"), (LpFt(), "lp-ft"), (WiseFt((0.5,)), "wise-ft")], ids=str)
def test_every_story_is_a_job(tmp_path, story, best):
    finished = pico.runner(tmp_path, story, **QUICK | {"corruption": Corruption(items=4)}).run()
    assert finished.results.study.recommended.method == best
    assert ("alpha" in finished.results.study.selection) == bool(finished.results.chosen) == bool(story.sweeps)
    assert {name for name, *_ in places(finished.results)} == {variant.method for variant in story.recipes(pico.setting())}
    for place, count in places(finished.results).items():
        assert count == (36 if place[2] == "corruption" else 2), place


def test_a_job_without_probes_recommends_without_a_choice(tmp_path):
    finished = pico.runner(tmp_path, WiseFt((0.5,)), **QUICK | {"measures": ()}).run()
    assert finished.results.chosen == []
    assert "alpha" not in finished.results.study.selection
    assert finished.results.study.probes == []


def test_a_task_without_validation_data_is_refused_before_anything_is_built(tmp_path):
    with pytest.raises(DataError, match=r"'solids,val=0' has no validation part"):
        pico.runner(tmp_path, STORY, on="solids,val=0")
    with pytest.raises(DataError, match=r"'solids,val=0' has no validation part"):
        pico.runner(tmp_path, STORY, measures=(Svm("solids,val=0"),))
    # What is only tested may do without.
    pico.runner(tmp_path, STORY, measures=(Transfer("solids,val=0"),))
    with pytest.raises(DataError, match=r"measures on test clouds, and 'solids,test=0' has no test part"):
        pico.runner(tmp_path, STORY, measures=(Transfer("solids,test=0"),))
    assert [path.name for path in (tmp_path / "objects").glob("*")] == [digest(pico.START)]


def test_weights_that_are_best_on_validation_data_need_some_before_anything_is_built(tmp_path):
    best = dataclasses.replace(HEAD_FIT, select="best")
    with pytest.raises(UsageError, match=r"select=best keeps the weights best on the validation split, but there is none; hold one out"):
        pico.runner(tmp_path, Lp(), on="solids,val=0", measures=(), head_fit=best)
    # What is not trained needs none.
    pico.runner(tmp_path, Lp(), on="solids,val=0", measures=(), fit=dataclasses.replace(FIT, select="best"))


def test_where_nothing_is_chosen_a_task_may_go_without_validation_data_and_the_protocol_says_so(tmp_path):
    finished = pico.runner(tmp_path, Lp(), on="solids,val=0", measures=(Svm("others", "0.01"),)).run()
    assert {row.record.split for row in finished.results.rows if row.record.role == "accuracy"} == {"test"}
    assert "The downstream task has no validation part: nothing was selected." in finished.results.study.selection
    with pytest.raises(
        DataError, match=r"'neither' has no validation and no test part, so that nothing would be measured: give data that have one"
    ):
        pico.runner(tmp_path, Lp(), on="neither")


def test_a_task_without_a_test_part_is_measured_on_val_and_the_protocol_says_so(tmp_path):
    meter = Counting()
    runner = pico.runner(tmp_path, Lp(), meter, on="solids,test=0", **QUICK | {"corruption": Corruption(items=4)})
    expected = work(runner)
    results = runner.run().results
    assert meter.done == expected
    assert {(row.record.role, row.record.split) for row in results.rows if row.record.role in ("accuracy", "corruption")} == {
        ("accuracy", "val"),
        ("corruption", "val"),
    }
    assert "no test part" in results.study.selection
    assert "Test parts were measured" not in results.study.selection


@pytest.mark.parametrize(
    ("measure", "kind", "said"),
    [
        (Transfer("others"), DataError, r"3 classes have no partner: ring, cone, egg\."),
        (Transfer("others", "plat=cone"), UsageError, "has no class 'plat'"),
        (Svm("few"), DataError, "a class of 'few' has 2 training clouds"),
        (Svm("one", "0.01"), DataError, "the train part of 'one' has fewer than two"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_built(tmp_path, monkeypatch, measure, kind, said):
    monkeypatch.setitem(pico.TASKS, "few", lambda: pico.data(train=2))
    monkeypatch.setitem(pico.TASKS, "one", lambda: pico.data(classes=["ball"]))
    with pytest.raises(kind, match=said):
        pico.runner(tmp_path, STORY, measures=(Svm("others"), measure))
    assert [path.name for path in (tmp_path / "objects").glob("*")] == [digest(pico.START)]


def test_several_seeds_share_the_start_and_choose_one_alpha(tmp_path):
    finished = pico.runner(tmp_path, WiseFtLp((0.5,), baselines=False), seeds=(0, 1), **QUICK).run()
    rows = finished.results.rows
    assert {row.seed for row in rows} == {0, 1}
    of_seed = {seed: next(row.record for row in rows if row.seed == seed and row.method == "ft") for seed in (0, 1)}
    assert of_seed[0].weights != of_seed[1].weights
    start = {row.record.weights for row in rows if row.method == "lp" and row.record.role == "robustness"}
    assert len(start) == 1
    assert [choice.seed for choice in finished.results.chosen if choice.method == "wise-ft-lp"] == [0, 0, 1, 1, OVER_SEEDS]
    assert finished.results.study.recommended.alpha == next(
        choice.alpha for choice in finished.results.chosen if (choice.method, choice.seed) == ("wise-ft-lp", OVER_SEEDS)
    )
    assert {node.seed for node in walk(finished.recipe) if isinstance(node, Tune)} == {0}


def row(method, alpha, name, right, split="val", seed=0) -> Row:
    n = len(right)
    role = "accuracy" if name == "accuracy" else "robustness"
    record = Record("w", name, "d", "x", split, name, right.count("1") / n, n, 0.0, 1.0, {"right": right}, role=role)
    return Row(method, alpha, seed, record)


def curve(method: str, marks: dict[float, tuple[str, str]], **place) -> list[Row]:
    return [
        row(method, alpha, name, right, **place)
        for alpha, both in marks.items()
        for name, right in zip(("accuracy", "probe accuracy"), both, strict=True)
    ]


MARKS = {0.0: ("0" * 200, "1" * 10), 0.5: ("1" * 199 + "0", "1" * 9 + "0"), 1.0: ("1" * 200, "1" * 5 + "0" * 5)}


def test_the_choice_looks_at_validation_rows_alone():
    rows = curve("wise-ft", MARKS)
    chosen, best = choose(rows, (0,), "interval", WiseFt())
    assert best == Variant("wise-ft", 0.5)
    noise = curve("wise-ft", {alpha: MARKS[1.0 - alpha] for alpha in MARKS}, split="test")
    assert choose([*noise, *rows, *noise], (0,), "interval", WiseFt()) == (chosen, best)


def test_the_rule_decides():
    rows = curve("wise-ft", MARKS)
    # Greedy: 1 of 200 wrong is half a point, more than the tenth that it tolerates.
    assert choose(rows, (0,), "greedy", WiseFt())[1] == Variant("wise-ft", 1.0)
    assert choose(rows, (0,), "interval", WiseFt())[1] == Variant("wise-ft", 0.5)
    assert choose(rows, (0,), "greedy", WiseFt())[0] == choose(rows, (0,), "interval", WiseFt())[0]


def test_robustness_is_the_mean_over_probes():
    rows = curve("wise-ft", MARKS)
    against = [row("wise-ft", alpha, "probe accuracy", right) for alpha, right in ((0.0, "0000"), (0.5, "0000"), (1.0, "1111"))]
    assert choose([*rows, *against], (0,), "interval", WiseFt())[1] == Variant("wise-ft", 1.0)


def test_wise_ft_lp_is_recommended_before_wise_ft():
    rows = [*curve("wise-ft-lp", MARKS), *curve("wise-ft", MARKS)]
    chosen, best = choose(rows, (0,), "interval", WiseFtLp())
    assert best == Variant("wise-ft-lp", 0.5)
    assert [choice.method for choice in chosen] == ["wise-ft-lp"] * 2 + ["wise-ft"] * 2


class Ewc(Story):
    """A story from elsewhere, about another method than the last of its rows."""

    headline = "ewc"


def test_without_a_sweep_the_story_says_what_is_recommended():
    rows = [row(name, None, "accuracy", "1100") for name in ("ewc", "lp")]
    assert choose(rows, (0,), "interval", Ewc()) == ([], Variant("ewc"))
    with pytest.raises(UsageError, match="is about 'ewc', but its methods are lp"):
        choose(rows[1:], (0,), "interval", Ewc())


def test_without_a_probe_the_end_of_the_sweep_is_recommended():
    rows = [one for one in curve("wise-ft", MARKS) if one.record.role == "accuracy"]
    assert choose(rows, (0,), "interval", WiseFt()) == ([], Variant("wise-ft", 1.0))


def test_seeds_are_pooled():
    other = {0.0: MARKS[0.0], 0.5: ("0" * 200, "1" * 10), 1.0: MARKS[1.0]}
    rows = [*curve("wise-ft", MARKS), *curve("wise-ft", other, seed=1)]
    chosen, best = choose(rows, (0, 1), "interval", WiseFt())
    assert {choice.seed: choice.alpha for choice in chosen} == {0: 0.5, 1: 1.0, OVER_SEEDS: 1.0}
    assert best == Variant("wise-ft", 1.0)
    # A seed without its rows makes no choice for all.
    assert choose(curve("wise-ft", MARKS), (0, 1), "interval", WiseFt())[0] == []


def test_a_seed_copied_three_times_chooses_as_one():
    """More seeds do not make more validation clouds: a loss that one seed does not show, its copies do not either."""
    marks = {0.5: ("1" * 160 + "0" * 40, "1" * 10), 1.0: ("1" * 156 + "0" * 6 + "1" * 6 + "0" * 32, "1" * 5 + "0" * 5)}
    marks[0.5] = ("1" * 156 + "0" * 8 + "1" * 2 + "0" * 34, marks[0.5][1])
    once = choose(curve("wise-ft", marks), (0,), "interval", WiseFt())
    thrice = choose([row for seed in range(3) for row in curve("wise-ft", marks, seed=seed)], (0, 1, 2), "interval", WiseFt())
    assert thrice[1] == once[1]
    of_one, of_all = once[0][1].steps, thrice[0][-1].steps
    assert thrice[0][-1].seed == OVER_SEEDS
    assert of_all == of_one


def test_any_measure_of_that_role_joins_the_choice():
    rows = curve("wise-ft", MARKS)
    other = [row("wise-ft", alpha, "my few-shot", right) for alpha, right in ((0.0, "0000"), (0.5, "0000"), (1.0, "1111"))]
    assert choose([*rows, *other], (0,), "interval", WiseFt())[1] == Variant("wise-ft", 1.0)
    unsaid = [dataclasses.replace(one, record=dataclasses.replace(one.record, role="")) for one in other]
    assert choose([*rows, *unsaid], (0,), "interval", WiseFt()) == choose(rows, (0,), "interval", WiseFt())


def test_scans_of_few_objects_show_less():
    """A loss that is sure of so many clouds, and not of their few objects."""
    marks = {0.5: ("1" * 188 + "0" * 12, "1" * 10), 1.0: ("1" * 190 + "0" * 10, "1" * 5 + "0" * 5)}

    def shown(groups: list[int] | None) -> float:
        rows = curve("wise-ft", marks)
        detail = {} if groups is None else {"objects": groups}
        rows = [
            dataclasses.replace(one, record=dataclasses.replace(one.record, detail=one.record.detail | detail)) for one in rows[::2]
        ] + rows[1::2]
        (step,) = choose(rows, (0,), "interval", WiseFt())[0][1].steps
        return step.change_high - step.change_low

    assert shown([at // 10 for at in range(200)]) > shown(None)


def test_records_of_one_grouping_do_not_answer_for_another(tmp_path):
    plain, grouped = (pico.runner(tmp_path / name, STORY, **QUICK) for name in "ab")
    test = grouped.downstream.test
    siblings = dataclasses.replace(test, groups=tuple(f"{row // 2}" for row in range(len(test))))
    grouped.downstream = grouped._loaded["solids"] = dataclasses.replace(grouped.downstream, test=siblings)
    assert grouped.downstream.digest == plain.downstream.digest
    recipe = plain.trees()[0, Variant("ft")]
    plain.store.put_records(digest(recipe), plain._key(Accuracy()), [])
    grouped.store = plain.store
    assert plain.measured(recipe, Accuracy())
    assert not grouped.measured(recipe, Accuracy())


def test_mixes_of_the_recommended_model_are_in_the_store(finished):
    mixes = [node for node in walk(finished.recipe) if isinstance(node, Mix)]
    weights = {row.record.weights for row in finished.results.rows}
    assert digest(finished.recipe) in weights
    assert all(digest(node) in weights for node in mixes)


ON_TEST = dataclasses.replace(FIT, epochs=3, select="best-on-test")


def test_weights_best_on_the_test_split_are_kept_only_when_asked_and_every_result_says_so(tmp_path):
    done = pico.runner(tmp_path, Ft(), **QUICK | {"fit": ON_TEST}).run().results
    (warning,) = [text for text in done.study.warnings if "best-on-test" in text]
    assert "too good" in warning
    assert "best on the TEST part" in done.study.selection
    assert "not used for any choice" not in done.study.selection
    test = next(row.record for row in done.rows if row.record.role == "accuracy" and row.record.split == "test")
    assert test.value == max(line["test_accuracy"] for line in done.log["ft seed 0"])
    plain = pico.runner(tmp_path / "plain", Ft(), **QUICK).run().results
    assert not any("best-on-test" in text for text in plain.study.warnings)
    assert "not used for any choice" in plain.study.selection


def selection(root, story, **options) -> str:
    return pico.runner(root, story, **options).study().selection


def test_the_page_says_of_every_kind_of_training_which_weights_are_kept(tmp_path):
    best, spoilt = (dataclasses.replace(HEAD_FIT, select=select) for select in ("best", "best-on-test"))
    # Where heads alone are trained, what was said of whole models is not about them.
    assert selection(tmp_path, Lp(), head_fit=best).endswith(" choice. Weights: those of the epoch best on the validation part.")
    said = selection(tmp_path, Lp(), head_fit=spoilt)
    assert said == "Weights: those of the epoch best on the TEST part, whose numbers are too good by that choice."
    assert selection(tmp_path, Lp(), head_fit=spoilt, on="solids,val=0", measures=()) == said
    assert selection(tmp_path, Lp(), fit=ON_TEST).endswith(" choice. Weights: the last epoch's.")
    for story in (LpFt(), STORY):
        said = selection(tmp_path, story, head_fit=spoilt)
        assert "Weights of fine-tuned models: the last epoch's." in said
        assert "Weights of heads that train alone: those of the epoch best on the TEST part" in said
        assert selection(tmp_path, story).endswith(" Weights: the last epoch's.")


def tunes(runner) -> dict[str, set[str]]:
    """Of each kind of training in a job the digests of what it trains and selects on."""
    found: dict[str, set[str]] = {}
    for tree in runner.trees().values():
        for node in walk(tree):
            if isinstance(node, Tune):
                found.setdefault(node.tuning.name, set()).add(node.task)
    return found


def test_what_is_selected_on_enters_the_recipes_of_those_that_look_there(tmp_path):
    fits = {"fit": ON_TEST, "gentle_fit": dataclasses.replace(ON_TEST, lr=1e-3), "head_fit": HEAD_FIT}
    for number, story in enumerate((LpFt(), STORY)):
        runner = pico.runner(tmp_path / str(number), story, **fits)
        task = runner.downstream
        assert tunes(runner) == {
            "full": {dataclasses.replace(task, val=task.test).training_digest},
            "linear": {task.training_digest},
        }
        # BatchNorm statistics are measured on the task as it is.
        mixes = {node.task for tree in runner.trees().values() for node in walk(tree) if isinstance(node, Mix)}
        assert mixes <= {None, task.training_digest}
    runner = pico.runner(tmp_path / "heads", Lp(), **QUICK | {"head_fit": dataclasses.replace(HEAD_FIT, select="best-on-test")})
    assert tunes(runner)["linear"] != {runner.downstream.training_digest}


def test_a_test_split_to_select_on_has_to_be_there(tmp_path):
    with pytest.raises(UsageError, match=r"select=best-on-test keeps the weights best on the test split, but there is none"):
        pico.runner(tmp_path, Ft(), on="solids,test=0", measures=(), fit=ON_TEST, gentle_fit=GENTLE)


DENSE = 96


def denser(text: str, points: int):
    """A loader of tasks whose train clouds have more points where more are asked for."""
    data = pico.TASKS[text]()
    if points == pico.POINTS:
        return data
    assert points == DENSE
    more = np.concatenate([data.train.points, data.train.points[:, :32] * np.float32(0.9)], axis=1)
    return dataclasses.replace(data, train=dataclasses.replace(data.train, points=more), protocol={"repeated": 3})


def pooled(root, **options) -> Runner:
    fit = dataclasses.replace(FIT, epochs=1, pool=80, pool_of=DENSE)
    store = Store(root, tell=lambda _: None)
    keep_start(store, pico.START, pico.backbone())
    job = pico.job(WiseFt((0.5,)), **QUICK | {"fit": fit, "gentle_fit": fit} | options)
    return Runner(job, store, denser, pico.CPU, Silent())


def test_a_fit_that_draws_from_more_points_trains_on_clouds_read_with_as_many(tmp_path, monkeypatch):
    drawn = []
    redraw = finetune.redraw
    monkeypatch.setattr(
        finetune, "redraw", lambda points, *rest, **options: drawn.append(points.shape[1]) or redraw(points, *rest, **options)
    )
    runner = pooled(tmp_path)
    task = runner.downstream
    assert tunes(runner) == {
        "full": {dataclasses.replace(task, train=denser("solids", DENSE).train).training_digest},
        "linear": {task.training_digest},
    }
    results = runner.run().results
    assert set(drawn) == {DENSE}
    assert results.study.task.digest == task.digest  # what is measured is as it was
    assert any(f"fewer than {DENSE} points" in text for text in results.study.warnings)


def test_heads_that_draw_from_a_pool_are_expected_to_look_at_clouds_in_every_epoch(tmp_path):
    runner = pooled(tmp_path, head_fit=dataclasses.replace(HEAD_FIT, pool=80, pool_of=DENSE))
    heads = sum(isinstance(tree, Tune) and tree.tuning.name == "linear" for tree in runner.trees().values())
    expected = work(runner)
    assert expected["look"] == heads * HEAD_FIT.epochs * len(runner.downstream.train) > 0
    assert "head" not in expected


def test_a_pool_that_cannot_be_read_names_the_option(tmp_path):
    with pytest.raises(UsageError, match="pool=63: the backbone takes clouds of 64 points"):
        pooled(tmp_path, fit=dataclasses.replace(FIT, pool=63))

    def small(text: str, points: int):
        if points > pico.POINTS:
            raise DataError(f"clouds have {pico.POINTS} points.")
        return pico.TASKS[text]()

    fit = dataclasses.replace(FIT, pool=80)
    with pytest.raises(DataError, match=r"^pool=80 reads training clouds with 80 points \(pool-of\): clouds have 64 points"):
        Runner(pico.job(Ft(), fit=fit, gentle_fit=fit), Store(tmp_path, tell=lambda _: None), small, pico.CPU, Silent())
