from __future__ import annotations

import pytest
import torch

from net_samples import TINY_PLAIN, cloud
from wisetune.errors import UsageError
from wisetune.nets.masked import MaskedAutoencoder, Projector, chamfer, contrast, hide
from wisetune.points.neighbours import gather


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("block", [False, True])
def test_hide_splits_the_patches(block):
    mask = hide(cloud(0, 3, 10), 0.6, block, draw())
    assert mask.visible.shape == (3, 4)
    assert mask.hidden.shape == (3, 6)
    assert torch.equal(torch.cat([mask.visible, mask.hidden], 1).sort(dim=1).values, torch.arange(10).expand(3, 10))


def test_a_hidden_block_is_a_region():
    centres = cloud(0, 2, 16)
    mask = hide(centres, 0.5, True, draw())
    for row in range(2):
        hidden, visible = centres[row, mask.hidden[row]], centres[row, mask.visible[row]]
        seed = hidden[0]  # sorted by distance to it
        assert (hidden - seed).norm(dim=-1).max() <= (visible - seed).norm(dim=-1).min()


@pytest.mark.parametrize("ratio", [0.0, 0.05, 1.0])
def test_nothing_or_everything_hidden_is_refused(ratio):
    with pytest.raises(UsageError, match="at least one must be hidden"):
        hide(cloud(0, 1, 10), ratio, False, draw())


def test_chamfer_by_hand():
    a = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
    b = torch.tensor([[[0.0, 0, 0], [0, 2, 0], [1, 0, 0]]])
    assert chamfer(a, b).item() == pytest.approx(0 + (0 + 4 + 0) / 3)
    assert chamfer(a, a).item() == 0


def test_reconstruction_sees_visible_patches_only_and_trains_everything():
    learner = MaskedAutoencoder(TINY_PLAIN, decoder_depth=1).eval()
    centres, offsets = learner.MAE_encoder.group(cloud(1, 2, 64))
    mask = hide(centres, 0.5, False, draw())
    tokens = learner.encode((centres, offsets), mask)
    changed = offsets.clone()
    for row in range(2):
        changed[row, mask.hidden[row]] = 7.0
    assert torch.equal(learner.encode((centres, changed), mask), tokens)
    loss = learner((centres, offsets), mask)
    loss.backward()
    assert loss > 0
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in learner.parameters())


def test_the_decoder_predicts_each_patch_at_its_own_centre():
    learner = MaskedAutoencoder(TINY_PLAIN, decoder_depth=1).eval()
    groups = learner.MAE_encoder.group(cloud(1, 2, 64))
    mask = hide(groups[0], 0.5, False, draw())
    turned = type(mask)(mask.visible, mask.hidden.flip(1))
    torch.testing.assert_close(learner(groups, mask), learner(groups, turned))


def test_pool_is_the_readout_of_all_tokens_when_nothing_is_hidden():
    learner = MaskedAutoencoder(TINY_PLAIN).eval()
    tokens = learner.MAE_encoder(cloud(1, 2, 64)).patch
    pooled = learner.pool(tokens)
    torch.testing.assert_close(pooled, torch.cat([tokens.amax(1), tokens.mean(1)], -1))
    assert gather(tokens, torch.zeros(2, 1, dtype=torch.int64)).shape == (2, 1, 16)


def test_contrast_by_hand():
    a = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0]]), dim=-1)
    b = torch.nn.functional.normalize(torch.tensor([[0.9, 0.1], [0.3, 1.0]]), dim=-1)
    both, temperature = torch.cat([a, b]), 0.5
    total = 0.0
    for i in range(4):
        alike = torch.stack([both[i] @ both[j] / temperature for j in range(4) if j != i])
        partner = both[i] @ both[(i + 2) % 4] / temperature
        total += (alike.logsumexp(0) - partner).item()
    assert contrast(a, b, temperature).item() == pytest.approx(total / 4, rel=1e-6)
    assert contrast(a, a, 0.01) < contrast(a, b.flip(0), 0.01)


def test_projector_gives_directions():
    out = Projector(32).eval()(torch.randn(3, 32, generator=draw()))
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(3))
