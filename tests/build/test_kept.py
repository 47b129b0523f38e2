"""Penalties in recipes: what they hold, what is refused, and that a killed training goes on to the same bits."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

import pico
from my_tunings import Adapter, ScaledProbe
from pico import FIT, HEAD_FIT, START, bits
from wisetune.build import builder as module
from wisetune.build.kept import anchored, check_keeps
from wisetune.build.study import study_of
from wisetune.errors import UsageError
from wisetune.fit import loop
from wisetune.keep.ewc import Ewc
from wisetune.keep.l2_sp import L2Sp
from wisetune.keep.lwf import Lwf
from wisetune.nets.heads import LinearHead
from wisetune.nets.model import Model
from wisetune.recipe import Mix, Start, Tune, digest, walk
from wisetune.results import Variant
from wisetune.store import Store
from wisetune.stories.ft import Ft
from wisetune.stories.lp import Lp
from wisetune.stories.stories import STORIES
from wisetune.stories.wise_ft_lp import WiseFtLp
from wisetune.tune.full import Full
from wisetune.tune.linear import Linear
from wisetune.tune.tuned import graft
from wisetune.tune.tunings import TUNINGS
from wisetune.weights.wise import Wise

DATA = pico.data()
QUICK = dataclasses.replace(FIT, epochs=2, augment="scale-translate")
FT = Tune(START, Full(), LinearHead(), DATA.training_digest, QUICK)
LP = Tune(START, Linear(), LinearHead(), DATA.training_digest, HEAD_FIT)
LP_FT = Tune(LP, Full(), LinearHead(), DATA.training_digest, QUICK, head_from="start")
PENALTIES = [Ewc(50.0), Ewc(50.0, fisher="empirical"), Ewc(50.0, fisher="batch"), L2Sp(0.1), Lwf(2.0)]


def held(recipe: Tune, keep) -> Tune:
    return dataclasses.replace(recipe, keep=keep)


def moved(root, recipe: Tune) -> float:
    """How far a tuning went from its parent's backbone."""
    builder = pico.builder(root)
    after, before = (dict(builder.model(node).backbone.named_parameters()) for node in (recipe, recipe.start))
    return float(torch.stack([(after[name] - value).detach().square().sum() for name, value in before.items()]).sum())


@pytest.mark.parametrize("keep", PENALTIES, ids=str)
def test_the_log_has_the_penalty_of_each_epoch_and_how_it_was_prepared(tmp_path, keep):
    builder, recipe = pico.builder(tmp_path), held(LP_FT, keep)
    builder.model(recipe)
    log = builder.log(recipe)
    assert [line["penalty_weight"] for line in log] == [keep.weight] * 2
    assert all(0 < line["penalty"] < line["loss"] for line in log)
    facts = Store(tmp_path).load(digest(recipe)).extra["penalty"]
    assert (facts["penalty"], facts["head"]) == (str(keep), "of the start")
    assert facts["held_values"] == (0 if isinstance(keep, Lwf) else sum(value.numel() for value in builder.model(LP_FT).parameters()))
    assert ("fisher_mean" in facts) == isinstance(keep, Ewc)


def test_without_a_penalty_nothing_of_it_is_in_the_log(tmp_path):
    builder = pico.builder(tmp_path)
    builder.model(FT)
    assert [set(line) for line in builder.log(FT)] == [{"epoch", "loss", "lr"}] * 2
    assert set(Store(tmp_path).load(digest(FT)).extra) == {"trained"}


@pytest.mark.parametrize(
    ("recipe", "keep", "much"),
    [(FT, L2Sp(0.1), 1e3), (FT, Ewc(10.0), 1e6), (LP_FT, L2Sp(0.1), 1e3), (LP_FT, Ewc(10.0), 1e6)],
    ids=["ft l2-sp", "ft ewc", "lp-ft l2-sp", "lp-ft ewc"],
)
def test_a_larger_weight_keeps_the_backbone_nearer_its_start(tmp_path, recipe, keep, much):
    free = moved(tmp_path, recipe)
    some = moved(tmp_path, held(recipe, keep))
    most = moved(tmp_path, held(recipe, dataclasses.replace(keep, weight=much)))
    assert most < some < free
    assert most < 0.5 * free


