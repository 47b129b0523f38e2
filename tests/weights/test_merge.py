from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wisetune.errors import UsageError, WeightsError
from wisetune.weights.alphas import grid, tidy
from wisetune.weights.merge import combine
from wisetune.weights.merges import MERGES
from wisetune.weights.uniform import Uniform
from wisetune.weights.wise import Wise

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def golden(shared: Path) -> dict:
    return json.loads((shared / "reference/robust/golden/weight_merging.json").read_text())


def state(values: dict, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {key: torch.tensor(value, dtype=dtype) for key, value in values.items()}


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@st.composite
def pairs(draw: st.DrawFn, count: int = 2) -> list[dict[str, Tensor]]:
    dtype = draw(st.sampled_from(DTYPES))
    numbers = st.floats(-1e4, 1e4, width=16)
    rows = st.lists(numbers, min_size=3, max_size=3)
    return [{"a": torch.tensor(draw(rows), dtype=dtype), "n": torch.tensor(draw(st.integers(0, 99)))} for _ in range(count)]


alphas = st.floats(0, 1)


def test_wise_gives_the_golden_values(golden):
    for alpha, expected in golden["wise_ft"].items():
        merged = Wise(float(alpha)).merge([state(golden["base"]), state(golden["ft1"])])
        assert list(merged) == list(expected)
        for key, value in expected.items():
            torch.testing.assert_close(merged[key], torch.tensor(value, dtype=torch.float64), atol=1e-12, rtol=0)


def test_uniform_gives_the_golden_values(golden):
    merged = Uniform().merge([state(golden[name]) for name in ("base", "ft1", "ft2")])
    for key, value in golden["uniform_soup_base_ft1_ft2"].items():
        torch.testing.assert_close(merged[key], torch.tensor(value, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("merge", [Wise(0.0), Wise(0.5), Wise(1.0), Uniform()])
def test_integer_buffers_are_copied_from_the_fine_tuned_state(golden, merge):
    case = golden["buffers"]["num_batches_tracked"]
    start, finetuned = (
        {"w": torch.ones(2), "num_batches_tracked": torch.tensor(case[name]), "mask": torch.tensor([name == "theta1", True])}
        for name in ("theta0", "theta1")
    )
    merged = merge.merge([start, finetuned])
    assert merged["num_batches_tracked"].dtype == torch.int64
    assert int(merged["num_batches_tracked"]) == 37
    assert merged["mask"].tolist() == [True, True]


@given(pairs())
def test_the_ends_are_exact_to_the_bit(states):
    states[0]["a"][0], states[1]["a"][1] = -0.0, -0.0
    for alpha, end in ((0.0, states[0]), (1.0, states[1])):
        merged = Wise(alpha).merge(states)
        assert merged["a"].dtype == end["a"].dtype
        assert bits(merged["a"]) == bits(end["a"])


@given(pairs(1), alphas)
def test_mixing_a_state_with_itself_changes_nothing(states, alpha):
    merged = Wise(alpha).merge([states[0], states[0]])
    assert torch.equal(merged["a"], states[0]["a"])
    assert merged["a"].dtype == states[0]["a"].dtype


@given(pairs(), alphas)
def test_wise_is_symmetric(states, alpha):
    forth, back = Wise(alpha).merge(states)["a"], Wise(1 - alpha).merge(states[::-1])["a"]
    torch.testing.assert_close(forth, back, atol=1e-8, rtol=2 * torch.finfo(forth.dtype).eps)


@given(pairs(), alphas)
def test_wise_is_linear_in_alpha(states, alpha):
    a, b = (part["a"].double() for part in states)
    merged = Wise(alpha).merge(states)["a"]
    eps = torch.finfo(merged.dtype).eps
    smallest = torch.finfo(merged.dtype).smallest_normal
    expected = a + tidy(alpha) * (b - a)
    assert bool(((merged.double() - expected).abs() <= eps * expected.abs() + smallest + 1e-11).all())


@given(pairs(), alphas, alphas)
def test_mixing_towards_a_mix_stays_on_the_line(states, alpha, beta):
    states = [{"a": part["a"].double()} for part in states]
    part_way = Wise(alpha).merge(states)
    twice = Wise(beta).merge([states[0], part_way])["a"]
    torch.testing.assert_close(twice, Wise(tidy(alpha) * tidy(beta)).merge(states)["a"], atol=1e-7, rtol=0)


@given(pairs(3))
def test_uniform_does_not_depend_on_the_order_of_floats(states):
    forth, back = Uniform().merge(states)["a"], Uniform().merge(states[::-1])["a"]
    torch.testing.assert_close(forth, back, atol=1e-11, rtol=torch.finfo(forth.dtype).eps)


@given(pairs())
def test_uniform_of_two_is_wise_half_way(states):
    torch.testing.assert_close(Uniform().merge(states)["a"], Wise(0.5).merge(states)["a"], atol=1e-11, rtol=1e-12)


@pytest.mark.parametrize("merge", [Wise(0.0), Wise(0.4), Wise(1.0), Uniform()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_share_no_storage_and_inputs_stay(merge, dtype):
    big = torch.arange(12, dtype=dtype).reshape(3, 4)
    start = {"w": big.t(), "n": torch.tensor(3)}
    finetuned = {"w": (big + 1).t(), "n": torch.tensor(4), "head": torch.ones(2, dtype=dtype)}
    before = [{key: tensor.clone() for key, tensor in part.items()} for part in (start, finetuned)]
    merged = merge.merge([start, finetuned])
    for tensor in merged.values():
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
        tensor.zero_()
    for part, kept in zip((start, finetuned), before, strict=True):
        assert all(torch.equal(part[key], kept[key]) for key in kept)


def test_parameters_may_be_given_and_leave_no_gradient():
    layer = torch.nn.Linear(2, 2)
    for merge in (Wise(0.3), Wise(1.0), Uniform()):
        merged = merge.merge([dict(layer.named_parameters())] * 2)
        assert not any(tensor.requires_grad or isinstance(tensor, torch.nn.Parameter) for tensor in merged.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_cast_last(dtype):
    # Summed in its own dtype this soup would stick where one more unit is below the last bit.
    parts = [{"w": torch.full((1,), 2048.0, dtype=dtype)}, *({"w": torch.ones(1, dtype=dtype)} for _ in range(7))]
    merged = Uniform().merge(parts)["w"]
    assert merged.dtype == dtype
    assert float(merged) == float(torch.tensor((2048 + 7) / 8, dtype=dtype))


def test_mixed_dtypes_take_the_wider():
    merged = Wise(0.5).merge([{"w": torch.ones(1, dtype=torch.float16)}, {"w": torch.full((1,), 1 + 2**-20)}])["w"]
    assert merged.dtype == torch.float32
    assert float(merged) == 1 + 2**-21


def test_keys_of_one_state_follow_the_policy():
    start = {"w": torch.zeros(2), "decoder": torch.ones(2)}
    finetuned = {"head": torch.ones(3), "w": torch.ones(2)}
    merged = Wise(0.25).merge([start, finetuned])
    assert list(merged) == ["head", "w"]
    assert merged["w"].tolist() == [0.25, 0.25]
    assert merged["head"].tolist() == [1, 1, 1]
    with pytest.raises(WeightsError, match="'decoder'"):
        Wise(0.25, missing="error").merge([start, finetuned])
    with pytest.raises(WeightsError, match="'head'"):
        Uniform(missing="error").merge([{"w": torch.zeros(2)}, finetuned])


@pytest.mark.parametrize("merge", [Wise(0.5), Wise(0.0), Wise(1.0), Uniform()])
def test_refusals_name_the_key(merge):
    good = {"w": torch.ones(2, 3)}
    with pytest.raises(WeightsError, match=r"'w' is \[2, 3\] .* \[2, 4\]"):
        merge.merge([good, {"w": torch.ones(2, 4)}])
    with pytest.raises(WeightsError, match=r"'table' is \[1\] .* \[2\]"):
        merge.merge([{**good, "table": torch.tensor([1])}, {**good, "table": torch.tensor([1, 2])}])
    with pytest.raises(WeightsError, match=r"'w' is torch\.int64"):
        merge.merge([{"w": torch.ones(2, 3, dtype=torch.int64)}, good])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(WeightsError, match="'w' holds values that are not finite in state 1"):
            merge.merge([{"w": torch.full((2, 3), bad)}, good])
        with pytest.raises(WeightsError, match="'head' holds"):
            merge.merge([good, {**good, "head": torch.tensor([bad])}])
    with pytest.raises(WeightsError, match=r"share no key: the first begins with 'w', the last with 'module\.w'"):
        merge.merge([good, {"module.w": torch.ones(2, 3)}])
    with pytest.raises(WeightsError, match="holds a dict under 'model'"):
        merge.merge([good, {"model": good}])


def test_a_mix_that_leaves_its_range_is_refused():
    # The fine-tuned value does not fit the step in float64 either: b - a overflows.
    big = torch.finfo(torch.float64).max
    with pytest.raises(WeightsError, match=r"'w' .* merged state"):
        Wise(0.25).merge([{"w": torch.tensor([big], dtype=torch.float64)}, {"w": torch.tensor([-big], dtype=torch.float64)}])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
def test_alpha_lies_between_the_ends(alpha):
    with pytest.raises(UsageError, match="alpha is"):
        Wise(alpha)


def test_the_number_of_states_is_checked():
    one = {"w": torch.ones(1)}
    with pytest.raises(UsageError, match="given 3"):
        Wise(0.5).merge([one] * 3)
    with pytest.raises(UsageError, match="none"):
        Uniform().merge([])
    with pytest.raises(UsageError, match="missing is 'union'"):
        combine([one], lambda _, parts: parts[0], missing="union")


def test_alphas_are_tidy_and_grids_hit_their_ends():
    assert tidy(0.1 + 0.2) == 0.3
    assert str(tidy(-0.0)) == "0.0"
    assert tidy(1 + 1e-15) == 1.0
    assert grid() == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert Wise(0.1 + 0.2).canonical() == Wise(0.3).canonical()
    assert Wise(1).canonical() == Wise(1.0).canonical()
    with pytest.raises(UsageError, match="0 steps"):
        grid(0)


def test_the_catalog_finds_merges_by_file():
    assert MERGES.names() == ["uniform", "wise"]
    assert MERGES.parse("wise:0.3") == Wise(0.3)
    assert str(MERGES.parse("wise:alpha=0.7,missing=error")) == "wise:alpha=0.7,missing=error"
    assert MERGES.parse("uniform") == Uniform()
    with pytest.raises(UsageError, match="wise"):
        MERGES.parse("wize")
