"""What every penalty promises, of every entry of the catalog and on every backbone; and what each one alone does."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pico
from pico import bits
from wisetune.errors import TrainingError, UsageError
from wisetune.keep.ewc import Ewc
from wisetune.keep.l2_sp import L2Sp
from wisetune.keep.lwf import Lwf
from wisetune.keep.penalties import PENALTIES
from wisetune.keep.penalty import Begun
from wisetune.nets.create import BACKBONES, fresh_backbone, fresh_head
from wisetune.nets.heads import LinearHead, Mlp3Head
from wisetune.nets.model import Model

DATA = pico.data(train=2, val=0, test=0).train
SMALL = {"points": 64, "groups": 8, "group_size": 8, "width": 16, "depth": 2, "heads": 2, "tokenizer": (6, 8, 10)}
ALL = [PENALTIES.entry(name).from_options("weight=3") for name in PENALTIES.names()]
FISHERS = [Ewc(3.0, fisher="empirical"), Ewc(3.0, fisher="batch"), Ewc(3.0, labels=1)]
KINDS = [*ALL, *FISHERS]


def spec_of(name):
    return pico.PYRAMID if name == "point-m2ae" else BACKBONES.entry(name)(**SMALL)


@functools.cache
def trained(spec, head) -> Model:
    backbone = fresh_backbone(spec, 0)
    model = Model(backbone, fresh_head(head, backbone, 4, 0))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(2):
            model.train()(torch.from_numpy(DATA.points))
        for value in model.head.parameters():
            value += 0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    return model.eval()


def begun_of(spec=pico.SPEC, head=None) -> Begun:
    """The beginning of a training that goes on from a trained head."""
    model, parent = (copy.deepcopy(trained(spec, head or LinearHead())) for _ in range(2))
    names = tuple(name for name, _ in model.named_parameters())
    return Begun(model, parent, names, lambda rows: model.group(torch.from_numpy(DATA.points[rows])), DATA.labels, 4, 0)


def value(term, begun: Begun) -> torch.Tensor:
    groups = begun.groups(np.arange(len(DATA.labels)))
    return term(begun.model, groups, begun.model.head(begun.model.encode(groups)))


def step(begun: Begun) -> None:
    """Away from the start, by the task's loss."""
    groups = begun.groups(np.arange(len(DATA.labels)))
    F.cross_entropy(begun.model.head(begun.model.encode(groups)), torch.from_numpy(DATA.labels)).backward()
    with torch.no_grad():
        for parameter in begun.model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
            parameter.grad = None


def held_to(penalty, spec=pico.SPEC, head=None):
    begun = begun_of(spec, head)
    begun.model.train()
    before = bits(begun.model.state_dict())
    term, _ = penalty.prepared(begun)
    assert bits(begun.model.state_dict()) == before, "BatchNorm's statistics too"
    assert all(module.training for module in begun.model.modules())
    assert all(parameter.grad is None for parameter in begun.model.parameters())
    begun.model.eval()
    return begun, term


def _cells():
    """Every penalty on every backbone; other ways to estimate a Fisher by default on two."""
    for penalty, name in itertools.product(KINDS, BACKBONES.names()):
        marks = pytest.mark.slow if penalty in FISHERS and name not in ("point-mae", "point-m2ae") else []
        yield pytest.param(penalty, name, id=f"{penalty}-{name}", marks=marks)


@pytest.mark.parametrize(("penalty", "name"), [*_cells()])
def test_it_is_nothing_at_the_start_grows_and_draws_back(penalty, name):
    begun, term = held_to(penalty, spec_of(name), Mlp3Head(hidden=8))
    assert float(value(term, begun).detach()) == pytest.approx(0.0, abs=1e-7)
    step(begun)
    away = value(term, begun)
    assert float(away.detach()) > 0
    away.backward()
    got = {key for key, parameter in begun.model.named_parameters() if parameter.grad is not None and bool(parameter.grad.any())}
    assert any(key.startswith("backbone.") for key in got)
    assert any(key.startswith("head.") for key in got)
    assert all(parameter.grad is None for parameter in begun.parent.parameters())
    slopes = [parameter for parameter in begun.model.parameters() if parameter.grad is not None]
    length = float(away.detach()) / sum(float(parameter.grad.square().sum()) for parameter in slopes)
    with torch.no_grad():
        for parameter in slopes:
            parameter -= 0.01 * length * parameter.grad
    assert float(value(term, begun).detach()) < float(away.detach())


