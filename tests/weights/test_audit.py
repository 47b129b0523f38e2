from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from wisetune.weights.audit import audit, block_of
from wisetune.weights.uniform import Uniform
from wisetune.weights.wise import Wise


def parts(dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)

    def one(step: float) -> dict[str, Tensor]:
        state = {
            "blocks.0.w": torch.randn(4, 4, generator=generator),
            "blocks.1.w": torch.randn(4, 4, generator=generator) + step,
            "norm.w": torch.ones(4),
        }
        return {key: tensor.to(dtype) for key, tensor in state.items()} | {"bn.n": torch.tensor(int(step) + 5)}

    return [one(0) | {"decoder.w": torch.ones(2)}, one(2) | {"head.w": torch.ones(3, 4)}]


def line(lines: list[dict], kind: str, **where: object) -> dict:
    found = [each for each in lines if each["audit"] == kind and all(each[name] == value for name, value in where.items())]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_a_sound_merge_passes_every_line(dtype, alpha):
    inputs = parts(dtype)
    lines = audit(inputs, Wise(alpha).merge(inputs), alpha)
    assert all(each["ok"] for each in lines), [each for each in lines if not each["ok"]]
    assert line(lines, "distance", block="all")["position"] == pytest.approx(alpha, abs=0.01)
    ends = line(lines, "ends")
    assert (ends["equal_to_start"], ends["equal_to_finetuned"]) == (alpha == 0, alpha == 1)
    json.dumps(lines, allow_nan=False)


def test_keys_are_accounted_for():
    inputs = parts()
    merged = Wise(0.5).merge(inputs)
    found = line(audit(inputs, merged, 0.5), "keys")
    assert found["shared"] == 4
    assert found["not_in_all"] == [["decoder.w"], ["head.w"]]
    assert found["copied_integers"] == ["bn.n"]
    assert found["left_out"] == found["from_nowhere"] == []
    del merged["head.w"]
    assert line(audit(inputs, merged, 0.5), "keys")["left_out"] == ["head.w"]
    stray = line(audit(inputs, merged | {"x": torch.ones(1)}, 0.5), "keys")
    assert (stray["from_nowhere"], stray["ok"]) == (["x"], False)
    averaged = line(audit(inputs, merged | {"bn.n": torch.tensor(6)}, 0.5), "keys")
    assert not averaged["ok"]


def test_distances_are_those_of_the_parts():
    inputs = parts(torch.float64)
    lines = audit(inputs, Wise(0.5).merge(inputs), 0.5)
    a, b = inputs
    expected = {key: float((b[key] - a[key]).norm()) for key in ("blocks.0.w", "blocks.1.w", "norm.w")}
    for key, distance in expected.items():
        found = line(lines, "distance", block=block_of(key))
        assert found["distance"] == pytest.approx(distance)
        assert found["relative"] == pytest.approx(distance / float(a[key].norm()))
    assert line(lines, "distance", block="all")["distance"] == pytest.approx(math.hypot(*expected.values()))
    # A block that did not move has no place on a line.
    assert line(lines, "distance", block="norm")["position"] is None


def test_a_block_that_was_not_mixed_is_found():
    inputs = parts()
    merged = Wise(0.3).merge(inputs) | {"blocks.1.w": inputs[1]["blocks.1.w"].clone()}
    lines = audit(inputs, merged, 0.3)
    wrong = line(lines, "distance", block="blocks.1")
    assert not wrong["ok"]
    assert wrong["position"] == pytest.approx(1.0)
    assert line(lines, "distance", block="blocks.0")["ok"]
    assert not line(lines, "distance", block="all")["ok"]


def test_ends_that_are_only_nearly_right_are_found():
    inputs = parts()
    merged = Wise(1.0).merge(inputs)
    merged["norm.w"][0] = torch.nextafter(merged["norm.w"][0], torch.tensor(2.0))
    assert not line(audit(inputs, merged, 1.0), "ends")["ok"]
    inputs[0]["norm.w"][0] = -0.0
    merged = Wise(0.0).merge(inputs)
    merged["norm.w"][0] = 0.0
    assert not line(audit(inputs, merged, 0.0), "ends")["ok"]


def test_tied_tensors_must_stay_equal():
    inputs = [{"embed.w": tensor, "out.w": tensor, "b": torch.ones(1)} for tensor in (torch.zeros(3), torch.ones(3))]
    merged = Wise(0.5).merge(inputs)
    found = line(audit(inputs, merged, 0.5), "tied", part=0)
    assert found["keys"] == ["embed.w", "out.w"]
    assert found["ok"]
    merged["out.w"][0] = 7
    assert not line(audit(inputs, merged, 0.5), "tied", part=1)["ok"]


def test_empty_tensors_and_views_of_one_buffer_are_not_tied():
    flat = torch.arange(4.0)
    state = {"a": flat[:2], "b": flat[2:], "c": torch.zeros(0), "d": torch.zeros(0)}
    assert not [each for each in audit([state, state], Wise(0.5).merge([state, state]), 0.5) if each["audit"] == "tied"]


def test_values_that_are_not_finite_are_named_and_stay_json():
    inputs = parts()
    merged = Wise(0.5).merge(inputs) | {"norm.w": torch.full((4,), float("nan"))}
    lines = audit(inputs, merged, 0.5)
    found = line(lines, "finite")
    assert (found["ok"], found["merged"], found["parts"]) == (False, ["norm.w"], [[], []])
    assert not line(lines, "distance", block="norm")["ok"]
    json.dumps(lines, allow_nan=False)


def test_a_soup_of_three_has_distances_but_no_place_on_a_line():
    inputs = [parts()[1], *parts()]
    lines = audit(inputs, Uniform().merge(inputs))
    assert all(each["ok"] for each in lines)
    assert {each["part"] for each in lines if each["audit"] == "distance"} == {1, 2}
    assert "position" not in line(lines, "distance", block="all", part=2)


def test_dtypes_are_counted():
    inputs = parts(torch.float16)
    found = line(audit(inputs, Wise(0.5).merge(inputs), 0.5), "dtypes")
    assert found["parts"][0] == {"float16": 3, "int64": 1, "float32": 1}
    assert found["merged"] == {"float16": 3, "int64": 1, "float32": 1}


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("backbone.blocks.11.attn.qkv.weight", "backbone.blocks.11"),
        ("norm.weight", "norm"),
        ("cls_token", "cls_token"),
        ("encoder.first_conv.0.weight", "encoder.first_conv.0"),
        ("0.weight", "0"),
    ],
)
def test_blocks_are_read_from_keys(key, block):
    assert block_of(key) == block
