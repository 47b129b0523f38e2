from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wisetune.errors import UsageError, WeightsError
from wisetune.weights.mix import mix


def start() -> dict[str, Tensor]:
    return {"backbone.w": torch.zeros(2), "header.w": torch.zeros(1), "head.w": torch.full((5, 2), 9.0), "decoder.w": torch.ones(1)}


def finetuned() -> dict[str, Tensor]:
    return {
        "backbone.w": torch.ones(2),
        "header.w": torch.ones(1),
        "head.w": torch.ones(3, 2),
        "head.n": torch.tensor(7),
        "backbone.n": torch.tensor(3),
    }


def test_the_trained_head_is_kept_and_only_the_backbone_mixed():
    before = finetuned()
    mixed = mix(start(), before, 0.25)
    assert list(mixed) == list(before)
    assert mixed["backbone.w"].tolist() == [0.25, 0.25]
    assert torch.equal(mixed["head.w"], before["head.w"])
    assert mixed["head.w"].data_ptr() != before["head.w"].data_ptr()
    assert int(mixed["head.n"]) == 7
    # 'header' is not below 'head'.
    assert mixed["header.w"].tolist() == [0.25]


def test_the_head_may_be_dropped():
    assert list(mix(start(), finetuned(), 0.5, head="drop")) == ["backbone.w", "header.w", "backbone.n"]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_are_the_backbones_of_the_two_models(alpha):
    mixed = mix(start(), finetuned(), alpha)
    end = finetuned() if alpha else start()
    assert torch.equal(mixed["backbone.w"], end["backbone.w"])
    assert torch.equal(mixed["head.w"], finetuned()["head.w"])


def test_the_head_of_an_official_checkpoint_is_named_by_its_prefix():
    def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key.replace("head.", "cls_head_finetune."): tensor for key, tensor in state.items()}

    with pytest.raises(UsageError, match=r"head prefix 'head'.*head_prefixes"):
        mix(official(start()), official(finetuned()), 0.5)
    mixed = mix(official(start()), official(finetuned()), 0.5, head_prefixes=["cls_head_finetune."])
    assert torch.equal(mixed["cls_head_finetune.w"], torch.ones(3, 2))


def test_without_a_head_everything_is_mixed():
    mixed = mix({"w": torch.zeros(1)}, {"w": torch.ones(1)}, 0.5, head_prefixes=())
    assert mixed["w"].tolist() == [0.5]


def test_mistakes_are_refused():
    with pytest.raises(UsageError, match="head is 'keep'"):
        mix(start(), finetuned(), 0.5, head="keep")
    with pytest.raises(UsageError, match="alpha is 2"):
        mix(start(), finetuned(), 2)
    with pytest.raises(UsageError, match="head prefix ''"):
        mix(start(), finetuned(), 0.5, head_prefixes=("",))
    with pytest.raises(WeightsError, match="keys that another state lacks"):
        mix(start(), finetuned(), 0.5, missing="error")
    with pytest.raises(WeightsError, match=r"'head.w' holds values"):
        mix(start(), {**finetuned(), "head.w": torch.tensor([float("nan")])}, 0.5)