@pytest.mark.parametrize("penalty", KINDS, ids=str)
def test_its_spec_is_copied_and_it_is_prepared_to_the_same_bits(penalty):
    assert copy.deepcopy(penalty) == penalty
    found = []
    for _ in range(2):
        begun, term = held_to(copy.deepcopy(penalty))
        step(begun)
        found.append(value(term, begun).detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", ALL, ids=str)
def test_its_weight_multiplies_and_0_is_no_term(kind):
    terms = []
    for weight in (1.0, 2.5):
        begun, term = held_to(dataclasses.replace(kind, weight=weight))
        step(begun)
        terms.append(float(value(term, begun).detach()))
    assert terms[1] == pytest.approx(2.5 * terms[0], rel=1e-5)
    assert dataclasses.replace(kind, weight=0.0).prepared(begun).term is None
    with pytest.raises(UsageError, match=r"option 'weight' of .* is -1.0; it must be a number, at least 0"):
        dataclasses.replace(kind, weight=-1.0)


@pytest.mark.parametrize("penalty", [L2Sp(head=False), Ewc(1.0, head=False)], ids=str)
def test_without_the_head_only_the_backbone_is_drawn_back(penalty):
    begun, term = held_to(penalty)
    step(begun)
    value(term, begun).backward()
    assert all(parameter.grad is None for parameter in begun.model.head.parameters())
    assert any(parameter.grad is not None for parameter in begun.model.backbone.parameters())


def test_what_does_not_train_or_has_no_start_is_not_held():
    begun = dataclasses.replace(begun_of(), anchored=("backbone.norm.weight",))
    terms = [penalty.prepared(begun).term for penalty in (L2Sp(), Ewc(1.0, half=False))]
    with torch.no_grad():
        for name, parameter in begun.model.named_parameters():
            parameter += 2.0 if name == "backbone.norm.weight" else 5.0
    expected = true_fisher_of(begun_of(), "backbone.norm.weight")
    assert float(value(terms[0], begun).detach()) == 4.0 * 16
    assert float(value(terms[1], begun).detach()) == pytest.approx(float((4 * expected).sum()), rel=1e-5)


def true_fisher_of(begun: Begun, name: str) -> torch.Tensor:
    """By its definition, cloud by cloud and class by class."""
    parameter = begun.model.get_parameter(name)
    total = torch.zeros_like(parameter)
    for row in range(len(DATA.labels)):
        for index in range(4):
            logs = begun.model.head(begun.model.encode(begun.groups(np.array([row]))))[0].log_softmax(dim=0)
            (gradient,) = torch.autograd.grad(logs[index], parameter)
            total += logs[index].detach().exp() * gradient.square()
    return total / len(DATA.labels)


def test_ewc_tells_how_large_its_fisher_is_and_takes_as_many_clouds_as_asked():
    begun = begun_of()
    facts = {items: Ewc(1.0, items=items).prepared(begun).facts for items in (0, 3, 300)}
    assert [facts[items]["fisher_clouds"] for items in (0, 3, 300)] == [8, 3, 8]
    assert 0 < facts[0]["fisher_mean"] < facts[0]["fisher_max"]
    assert facts[0] == facts[300] != facts[3]


@pytest.mark.parametrize(
    ("penalty", "cost"),
    [(Ewc(1.0), 300 * 4), (Ewc(1.0, items=0), 4000), (Ewc(1.0, labels=2), 600), (Ewc(1.0, fisher="batch"), 300), (Lwf(), 0), (L2Sp(), 0)],
    ids=str,
)
def test_a_penalty_says_how_many_clouds_it_looks_at(penalty, cost):
    assert penalty.cost(1000, 4) == cost


def test_half_is_the_paper_s():
    halves = []
    for half in (True, False):
        begun, term = held_to(Ewc(1.0, half=half))
        step(begun)
        halves.append(float(value(term, begun).detach()))
    assert halves[1] == pytest.approx(2 * halves[0], rel=1e-6)


def test_a_batch_of_ewc_is_a_training_step_s_unless_it_says_another():
    """One of as many clouds as there are is the square of the mean gradient; of one cloud each it is the empirical Fisher."""
    begun = begun_of()
    means = {
        penalty: penalty.prepared(begun).facts["fisher_mean"]
        for penalty in (Ewc(1.0, fisher="empirical"), *(Ewc(1.0, fisher="batch", fisher_batch=size) for size in (None, 1, 4, 8)))
    }
    empirical, own, ones, fours, whole = means.values()
    assert own == fours
    assert ones == pytest.approx(empirical, rel=1e-6)
    assert whole < fours < ones


@pytest.mark.parametrize(("options", "said"), [("labels=1,fisher=empirical", "labels=1"), ("fisher-batch=4", "fisher-batch=4")])
def test_an_option_of_another_fisher_is_refused(options, said):
    with pytest.raises(UsageError, match=rf"'ewc' was given {said} and fisher=.*alone\. Leave it out"):
        PENALTIES.parse(f"ewc:weight=1,{options}")


def test_a_fisher_that_is_not_finite_is_refused():
    begun = begun_of()
    with torch.no_grad():
        begun.model.head.bias[0] = float("nan")
    for penalty in (Ewc(1.0), Ewc(1.0, labels=1), Ewc(1.0, fisher="batch")):
        with pytest.raises(TrainingError, match="the Fisher information at the start is not finite"):
            penalty.prepared(begun)


def test_ewc_must_be_given_a_weight():
    with pytest.raises(UsageError, match=r"'ewc' needs weight; for example 'ewc:weight=\.\.\.'"):
        PENALTIES.parse("ewc")
    assert PENALTIES.parse("ewc:10") == Ewc(10.0)


def test_the_teacher_of_lwf_rests():
    begun, term = held_to(Lwf(temperature=3.0, scaled=True))
    step(begun)
    begun.model.train()
    one = value(term, begun)
    before = bits(begun.parent.state_dict())
    one.backward()
    assert bits(begun.parent.state_dict()) == before
    assert not begun.parent.training
