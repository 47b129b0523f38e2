"""What tunings cost is told beside what they gain, once, where a story asks for it."""

from __future__ import annotations

import dataclasses
import json

import pytest

import pico
from wisetune.build import costs as costs_module
from wisetune.build.memory import memory_of
from wisetune.build.meter import weigh
from wisetune.build.work import work
from wisetune.nets.backbone import build_empty
from wisetune.nets.create import assemble
from wisetune.nets.macs import Macs, macs
from wisetune.results import Results
from wisetune.stories.compare import Compare
from wisetune.stories.ft import Ft
from wisetune.tune.tunings import TUNINGS

TUNINGS_HERE = ("bitfit:reading=as_published", "lora:rank=4", "dapt:rank=4", "idpt:neighbours=3")
STORY = Compare(TUNINGS_HERE)
QUICK = {"fit": dataclasses.replace(pico.FIT, epochs=1), "head_fit": dataclasses.replace(pico.HEAD_FIT, epochs=1), "measures": ()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    meter = pico.Counting()
    runner = pico.runner(tmp_path_factory.mktemp("costs") / "store", STORY, meter, **QUICK)
    expected = work(runner)
    return runner, runner.run().results, expected, dict(meter.done)


def test_each_way_to_tune_the_start_is_told_its_cost_in_the_order_of_the_story(done):
    _, results, *_ = done
    assert list(results.costs) == ["ft", "lp", *map(str, map(TUNINGS.parse, TUNINGS_HERE))]
    full = results.costs["ft"]
    assert full.share == 1.0
    assert full.trainable == sum(value.numel() for value in build_empty(pico.SPEC).parameters()) + (32 + 1) * 4
    for name, cost in results.costs.items():
        assert cost.batch == pico.FIT.batch
        assert cost.step_seconds is not None
        assert cost.step_seconds > 0
        assert (cost.trainable < full.trainable) == (cost.share < 1) == (name != "ft")


def test_costs_survive_their_file(done):
    _, results, *_ = done
    assert Results.from_json(json.loads(json.dumps(results.to_json(), allow_nan=False))).costs == results.costs


def test_memory_and_multiply_accumulates_are_those_of_their_own_commands(done):
    runner, results, *_ = done
    plain = assemble(build_empty(pico.SPEC), runner.experiment.job.head, runner.experiment.downstream.classes)
    for name, cost in results.costs.items():
        tuning = TUNINGS.parse({"ft": "full", "lp": "linear"}.get(name, name))
        memory = memory_of(tuning, plain, pico.FIT.batch)
        assert (cost.memory_peak, cost.memory_held, cost.trainable) == (memory.peak, memory.held, memory.trainable)
    assert (results.costs["ft"].macs_published, results.costs["ft"].macs_true) == macs(plain)
    assert results.costs["idpt:neighbours=3"].macs_published > results.costs["ft"].macs_published


def test_a_delta_has_what_the_model_has_and_the_start_has_not(done):
    """Counted from shapes; here from the values of what was trained."""
    runner, results, *_ = done
    start = pico.bits(pico.backbone().state_dict())
    for (_, variant), tree in runner.experiment.trees().items():
        trained = pico.bits(runner.builder.model(tree).state_dict())
        assert results.costs[variant.method].delta_bytes == sum(len(value) for name, value in trained.items() if start.get(name) != value)


def test_a_batch_is_no_larger_than_what_there_is_to_train_on(tmp_path):
    options = {name: dataclasses.replace(QUICK[name], batch=64) for name in ("fit", "head_fit")}
    costs = pico.runner(tmp_path, Compare(("linear",)), **QUICK | options).run().results.costs
    assert {cost.batch for cost in costs.values()} == {36}


def test_the_meter_is_told_of_it_and_a_story_that_does_not_ask_pays_nothing(done, tmp_path, monkeypatch):
    _, _, expected, told = done
    assert told == expected
    assert expected["cost"] == 6 * 9 * pico.FIT.batch
    assert weigh({"cost": 1.0}) == weigh({"train": 1.0})
    monkeypatch.setattr(costs_module, "tune", lambda *_, **__: pytest.fail("timed"))
    plain = pico.runner(tmp_path, Ft(), **QUICK)
    assert "cost" not in work(plain)
    assert plain.run().results.costs == {}


def test_costs_are_told_once_and_together(done, monkeypatch):
    runner, results, *_ = done
    again = pico.runner(runner.store.root, STORY, **QUICK)
    timed, tune = [], costs_module.tune
    monkeypatch.setattr(costs_module, "tune", lambda *given, **options: timed.append(given) or tune(*given, **options))
    assert work(again) == {}
    assert again.run().results.costs == results.costs
    assert not timed
    # Of times of two days no ratio is made.
    more = pico.runner(runner.store.root, Compare((*TUNINGS_HERE, "ssf")), **QUICK)
    assert work(more)["cost"] == 7 * 9 * pico.FIT.batch
    assert more.run().results.costs["ft"].step_seconds != results.costs["ft"].step_seconds
    assert len(timed) == 7 * 3


def test_what_is_counted_is_counted_anew_and_only_times_are_kept(done, monkeypatch):
    """So that a count that is mended is mended in every store."""
    runner, results, *_ = done
    monkeypatch.setattr(costs_module, "macs", lambda _: Macs(7, 5))
    again = pico.runner(runner.store.root, STORY, **QUICK).run().results.costs
    assert {(cost.macs_published, cost.macs_true) for cost in again.values()} == {(7, 5)}
    assert {name: cost.step_seconds for name, cost in again.items()} == {name: cost.step_seconds for name, cost in results.costs.items()}


@pytest.mark.parametrize("name", ["processor", "stamp"])
def test_times_of_another_machine_are_not_shown_as_measured_here(done, monkeypatch, name):
    runner, *_ = done
    here = getattr(costs_module, name)
    monkeypatch.setattr(costs_module, name, lambda device: {**here(device), "cores": 1000} if name == "stamp" else "another processor")
    assert work(pico.runner(runner.store.root, STORY, **QUICK))["cost"] == 6 * 9 * pico.FIT.batch


def test_what_reads_values_while_it_runs_has_no_memory_that_shapes_tell(tmp_path):
    costs = pico.runner(tmp_path, Compare(("my_tunings:Peeking",)), **QUICK).run().results.costs
    peeking = costs["my_tunings:Peeking"]
    assert (peeking.macs_published, peeking.macs_true, peeking.memory_peak, peeking.memory_held) == (None,) * 4
    assert peeking.step_seconds is not None
    assert (peeking.trainable, peeking.delta_bytes) == (costs["ft"].trainable, costs["ft"].delta_bytes)
