"""The golden values of shared/reference/robust/golden: Fisher information of a linear softmax model, and the divergences of LwF."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wisetune.keep.ewc import batch_fisher, true_fisher
from wisetune.keep.lwf import distance


def near(found, expected):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def fisher(shared):
    return json.loads((shared / "reference/robust/golden/ewc_fisher.json").read_text())


@pytest.fixture(scope="module")
def lwf(shared):
    return json.loads((shared / "reference/robust/golden/lwf.json").read_text())


@pytest.fixture
def softmax(fisher):
    """The answers of the model at the start, its parameters, the rows, their labels, and the squared way from there to the new values."""
    x, before, after = (torch.tensor(fisher[key], dtype=torch.float64) for key in ("X", "W_pre", "W_new"))
    b_before, b_after = (torch.tensor(fisher[key], dtype=torch.float64) for key in ("b_pre", "b_new"))
    parameters = [torch.nn.Parameter(before), torch.nn.Parameter(b_before)]

    def answer(rows):
        return F.linear(x[torch.from_numpy(rows)], *parameters)

    ways = [(after - before).square(), (b_after - b_before).square()]
    return answer, parameters, np.arange(len(x)), np.array(fisher["y"]), ways


def check(found, expected, ways):
    near(found[0], expected["W"])
    near(found[1], expected["b"])
    total = float(sum((one * way).sum() for one, way in zip(found, ways, strict=True)))
    near(total, expected["penalty_sum"])
    return total


def test_the_true_fisher_and_the_paper_s_half(softmax, fisher):
    answer, parameters, rows, _, ways = softmax
    total = check(true_fisher(answer, parameters, rows), fisher["true_fisher"], ways)
    paper = fisher["true_fisher"]["paper_lambda_half"]
    near(0.5 * paper["lambda"] * total, paper["value"])


def test_the_empirical_fisher(softmax, fisher):
    answer, parameters, rows, labels, ways = softmax
    check(batch_fisher(answer, parameters, rows, labels, 1), fisher["empirical_fisher"], ways)


@pytest.mark.parametrize("size", ["1", "2", "3", "6"])
def test_the_squared_gradients_of_batches(softmax, fisher, size):
    answer, parameters, rows, labels, ways = softmax
    check(batch_fisher(answer, parameters, rows, labels, int(size)), fisher["batch_gradient_squared"][size], ways)


def test_l2_sp_is_the_sum_of_squares(softmax, fisher):
    ways = softmax[-1]
    total = float(sum(way.sum() for way in ways))
    near(total, fisher["rib_code"]["penalty"])
    near(fisher["lp_ft_l2sp"]["weight"] * total, fisher["lp_ft_l2sp"]["penalty_W_and_b"])


def test_drawn_answers_tend_to_the_expectation(softmax, fisher):
    answer, parameters, rows, *_ = softmax
    found = true_fisher(answer, parameters, rows, labels=4000)
    np.testing.assert_allclose(found[0].numpy(), fisher["true_fisher"]["W"], rtol=0.1)
    again = true_fisher(answer, parameters, rows, labels=4000)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert not torch.equal(found[0], true_fisher(answer, parameters, rows, labels=4000, seed=1)[0])


@pytest.mark.parametrize("temperature", [1, 2, 4])
def test_the_divergences_of_lwf(lwf, temperature):
    student, teacher = (torch.tensor(lwf[key], dtype=torch.float64) for key in ("student", "teacher"))
    expected = lwf[f"T{temperature}"]
    near(distance(student, teacher, temperature), expected["rib_avalanche_kl_no_T2"])
    near(distance(student, teacher, temperature, scaled=True), expected["hinton_kl_times_T2"])
    near(distance(student, teacher, temperature, "soft-ce"), expected["soft_cross_entropy"])


def test_the_rest_of_lwf(lwf):
    student, teacher = (torch.tensor(lwf[key], dtype=torch.float64) for key in ("student", "teacher"))
    some = torch.tensor(lwf["mask"])
    near(distance(student[:, some], teacher[:, some]), lwf["T2_masked"]["rib_avalanche_kl_no_T2"])
    hard = F.cross_entropy(student, torch.tensor(lwf["labels"]))
    near(hard, lwf["ce_hard"])
    near(hard + distance(student, teacher), lwf["total_rib_T2"])
    assert float(distance(student, student)) == lwf["identical_logits_loss"]


def test_both_divergences_have_one_gradient():
    student, teacher = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.randn(4, 5, dtype=torch.float64)
    gradients = [torch.autograd.grad(distance(student, teacher, 2.0, kind), student)[0] for kind in ("kl", "soft-ce")]
    torch.testing.assert_close(*gradients)