def test_a_larger_weight_of_lwf_keeps_the_answers_nearer_the_parent_s(tmp_path):
    builder, points = pico.builder(tmp_path), torch.from_numpy(DATA.train.points)

    def apart(recipe):
        models = [builder.model(node) for node in (recipe, LP)]
        with torch.inference_mode():
            mine, theirs = (model(points).log_softmax(dim=1) for model in models)
        return float((theirs.exp() * (theirs - mine)).sum(dim=1).mean())

    assert apart(held(LP_FT, Lwf(100.0))) < apart(held(LP_FT, Lwf())) < apart(LP_FT)


@pytest.mark.parametrize("keep", [Ewc(0.0), L2Sp(0.0), Lwf(0.0)], ids=str)
def test_weight_0_is_no_penalty_bit_for_bit(tmp_path, keep):
    builder = pico.builder(tmp_path)
    assert digest(held(LP_FT, keep)) != digest(LP_FT)
    assert bits(builder.model(held(LP_FT, keep)).state_dict()) == bits(builder.model(LP_FT).state_dict())
    told = [{key: value for key, value in line.items() if key != "penalty_weight"} for line in builder.log(held(LP_FT, keep))]
    assert told == builder.log(LP_FT)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("keep", [*PENALTIES, Ewc(50.0, labels=1, items=10)], ids=str)
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, keep):
    hours = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: 3600.0 * next(hours))
    recipe = held(LP_FT, keep)
    whole = pico.builder(tmp_path / "a")
    expected = bits(whole.model(recipe).state_dict())
    save = module.Resume.save

    def die(self, tensors, meta):
        save(self, tensors, meta)
        if self.name == digest(recipe):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module.Resume, "save", die)
        with pytest.raises(Killed):
            pico.builder(tmp_path / "b").model(recipe)
    torch.manual_seed(5)  # a new process knows nothing of the one before
    again = pico.builder(tmp_path / "b")
    assert bits(again.model(recipe).state_dict()) == expected
    assert again.log(recipe) == whole.log(recipe)


def test_what_the_start_has_no_value_of_is_not_held():
    """A fresh head, a class token that pre-training lacks; from a probed model on both have a value."""
    token = Start(pico.TOKEN_SPEC, "random:0")
    model = module.Model(pico.backbone(pico.TOKEN_SPEC), LinearHead().build(32, 4))
    names = [name for name, _ in model.named_parameters()]
    fresh = {"backbone.cls_token", "backbone.cls_pos"}
    assert set(model.backbone.anatomy.fresh) == {name.removeprefix("backbone.") for name in fresh}
    ft = dataclasses.replace(FT, start=token)
    assert set(names) - set(anchored(ft, model, names)) == fresh | {"head.weight", "head.bias"}
    lp = dataclasses.replace(LP, start=token)
    assert list(anchored(dataclasses.replace(LP_FT, start=lp), model, names)) == names
    assert list(anchored(dataclasses.replace(LP_FT, start=lp), model, ["head.bias"])) == ["head.bias"]
    TUNINGS.parse("ssf").graft_into(model)
    grafted = [name for name in dict(model.named_parameters()) if ".ssf." in name]
    assert list(anchored(ft, model, [*grafted, "head.bias", "backbone.cls_pos"])) == grafted


def test_values_on_which_the_loss_does_not_depend_are_held_by_l2_sp_and_not_by_ewc(tmp_path):
    """Their Fisher information is zero. They must be no error."""
    token = Start(pico.TOKEN_SPEC, "random:0")
    builder = pico.builder(tmp_path, spec=pico.TOKEN_SPEC)
    for keep in (Ewc(10.0), L2Sp()):
        recipe = held(dataclasses.replace(FT, start=token), keep)
        builder.model(recipe)
        assert all(line["penalty"] > 0 for line in builder.log(recipe))


@pytest.mark.parametrize("keep", [Ewc(10.0), L2Sp()], ids=str)
def test_a_fresh_head_alone_leaves_nothing_to_hold(tmp_path, keep):
    with pytest.raises(UsageError, match=r"'(ewc|l2-sp).*' holds weights near their .*'linear' trains \(head.*\) it holds none"):
        pico.builder(tmp_path).model(held(LP, keep))
    assert [row.digest for row in Store(tmp_path).list()] == [digest(START)]
    with pytest.raises(UsageError, match="it holds none"):
        check_keeps(Mix((START, held(LP, keep)), Wise(0.5)))


