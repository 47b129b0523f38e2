"""The tokenizer's algebra against the published form of it, built from the same layers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from wisetune.nets.tokenizer import _CHUNK_ROWS, MiniPointNet

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def published(net: MiniPointNet, offsets: torch.Tensor) -> torch.Tensor:
    """conv BN ReLU conv | max, concatenated as [global, local] | conv BN ReLU conv | max, over patches [b, g, k, 3]."""
    b, g, _, _ = offsets.shape
    local = net.first_conv(offsets.flatten(0, 1).transpose(1, 2))
    overall = local.max(dim=2, keepdim=True).values.expand_as(local)
    return net.second_conv(torch.cat([overall, local], dim=1)).max(dim=2).values.view(b, g, -1)


def make(seed: int = 0, momentum: float | None = 0.1) -> MiniPointNet:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = MiniPointNet(12, (6, 8, 10)).double()
    for norm in (net.norm1, net.norm2):
        norm.momentum = momentum
        for value in (norm.weight, norm.bias, norm.running_mean):
            value.data.add_(torch.randn(value.shape, dtype=value.dtype, generator=generator), alpha=0.3)
        norm.running_var.data.mul_(torch.rand(norm.running_var.shape, dtype=torch.float64, generator=generator) + 0.5)
    return net


def offsets(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 0.5, 0.1])


def compare(net: MiniPointNet, *batches: torch.Tensor) -> None:
    """Same tokens, same gradients of everything, same running statistics, batch after batch."""
    reference = copy.deepcopy(net)
    for batch in batches:
        results = []
        for module, forward in ((net, net.forward), (reference, lambda x: published(reference, x))):
            module.zero_grad()
            points = batch.clone().requires_grad_()
            tokens = forward(points)
            (tokens * torch.linspace(-1, 1, tokens.numel(), dtype=tokens.dtype).view_as(tokens)).sum().backward()
            assert all(value.grad is not None for value in module.parameters())
            results.append((tokens.detach(), points.grad, [value.grad for value in module.parameters()]))
        for mine, wanted in zip(*results, strict=True):
            torch.testing.assert_close(mine, wanted, **EXACT)
        for (name, mine), wanted in zip(net.named_buffers(), reference.buffers(), strict=True):
            torch.testing.assert_close(mine, wanted, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_training(momentum):
    compare(make(momentum=momentum).train(), offsets(3, 5, 7), offsets(3, 5, 7, seed=4), offsets(2, 4, 9, seed=5))


def test_eval_with_gradients():
    compare(make().eval(), offsets(3, 5, 7))


@pytest.mark.parametrize("frozen", ["norm1", "norm2"])
def test_one_norm_frozen(frozen):
    net = make().train()
    getattr(net, frozen).eval()
    compare(net, offsets(3, 5, 7), offsets(3, 5, 7, seed=4))


@pytest.mark.parametrize("training", [True, False])
def test_without_gradients(training):
    net = make().train(training)
    reference = copy.deepcopy(net)
    batch = offsets(2, _CHUNK_ROWS // 16 + 5, 16)  # several chunks and a rest
    with torch.no_grad():
        torch.testing.assert_close(net(batch), published(reference, batch), **EXACT)
    for mine, wanted in zip(net.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(mine, wanted, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_nothing_trains_it_goes_in_chunks_without_a_graph_to_the_same_bits(dtype, monkeypatch):
    net, parts, tokens = make().to(dtype).eval().requires_grad_(False), [], MiniPointNet._tokens
    batch = offsets(2, _CHUNK_ROWS // 16 + 5, 16).to(dtype)
    with torch.no_grad():
        wanted = net(batch)
    monkeypatch.setattr(MiniPointNet, "_tokens", lambda self, part, *rest: parts.append(len(part)) or tokens(self, part, *rest))
    found = net(batch)
    assert torch.equal(found, wanted)
    assert not found.requires_grad
    assert parts == [_CHUNK_ROWS // 16] * 2 + [10]
    parts.clear()
    for one in (batch.clone().requires_grad_(), batch):
        net.second_conv[3].bias.requires_grad_(one is batch)
        found = net(one)
        torch.testing.assert_close(found, wanted)
        assert found.requires_grad
    net(batch)
    net.requires_grad_(False).grafted = nn.Linear(12, 12).double()
    assert torch.equal(net(batch), wanted), "what was put beside the layers is not in the way"
    assert parts[-3:] == [_CHUNK_ROWS // 16] * 2 + [10]
    del parts[-3:]
    net.norm2.train()
    net(batch)
    assert parts == [2 * (_CHUNK_ROWS // 16 + 5)] * 4, "what has a graph, or statistics of the batch, is one"


def test_frozen_parameters_get_no_gradient_and_change_no_other():
    net, reference = make().train(), make().train()
    for module in (net, reference):
        for value in module.first_conv.parameters():
            value.requires_grad_(False)
    batch = offsets(3, 5, 7)
    net(batch).square().sum().backward()
    published(reference, batch).square().sum().backward()
    for mine, wanted in zip(net.parameters(), reference.parameters(), strict=True):
        assert (mine.grad is None) == (wanted.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, wanted.grad, **EXACT)


def test_patches_on_a_line_train_without_nan():
    """Across the line the variance is zero, and rounding takes it below: far enough, at this scale, for the root of a negative number."""
    for seed in range(5):
        net = make(seed).float().train()
        line = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            weight = net.first_conv[0].weight[:, :, 0]
            weight -= (weight @ line)[:, None] * line / (line @ line)
        tokens = net(torch.randn(2, 3, 5, 1, generator=torch.Generator().manual_seed(9)) * line * 1e5)
        tokens.sum().backward()
        assert torch.isfinite(tokens).all()
        assert all(torch.isfinite(value.grad).all() for value in net.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5)])
def test_nothing_to_tokenise(shape, training):
    assert make().train(training)(offsets(*shape)).shape == (*shape[:2], 12)


def test_leading_dimensions_are_kept():
    net = make().eval()
    batch = offsets(2, 3, 5)
    torch.testing.assert_close(net(batch[:, None]).squeeze(1), net(batch), **EXACT)
    torch.testing.assert_close(net(batch[0, 0]), net(batch)[0, 0], **EXACT)


def test_names_are_the_published_ones():
    names = {name.rsplit(".", 1)[0] for name, _ in MiniPointNet(12, (6, 8, 10)).named_parameters()}
    assert names == {f"{part}_conv.{i}" for part in ("first", "second") for i in (0, 1, 3)}
    assert isinstance(MiniPointNet(12).first_conv[0], nn.Conv1d)


LAYERS = [f"{half}.{index}" for half in ("first_conv", "second_conv") for index in range(4)]


@pytest.mark.parametrize("name", [*LAYERS, "first_conv", "second_conv"])
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward"])
def test_a_hook_on_any_layer_is_called_and_changes_nothing_by_itself(name, kind):
    net, batch = make().train(), offsets(3, 5, 7).requires_grad_()
    wanted, calls = copy.deepcopy(net)(batch), []
    getattr(net.get_submodule(name), f"register_{kind}_hook")(lambda *_: calls.append(name))
    tokens = net(batch)
    torch.testing.assert_close(tokens, wanted, **EXACT)
    tokens.sum().backward()
    assert calls == [name]


def test_a_layer_that_was_put_in_place_of_another_is_used():
    class Twice(nn.Conv1d):
        def forward(self, x):
            return 2 * super().forward(x)

    net, other = make().eval(), make().eval()
    last = other.second_conv[3]
    other.second_conv[3] = Twice(last.in_channels, last.out_channels, 1).double()
    other.second_conv[3].load_state_dict(last.state_dict())
    torch.testing.assert_close(other(offsets(3, 5, 7)), 2 * net(offsets(3, 5, 7)), **EXACT)


class Wrap(nn.Module):
    """A layer inside another module, as some libraries put them."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


