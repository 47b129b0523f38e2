"""What is counted as held, and for how long."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wisetune.measure._ledger import Ledger, as_on_a_gpu

KIB = 256
"""Floats."""


def test_a_storage_counts_once_and_until_nothing_refers_to_it():
    before = torch.empty(KIB, device="meta")
    twice = [before, before.view(2, -1)]
    with Ledger() as ledger:
        assert ledger.hold(twice) == 1024
        assert ledger.hold([before]) == 0
        made = before + 1
        part = made[:1]
        assert ledger.live == 2048
        del made
        assert ledger.live == 2048, "a view holds the whole"
        part.add_(1)  # in place
        assert ledger.peak == 2048
        del part
        assert (ledger.live, ledger.peak) == (1024, 2048)
    before + 1
    assert ledger.peak == 2048, "nothing is counted outside"


def test_a_graph_holds_what_its_backward_pass_needs_and_gives_it_back():
    x = torch.empty(KIB, device="meta", requires_grad=True)
    with Ledger() as ledger:
        ledger.hold([x])
        loss = x.exp().exp().sum()
        assert ledger.live == 3 * 1024 + 4, "each exp keeps what came out of it"
        loss.backward()
        assert ledger.live == 2 * 1024 + 4, "the input and its gradient"
        assert ledger.peak > 3 * 1024 + 4
        with torch.no_grad():
            x.exp().exp().sum()
        assert ledger.live == 2 * 1024 + 4


def test_tensors_with_values_are_counted_alike():
    with Ledger() as ledger:
        kept = torch.ones(KIB).exp()
        assert torch.equal(kept, torch.ones(KIB).exp())
        assert ledger.live == 1024


@pytest.mark.parametrize("mask", [None, torch.bool, torch.float32])
def test_fused_attention_keeps_no_scores(mask):
    b, h, t, d = 3, 2, 64, 8
    parts = [torch.empty(b, h, t, d, device="meta", requires_grad=True) for _ in range(3)]
    near = None if mask is None else torch.empty(b, 1, t, t, device="meta", dtype=mask)
    held = {}
    for name in ("math", "fused"):
        with Ledger() as ledger:
            ledger.hold([*parts, *([] if near is None else [near])])
            with as_on_a_gpu(name):
                out = F.scaled_dot_product_attention(*parts, near)
            assert out.shape == (b, h, t, d)
            held[name] = ledger.live
            out.sum().backward()
    scores, rows = 4 * b * h * t * t, 4 * b * h * t
    added = 4 * b * t * t if mask == torch.bool else 0
    one = 4 * b * h * t * d
    given = 3 * one + (0 if near is None else near.untyped_storage().nbytes())
    assert held["fused"] == pytest.approx(given + one + rows + added, abs=64)  # and the two numbers of dropout's stream
    assert held["math"] >= given + one + scores


def test_dropout_keeps_a_byte_a_value():
    x = torch.empty(KIB, device="meta", requires_grad=True)
    with Ledger() as ledger, as_on_a_gpu("fused"):
        ledger.hold([x])
        assert F.dropout(x, 0.5, training=False) is x
        dropped = F.dropout(x, 0.5)
        assert ledger.live == 2 * 1024 + KIB
        assert dropped.requires_grad


def test_tensors_with_values_attend_as_ever_while_others_are_counted():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    wanted, plain = F.scaled_dot_product_attention(q, k, v), F.scaled_dot_product_attention
    with as_on_a_gpu("fused"):
        assert F.scaled_dot_product_attention is not plain
        assert torch.equal(F.scaled_dot_product_attention(q, k, v), wanted)
        assert torch.equal(F.scaled_dot_product_attention(q, k, v, scale=0.1), plain(q, k, v, scale=0.1))
        assert set(F.dropout(torch.ones(99)).tolist()) == {0.0, 2.0}
    assert F.scaled_dot_product_attention is plain
    with pytest.raises(ZeroDivisionError), as_on_a_gpu("fused"):
        _ = 1 / 0
    assert F.scaled_dot_product_attention is plain


def test_a_module_without_values_holds_what_one_with_them_holds():
    held = []
    for device in ("cpu", "meta"):
        net = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 4)).to(device)
        x = torch.zeros(32, 16, device=device)
        with Ledger() as ledger:
            weights = ledger.hold([*net.parameters(), x])
            loss = net(x).square().mean()
            held.append((weights, ledger.live))
            loss.backward()
    assert held[0] == pytest.approx(held[1], abs=512)