@pytest.mark.parametrize(("keep", "much"), [(Ewc(1.0), 1e8), (L2Sp(1e-3), 1e4)], ids=str)
@pytest.mark.parametrize("name", ["ssf", "lora", "dapt"])
def test_grafts_are_held_near_the_values_that_they_begin_with(tmp_path, name, keep, much):
    """Also from a fresh head."""
    plain = dataclasses.replace(FT, tuning=small(name), fit=dataclasses.replace(QUICK, lr=3e-3))
    ends = {}
    for weight in (0.0, much):
        builder, recipe = pico.builder(tmp_path), held(plain, dataclasses.replace(keep, weight=weight))
        model = builder.model(recipe)
        first = Model(pico.backbone(), torch.nn.Identity())
        graft(recipe.tuning, first, recipe.seed)
        began = dict(first.backbone.named_parameters())
        grafts = {key: value for key, value in model.backbone.named_parameters() if f".{name}" in key}
        ends[weight] = float(torch.stack([(value - began[key]).detach().square().sum() for key, value in grafts.items()]).sum())
        if weight:
            assert Store(tmp_path).load(digest(recipe)).extra["penalty"]["held_values"] == sum(map(torch.numel, grafts.values()))
            assert all(line["penalty"] > 0 for line in builder.log(recipe))
    assert ends[much] < ends[0.0]


def test_how_many_held_values_have_no_fisher_information_is_told(tmp_path):
    """Of LoRA it is the map down, while that after it is 0."""
    runner = pico.runner(tmp_path, Ft(), tuning=small("lora"), keep=Ewc(1.0), fit=QUICK, measures=())
    results = runner.run().results
    (recipe,) = runner.experiment.trees().values()
    model, facts = runner.builder.model(recipe), runner.store.load(digest(recipe)).extra["penalty"]
    downs = sum(value.numel() for key, value in model.named_parameters() if ".lora." in key and "down" in key)
    assert facts["fisher_zero"] == downs == 2 * 2 * 4 * 16
    said = f"of {facts['held_values']:,} held values {downs:,} have a Fisher information of exactly 0"
    assert results.study.noted == {"LoRA (rank=4) with ewc, seed 0": said}


def test_grafts_are_held_by_their_answers_or_once_they_have_values(tmp_path):
    adapted = dataclasses.replace(FT, tuning=Adapter())
    builder = pico.builder(tmp_path)
    for recipe in (
        held(dataclasses.replace(LP_FT, tuning=Adapter()), Lwf(2.0)),
        held(dataclasses.replace(LP_FT, start=adapted), Ewc(2.0)),
        held(dataclasses.replace(LP_FT, tuning=ScaledProbe()), L2Sp(2.0)),
    ):
        builder.model(recipe)
        assert all(line["penalty"] > 0 for line in builder.log(recipe))


def small(name):
    """The tuning, with a bottleneck narrower than our blocks where it has one."""
    kind = TUNINGS.entry(name)
    return kind.from_options("rank=4" if "rank" in {field.name for field in dataclasses.fields(kind)} else "")


@pytest.mark.parametrize("name", TUNINGS.names())
def test_every_tuning_of_a_backbone_has_something_to_hold(name):
    recipe = held(dataclasses.replace(FT, tuning=small(name)), L2Sp())
    if name == "linear":
        with pytest.raises(UsageError, match=r"'l2-sp' holds weights near .* of those that 'linear' trains \(head.*\) it holds none"):
            check_keeps(recipe)
    else:
        check_keeps(recipe)


@pytest.mark.parametrize(("name", "keep"), [("bitfit", Ewc(2.0)), ("lora", Lwf(2.0)), ("adapter", Lwf(2.0)), ("ssf", Lwf(2.0))])
def test_penalties_go_with_parameter_efficient_tunings(tmp_path, name, keep):
    builder, recipe = pico.builder(tmp_path), held(dataclasses.replace(LP_FT, tuning=small(name)), keep)
    builder.model(recipe)
    assert all(line["penalty"] > 0 for line in builder.log(recipe))