OTHERS = {
    "a convolution without bias": ("first_conv.0", lambda: nn.Conv1d(3, 6, 1, bias=False)),
    "the second without bias": ("second_conv.0", lambda: nn.Conv1d(16, 10, 1, bias=False)),
    "a wider kernel": ("first_conv.3", lambda: nn.Conv1d(6, 8, 3, padding=1)),
    "a stride": ("second_conv.3", lambda: nn.Conv1d(10, 12, 1, stride=2)),
    "padding": ("second_conv.3", lambda: nn.Conv1d(10, 12, 1, padding=1)),
    "groups": ("second_conv.0", lambda: nn.Conv1d(16, 10, 1, groups=2)),
    "a norm without weights": ("first_conv.1", lambda: nn.BatchNorm1d(6, affine=False)),
    "a norm without statistics": ("second_conv.1", lambda: nn.BatchNorm1d(10, track_running_stats=False)),
    "another norm": ("first_conv.1", lambda: nn.GroupNorm(2, 6)),
    "nothing": ("second_conv.1", nn.Identity),
    "a wrapped layer": ("first_conv.3", lambda: Wrap(nn.Conv1d(6, 8, 1))),
    "a wrapped half": ("first_conv", lambda: Wrap(make().first_conv)),
    "the other wrapped half": ("second_conv", lambda: Wrap(make().second_conv)),
    "a longer half": ("second_conv", lambda: nn.Sequential(*make().second_conv, nn.ReLU())),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("training", [True, False])
def test_whatever_stands_in_a_place_is_computed_as_it_says(other, training):
    name, made = OTHERS[other]
    net = make()
    net.set_submodule(name, made().double())
    net.train(training)
    reference, again = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
    batch = offsets(3, 5, 7)
    for one in (net, copy.deepcopy(net), again):
        torch.testing.assert_close(one(batch), published(copy.deepcopy(reference), batch), **EXACT)
    if not training:
        assert net(offsets(2, 0, 7)).shape == (2, 0, 12)


@pytest.mark.parametrize("name", [*LAYERS, "first_conv", "second_conv"])
def test_an_instances_own_forward_is_called(name):
    net, calls = make().eval(), []
    layer = net.get_submodule(name)
    forward = layer.forward
    layer.forward = lambda x: calls.append(name) or forward(x)
    net(offsets(3, 5, 7))
    assert calls == [name]


def test_layers_as_they_were_built_take_the_short_way(monkeypatch):
    net = make()
    net.second_conv[3] = nn.Conv1d(10, 14, 1).double()
    net.first_conv[1] = nn.BatchNorm1d(6, momentum=None).double()
    monkeypatch.setattr(MiniPointNet, "_published", lambda *_: pytest.fail("the long way"))
    for one in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert one(offsets(3, 5, 7)).shape == (3, 5, 14)
