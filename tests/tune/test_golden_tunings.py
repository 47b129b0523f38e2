"""The released tuned models' numbers, at their official sizes, from their released names: outputs, insides, gradients, a pass in training mode.

In the released code extra tokens stand behind the class token, the newest first; here behind the patches, in the order in which they came. Attention
sums over tokens, so that nothing else differs.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tuned_samples import RELEASED, empty, fill_live, golden_of, live_value, schema_of
from wisetune.nets.model import Model
from wisetune.nets.transformer import set_drop_path
from wisetune.tune.tuning import Tuning

DEAD = {"dapt-scan_hardest": {9}, "dapt-scan_objonly": {9}, "dapt-modelnet40": {5, 7, 11}}
"""Of DAPT the blocks whose gate is shut for every token under these weights, so that their adapters get no gradient."""
FAST = ("pointmae-full-modelnet40", "dapt-modelnet40", "idpt-scan_objonly", "vptdeep-modelnet40")
NARROW, WIDE = {"rtol": 1e-4, "atol": 2e-5}, {"rtol": 1e-9, "atol": 1e-9}
HEAD = "cls_head_finetune"


@dataclasses.dataclass(repr=False)
class Case:
    """One released model with its golden values."""

    name: str
    golden: dict[str, np.ndarray]
    entries: dict[str, dict[str, Any]]
    model: Model
    tuning: Tuning

    @property
    def cloud(self) -> torch.Tensor:
        return torch.from_numpy(self.golden["cloud"])

    @property
    def tuned_by(self) -> str:
        return self.name.partition("-")[0]

    def released(self, own: str) -> tuple[str, ...]:
        """Every name in the released state dict of one of the model's own; none for what that has not."""
        theirs = self.tuning.released(own)
        return theirs or ((own,) if own in self.entries else ())

    def close(self, found: torch.Tensor, key: str) -> None:
        np.testing.assert_allclose(found.detach().numpy(), self.golden[key], **WIDE, err_msg=key)

    def in_their_order(self, x: torch.Tensor) -> torch.Tensor:
        if self.tuned_by not in ("dapt", "idpt"):
            return x
        behind = 1 + self.model.backbone.spec.groups
        return torch.cat([x[:, :1], x[:, behind:].flip(1), x[:, 1:behind]], dim=1)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in RELEASED])
def case(request, shared):
    name = request.param
    golden, schema = golden_of(shared, name), schema_of(shared, name)
    model, tuning = empty(RELEASED[name], schema["config"]["cls_dim"], points=1024, groups=schema["config"]["num_group"])
    found = Case(name, golden, schema["entries"], fill_live(model, tuning), tuning)
    yield found
    live_value.cache_clear()


def test_outputs(case):
    with torch.no_grad():
        np.testing.assert_allclose(copy.deepcopy(case.model).float()(case.cloud), case.golden["logits_f32"], **NARROW)


def test_inside_and_gradients(case):
    model, seen, handles = case.model, {}, []

    def watch(name: str, module: nn.Module, *, first: bool = False) -> None:
        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            seen.setdefault(name, output.detach())

        handles.append(module.register_forward_hook(keep, prepend=first))

    backbone = model.backbone
    for name, place in {"tokens": "encoder", "pos": "pos_embed", "norm": "norm"}.items():
        watch(name, backbone.get_submodule(place), first=True)  # before DAPT's scale and shift
    for number, block in enumerate(backbone.blocks.blocks):
        watch(f"block{number}", block, first=case.tuned_by == "vptdeep")  # before its prompts are taken away
        if case.tuned_by == "dapt":
            watch(f"prompt{number}", block.dapt.affine)
    if case.tuned_by == "dapt":
        watch("adapter0", backbone.blocks.blocks[0].dapt.adapter)
        watch("scale_pre0", backbone.blocks.blocks[0].dapt.adapter.scale)
    model.zero_grad()
    logits = model(case.cloud.double())
    loss = F.cross_entropy(logits, torch.tensor([3, 7]))
    loss.backward()
    for handle in handles:
        handle.remove()

    case.close(logits, "logits_f64")
    case.close(model.features(case.cloud.double()), "head_in")
    check_inside(case, seen)
    check_gradients(case, float(loss.detach()))


def check_inside(case: Case, seen: dict[str, torch.Tensor]) -> None:
    for key in ("tokens", "pos"):
        case.close(seen[key][..., ::16], f"{key}_s16")
    norm = case.in_their_order(seen["norm"])[..., ::16]
    np.testing.assert_allclose(norm, case.golden["norm_s16"][:, : norm.shape[1]], **WIDE)  # of VPT's last prompts nobody asks
    blocks = [case.in_their_order(seen[f"block{number}"]) for number in range(12)]
    for number in (0, 10, 11):
        case.close(blocks[number][..., ::16], f"block{number}_s16")
    case.close(
        torch.tensor([[x.mean(), x.std(correction=0), x.abs().sum(), x.shape[1]] for x in blocks], dtype=torch.float64), "block_stats"
    )
    if case.tuned_by == "dapt":
        case.close(torch.stack([seen[f"prompt{number}"] for number in range(12)], dim=1), "prompt0_to_11")
        case.close(seen["adapter0"][..., ::16], "adapter0_s16")
        case.close(seen["scale_pre0"].squeeze(-1), "scale_pre0")


def check_gradients(case: Case, loss: float) -> None:
    """Their norms; those of a shut gate are exactly 0, here as there."""
    golden = dict(zip(case.golden["grad_names"].tolist(), case.golden["grad_l2"].tolist(), strict=True))
    assert loss == pytest.approx(golden.pop("__loss__"), rel=1e-12)
    found, own_names = {}, {}
    for name, value in case.tuning.freeze(case.model).items():
        side, _, rest = name.partition(".")
        theirs = case.released(rest if side == "backbone" else f"{HEAD}.{rest}")
        (known,) = [one for one in theirs if one in golden]
        found[known], own_names[known] = 0.0 if value.grad is None else float(value.grad.norm()), name
    assert found.keys() == golden.keys()
    np.testing.assert_allclose([found[name] for name in golden], list(golden.values()), rtol=1e-9, atol=1e-12)
    dead = {name for name, value in golden.items() if value == 0}
    assert {name for name, value in found.items() if value == 0} == dead
    assert {int(name.split(".")[2]) for name in dead if "Adapter_MLP.up_proj" in name} == DEAD.get(case.name, set())


def test_one_pass_in_training_mode(case):
    """As published the frozen tokenizer's BatchNorm goes by the batch too, and its statistics move."""
    model = copy.deepcopy(case.model)
    set_drop_path(model, 0.0)
    for module in case.tuning.in_training(model):
        module.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        case.close(model(case.cloud.double()), "train_logits_nodrop")
    state = model.state_dict()
    after = [key for key in case.golden if key.startswith("after_train_fwd/")]
    assert len(after) == 5
    for key in after:
        value = state[key.removeprefix("after_train_fwd/")]
        case.close(value[:32], key)