def test_a_head_alone_is_held_near_the_one_that_it_goes_on_from(tmp_path):
    """Though every epoch sees the same clouds its features are not kept: a term sees patches."""
    builder = pico.builder(tmp_path)
    warm = dataclasses.replace(LP, start=LP, head_from="start", fit=dataclasses.replace(HEAD_FIT, epochs=2, lr=0.2))
    for keep in (L2Sp(5.0), Ewc(5.0), Lwf()):
        builder.model(held(warm, keep))
        assert builder.log(held(warm, keep))[-1]["penalty"] > 0
    with pytest.raises(UsageError, match=r"'l2-sp:head=false' holds weights .*\(head.weight, head.bias\) it holds none"):
        check_keeps(held(warm, L2Sp(head=False)))


@pytest.mark.parametrize("recipe", [FT, dataclasses.replace(LP_FT, head_from="fresh"), dataclasses.replace(FT, head_from="start")])
def test_answers_need_a_head_that_has_answered(tmp_path, recipe):
    with pytest.raises(UsageError, match=r"'lwf' holds .* begins with a fresh head, which has answered nothing\. .* the story lp-ft"):
        pico.builder(tmp_path).model(held(recipe, Lwf()))


def test_what_is_no_penalty_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"'full' is no penalty"):
        pico.builder(tmp_path).model(held(FT, Full()))


def test_points_drawn_from_a_pool_are_those_that_the_fisher_sees(tmp_path, monkeypatch):
    """Read denser than the backbone takes, clouds would have other patches than in training."""
    dense = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, points=DATA.train.points.repeat(2, axis=1)))
    recipe = held(dataclasses.replace(FT, task=dense.training_digest, fit=dataclasses.replace(QUICK, pool=64, pool_of=128)), Ewc(1.0))
    found, group = set(), module.Model.group
    monkeypatch.setattr(module.Model, "group", lambda self, points: found.add(points.shape[1]) or group(self, points))
    builder = pico.builder(tmp_path, dense)
    builder.model(recipe)
    assert found == {pico.POINTS}


@pytest.mark.parametrize("name", STORIES.names())
def test_a_story_gives_it_to_every_tuning_of_a_backbone_and_to_no_head_that_trains_alone(name):
    plain, kept = (STORIES.parse(name).recipes(pico.setting(keep=keep)) for keep in (None, L2Sp()))
    for variant, tree in kept.items():
        tunes = [node for node in walk(tree) if isinstance(node, Tune)]
        assert all((node.keep == L2Sp()) == (node.tuning != Linear()) for node in tunes)
        before = [node for node in walk(plain[variant]) if isinstance(node, Tune)]
        assert [dataclasses.replace(node, start=START, keep=None) for node in tunes] == [
            dataclasses.replace(node, start=START) for node in before
        ]


def test_a_job_says_of_every_method_that_it_held_that_it_did(tmp_path):
    runner = pico.runner(tmp_path, WiseFtLp((0.5,), baselines=False), keep=L2Sp(0.1), fit=QUICK)
    results = runner.run().results
    assert results.study.keep == "l2-sp:weight=0.1"
    names = {method: words.name for method, words in results.study.methods.items()}
    assert names == {
        "lp": "linear probing",
        "ft": "full fine-tuning with l2-sp",
        "wise-ft": "WiSE-FT with l2-sp",
        "wise-ft-lp": "WiSE-FT-LP with l2-sp",
    }
    assert "held near its start by l2-sp:weight=0.1" in results.study.methods["ft"].meaning
    assert "full fine-tuning with l2-sp, seed 0" in runner.experiment.names.values()
    assert [line["penalty_weight"] for line in results.log["ft seed 0"]] == [0.1, 0.1]
    assert study_of(pico.experiment(Ft(), keep=None)).keep is None


def test_what_is_looked_at_before_training_counts_as_work(tmp_path):
    from wisetune.build.meter import KEEP
    from wisetune.build.work import work

    clouds = len(DATA.train)
    assert work(pico.runner(tmp_path, Ft(), keep=Ewc(1.0)))[KEEP] == 4 * clouds
    assert KEEP not in work(pico.runner(tmp_path, Ft(), keep=L2Sp()))
    runner = pico.runner(tmp_path, Ft(), keep=Ewc(1.0), fit=QUICK)
    runner.run()
    assert KEEP not in work(runner)


def test_a_job_without_such_a_training_keeps_its_words():
    experiment = pico.experiment(Lp(), keep=L2Sp())
    assert experiment.names[experiment.trees()[0, Variant("lp")]] == "linear probing, seed 0"
