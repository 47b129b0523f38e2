"""A job from end to end."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter

import pytest
import torch

import pico
from pico import FIT, HEAD_FIT, QUICK, Counting, bits
from wisetune.build import builder as builder_module
from wisetune.build import runner as runner_module
from wisetune.build import watch
from wisetune.build.watch import Spent
from wisetune.build.work import work
from wisetune.errors import DataError
from wisetune.fit import fit
from wisetune.measure.accuracy import Accuracy
from wisetune.measure.corruption import Corruption
from wisetune.measure.svm import Svm
from wisetune.measure.transfer import Transfer
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Tune, digest, walk
from wisetune.results import OVER_SEEDS, Results, Variant
from wisetune.stories.ft import Ft
from wisetune.stories.lp import Lp
from wisetune.stories.lp_ft import LpFt
from wisetune.stories.wise_ft import WiseFt
from wisetune.stories.wise_ft_lp import WiseFtLp

STORY = WiseFtLp((0.0, 0.5))
FULL = {
    **QUICK,
    "measures": (Svm("others", "0.01"), Transfer("others", "shared")),
    "corruption": Corruption(items=4),
    "source": "a test",
}


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
    recipe = runner.experiment.trees()[0, Variant("wise-ft-lp", by_interval.alpha)]
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
    trees = pico.runner(tmp_path, STORY, **FULL).experiment.trees()
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
    real = runner_module.stamp
    monkeypatch.setattr(builder_module, "stamp", lambda _: real("cuda"))
    monkeypatch.setattr(runner_module, "stamp", lambda _: real("cuda") | {"torch": "2.0"})
    first = pico.runner(tmp_path, Lp(), **QUICK).run().results
    assert (first.stamp["device"], first.stamp["torch"]) == ("cuda", f"{real('cuda')['torch']}, 2.0")
    monkeypatch.setattr(builder_module, "stamp", real)
    monkeypatch.setattr(runner_module, "stamp", real)
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


def test_records_of_one_grouping_do_not_answer_for_another(tmp_path):
    def load(text: str, points: int):
        data = pico.task(text, points)
        return dataclasses.replace(data, test=dataclasses.replace(data.test, groups=tuple(f"{row // 2}" for row in range(len(data.test)))))

    plain, grouped = pico.runner(tmp_path / "a", STORY, **QUICK), pico.runner(tmp_path / "b", STORY, load=load, **QUICK)
    assert grouped.experiment.downstream.digest == plain.experiment.downstream.digest
    recipe = plain.experiment.trees()[0, Variant("ft")]
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


def test_points_are_drawn_from_as_many_as_the_fit_reads_and_what_is_measured_is_as_it_was(tmp_path, monkeypatch):
    drawn = []
    redraw = fit.redraw
    monkeypatch.setattr(fit, "redraw", lambda points, *rest, **options: drawn.append(points.shape[1]) or redraw(points, *rest, **options))
    runner = pico.runner(tmp_path, WiseFt((0.5,)), load=pico.denser, **QUICK | {"fit": pico.POOLED, "gentle_fit": pico.POOLED})
    results = runner.run().results
    assert set(drawn) == {pico.DENSE}
    assert results.study.task.digest == runner.experiment.downstream.digest
    assert any(f"fewer than {pico.DENSE} points" in text for text in results.study.warnings)
