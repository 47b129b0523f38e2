"""The operations of tunings against plain restatements: equal values and gradients, and nothing held that need not be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wisetune.measure._ledger import Ledger
from wisetune.tune import _affine
from wisetune.tune._affine import Affine
from wisetune.tune._edges import EdgeConv


def plain_edges(conv: EdgeConv, x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    near = torch.cdist(x, x).topk(conv.neighbours, dim=-1, largest=False).indices
    others = torch.stack([cloud[at] for cloud, at in zip(x, near, strict=True)])
    own = x.unsqueeze(2).expand_as(others)
    edges = torch.cat([others - own, own], dim=-1).permute(0, 3, 1, 2)
    return F.leaky_relu(norm(conv.conv(edges)), 0.2).amax(dim=3).transpose(1, 2)


@pytest.mark.parametrize("training", [True, False])
def test_edges_without_a_value_for_each(training):
    torch.manual_seed(0)
    conv, norm = EdgeConv(6, 4).double(), nn.BatchNorm2d(6).double()
    with torch.no_grad():
        conv.norm.weight.uniform_(-1, 1)
        conv.norm.bias.normal_()
        conv.norm.running_mean.normal_()
        conv.norm.running_var.uniform_(0.5, 2)
    norm.load_state_dict(conv.norm.state_dict())
    conv.train(training)
    norm.train(training)
    x, outward = torch.randn(3, 9, 6, dtype=torch.float64, requires_grad=True), torch.randn(3, 9, 6, dtype=torch.float64)
    mine, wanted = conv(x), plain_edges(conv, x, norm)
    torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-12)
    ours = torch.autograd.grad(mine, (x, conv.conv.weight, conv.norm.weight, conv.norm.bias), outward)
    theirs = torch.autograd.grad(wanted, (x, conv.conv.weight, norm.weight, norm.bias), outward)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(conv.norm.state_dict()[name], value, rtol=1e-10, atol=1e-12)


class Chain(nn.Module):
    """A norm, a map, a GELU and a map, each with scale and shift behind it, by the ways that hold nothing or by the one that keeps what entered."""

    def __init__(self, lean: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.up, self.act, self.down = nn.LayerNorm(4), nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)
        self.scales = nn.ModuleList(Affine(width) for width in (4, 8, 4))
        for part in (self.norm, self.up, self.down):
            part.requires_grad_(False)
        first, second, third = self.scales
        self.norm.register_forward_hook(first.after_norm if lean else first.after)
        self.up.register_forward_hook(second.kept_behind if lean else second.after)
        self.down.register_forward_hook(third.after_bent if lean else third.after)
        if lean:
            self.act.register_forward_hook(third.look)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.act(self.up(self.norm(x))))


def gradients(chain: Chain, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    return list(torch.autograd.grad(chain(x).square().sum(), (x, *chain.scales.parameters())))


@pytest.mark.parametrize("tokens", [4, 1 << 13])
@pytest.mark.parametrize("smallest", [1.0, 1e-3, 0.0], ids=["usual", "small", "nothing"])
def test_scale_and_shift_have_the_gradients_of_one_that_keeps_what_entered(monkeypatch, smallest, tokens):
    """Of 15 tokens, a few at a time too."""
    monkeypatch.setattr(_affine, "_TOKENS", tokens)
    lean, kept = Chain(lean=True).double(), Chain(lean=False).double()
    for chain in (lean, kept):
        with torch.no_grad():
            chain.scales[1].gamma[0] = smallest
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    assert torch.equal(lean(x), kept(x))
    for mine, wanted in zip(gradients(lean, x), gradients(kept, x), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-12)


def double(_module, *given):
    """As a hook of any kind."""
    return 2 * given[-1] if isinstance(given[-1], torch.Tensor) else (2 * given[-1][0],)


@pytest.mark.parametrize(
    "hook",
    [
        lambda chain: chain.norm.register_forward_pre_hook(double),
        lambda chain: chain.norm.register_forward_hook(double, prepend=True),
        lambda chain: chain.act.register_forward_pre_hook(double),
        lambda chain: chain.act.register_forward_hook(double, prepend=True),
        lambda chain: chain.act.register_forward_hook(double),
        lambda chain: chain.down.register_forward_pre_hook(double),
        lambda chain: chain.down.register_forward_hook(double, prepend=True),
        lambda chain: chain.down.register_forward_hook(double),
    ],
    ids=[
        "before the norm",
        "behind it",
        "before GELU",
        "behind it first",
        "behind it last",
        "before the map",
        "first behind",
        "last behind",
    ],
)
def test_scale_and_shift_notice_what_others_change_on_the_way(hook):
    lean, kept = Chain(lean=True).double(), Chain(lean=False).double()
    for chain in (lean, kept):
        hook(chain)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    for mine, wanted in zip(gradients(lean, x), gradients(kept, x), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-12)


def test_scale_and_shift_hold_no_activation_of_their_own():
    held: dict[bool, int] = {}
    for lean in (True, False):
        seen: dict[int, int] = {}

        def keep(value: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            storage = value.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return value

        x = torch.randn(64, 4, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            _out = Chain(lean)(x)
        held[lean] = sum(seen.values())
    assert held[False] - held[True] > 15 * 64 * 4, "16 values a row, but for a few weights"


def test_a_step_of_scale_and_shift_makes_no_activation_anew_as_a_whole(monkeypatch):
    """Nor its product with a gradient: 8 of the widest at a time, of 1,000 tokens."""
    beside = {}
    for tokens in (8, 1000):
        monkeypatch.setattr(_affine, "_TOKENS", tokens)
        with Ledger() as ledger:
            chain, x = Chain(lean=True).to("meta"), torch.empty(1000, 4, device="meta", requires_grad=True)
            out = chain(x).sum()
            held = ledger.live
            out.backward()
            beside[tokens] = ledger.peak - held
    assert beside[1000] - beside[8] > 0.9 * 1000 * 8 * 4
