from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wisetune.errors import TrainingError, UsageError
from wisetune.nets.families.point_mae import PointMAESpec
from wisetune.weights.batchnorm import drawn_batches, reestimate
from wisetune.weights.wise import Wise


class Net(nn.Module):
    """Two BatchNorms at two depths, one over points and one over clouds, and all that must stay quiet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 1)
        self.first = nn.BatchNorm1d(4, momentum=0.3)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(4, 5)
        self.second = nn.BatchNorm1d(5)
        self.unused = nn.BatchNorm1d(2)

    def forward(self, points: Tensor) -> Tensor:
        x = self.first(self.conv(points.transpose(1, 2)))
        return self.second(self.linear(self.drop(x.amax(2))))


class Fused(nn.Module):
    """A fast path that computes its BatchNorm by hand, writes the buffers, and never calls the module."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv, self.first = conv, nn.BatchNorm1d(4)

    def forward(self, points: Tensor) -> Tensor:
        x = self.conv(points.transpose(1, 2))
        if self.first.training:
            mean, variance = x.mean((0, 2)), x.var((0, 2))
            momentum = self.first.momentum
            self.first.running_mean.lerp_(mean, momentum)
            self.first.running_var.lerp_(variance, momentum)
        return x


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def clouds(count: int, seed: int = 1) -> Tensor:
    # A drift from cloud to cloud makes the means of the batches differ.
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 7, 3, generator=generator) * 0.5 + torch.linspace(-2, 2, count)[:, None, None]


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.double().mean(0), values.double().var(0)


@pytest.fixture
def golden(shared: Path) -> dict:
    return json.loads((shared / "reference/robust/golden/bn_interpolation.json").read_text())


def golden_model(golden: dict, alpha: float) -> nn.Sequential:
    w0, w1 = (torch.tensor(golden[name], dtype=torch.float64) for name in ("w0", "w1"))
    states = []
    for end, weight in (("0", w0), ("1", w1)):
        stats = golden["stats"][end]
        mean, variance = (torch.tensor(stats[name], dtype=torch.float64) for name in ("true_mean", "true_var_unbiased"))
        states.append({"0.weight": weight, "1.running_mean": mean, "1.running_var": variance, "1.num_batches_tracked": torch.tensor(9)})
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2, affine=False)).double()
    model.load_state_dict(Wise(alpha).merge(states))
    return model


def close(tensor: Tensor, values: list[float]) -> None:
    torch.testing.assert_close(tensor, torch.tensor(values, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("alpha", ["0", "0.3", "0.5", "0.7", "1"])
@pytest.mark.parametrize("sizes", [[8], [4, 4], [5, 3], [2, 3, 3]])
def test_pooled_statistics_are_the_golden_ones_however_batched(golden, alpha, sizes):
    model = golden_model(golden, float(alpha))
    stats, norm = golden["stats"][alpha], model[1]
    close(norm.running_mean, stats["interpolated_mean"])
    close(norm.running_var, stats["interpolated_var_unbiased"])
    reestimate(model, torch.tensor(golden["X"], dtype=torch.float64).split(sizes))
    close(norm.running_mean, stats["true_mean"])
    close(norm.running_var, stats["true_var_unbiased"])
    assert int(norm.num_batches_tracked) == len(sizes)


def test_the_torch_rule_gives_the_golden_values_and_torchs_own(golden):
    x = torch.tensor(golden["X"], dtype=torch.float64)
    expected = golden["torch_momentum_none_two_batches_of_4_alpha0.5"]
    model = golden_model(golden, 0.5)
    reestimate(model, x.split(4), rule="torch")
    close(model[1].running_mean, expected["running_mean"])
    close(model[1].running_var, expected["running_var"])
    assert int(model[1].num_batches_tracked) == expected["num_batches_tracked"]
    ours, theirs = golden_model(golden, 0.5), golden_model(golden, 0.5)
    reestimate(ours, x.split([5, 3]), rule="torch")
    theirs[1].reset_running_stats()
    theirs[1].momentum = None
    for batch in x.split([5, 3]):
        theirs(batch)
    torch.testing.assert_close(ours[1].running_mean, theirs[1].running_mean)
    torch.testing.assert_close(ours[1].running_var, theirs[1].running_var)


def test_unequal_batches_equal_one_big_batch(net):
    points = clouds(20)
    line = reestimate(net, points.split([9, 2, 6, 3]))
    rows = net.conv(points.transpose(1, 2)).detach().transpose(1, 2).reshape(-1, 4)
    mean, variance = moments(rows)
    torch.testing.assert_close(net.first.running_mean.double(), mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(net.first.running_var.double(), variance, atol=1e-6, rtol=1e-5)
    assert line == {"batchnorm": "pooled", "batches": 4, "clouds": 20, "updated": ["first", "second"], "unused": ["unused"]}
    json.dumps(line)


def test_a_later_norm_sees_batches_normalised_by_themselves_without_dropout(net):
    points = clouds(12)
    reestimate(net, points.split(4))
    with torch.no_grad():
        hidden = torch.cat(
            [
                net.linear(
                    nn.functional.batch_norm(net.conv(b.transpose(1, 2)), None, None, net.first.weight, net.first.bias, True).amax(2)
                )
                for b in points.split(4)
            ]
        )
    mean, variance = moments(hidden)
    torch.testing.assert_close(net.second.running_mean.double(), mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(net.second.running_var.double(), variance, atol=1e-6, rtol=1e-5)


def test_a_norm_that_is_never_called_is_served_through_its_buffers(net):
    points = clouds(20)
    fused = Fused(net.conv)
    assert reestimate(fused, points.split([9, 2, 6, 3]))["updated"] == ["first"]
    reestimate(net, points.split([9, 2, 6, 3]))
    torch.testing.assert_close(fused.first.running_mean, net.first.running_mean)
    # Known only up to 1 / rows of a batch (here 14 to 63): without the variance between batches it would be off by far more.
    torch.testing.assert_close(fused.first.running_var, net.first.running_var, atol=0, rtol=0.02)
    within = torch.stack([net.conv(b.transpose(1, 2)).var((0, 2)) for b in points.split([9, 2, 6, 3])]).mean(0)
    assert bool((within < 0.8 * net.first.running_var).all())


def flags(model: nn.Module) -> dict[str, object]:
    modes = {name: module.training for name, module in model.named_modules()}
    momenta = {name + " momentum": module.momentum for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)}
    return {**modes, **momenta}


@pytest.mark.parametrize("training", [True, False])
def test_flags_momentum_weights_and_unused_buffers_come_back(net, training):
    net.train(training)
    net.drop.train(not training)
    before, weights = flags(net), {key: value.clone() for key, value in net.state_dict().items()}
    reestimate(net, clouds(8).split(4))
    assert flags(net) == before
    for key, value in net.state_dict().items():
        assert torch.equal(value, weights[key]) == (not key.startswith(("first.running", "second.running", "first.num", "second.num")))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_an_interruption_leaves_the_model_as_it_was(net):
    before, weights = flags(net), {key: value.clone() for key, value in net.state_dict().items()}

    def batches():
        yield clouds(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reestimate(net, batches())
    with pytest.raises(TrainingError, match="'first' are not finite"):
        reestimate(net, [clouds(4), clouds(4) * float("nan")])
    with pytest.raises(UsageError, match="batch of 1 clouds is too small"):
        reestimate(net, [clouds(4), clouds(1)])
    with pytest.raises(UsageError, match="no batches"):
        reestimate(net, [])
    assert flags(net) == before
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_the_work_needs_no_randomness_and_no_gradient(net):
    state = torch.random.get_rng_state()
    seen = []
    reestimate(net, clouds(8).split(4), lambda batch: seen.append(net(batch).requires_grad))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert seen == [False, False]


def test_batches_of_another_kind_say_how_many_clouds_they_hold(net):
    batches = [{"points": batch} for batch in clouds(9).split([6, 3])]
    with pytest.raises(UsageError, match="batches of dict; say with clouds="):
        reestimate(net, batches, lambda batch: net(batch["points"]))
    line = reestimate(net, batches, lambda batch: net(batch["points"]), clouds=lambda batch: len(batch["points"]))
    assert line["clouds"] == 9
    assert reestimate(net, [(clouds(5), "names")], lambda batch: net(batch[0]))["clouds"] == 5


def test_the_tokenizers_fast_path_is_served():
    torch.manual_seed(0)
    spec = PointMAESpec(points=32, groups=4, group_size=8, width=12, depth=1, heads=2, tokenizer=(6, 8, 10))
    backbone = spec.build()
    groups = backbone.group(clouds(12).repeat(1, 5, 1)[:, :32] + 0.1 * torch.randn(12, 32, 3))
    sizes = [5, 1, 6]
    line = reestimate(backbone, zip(*(part.split(sizes) for part in groups), strict=True), backbone.encode)
    assert (line["clouds"], line["unused"]) == (12, [])
    offsets = groups[1].reshape(-1, 3)
    norm = backbone.encoder.norm1
    mean, variance = moments(backbone.encoder.first_conv[0](offsets.T[None])[0].T.detach())
    torch.testing.assert_close(norm.running_mean.double(), mean, atol=1e-6, rtol=1e-5)
    # The fast path does not say how many rows it saw: 1 / 32 of the smallest batch, which weighs a twelfth.
    torch.testing.assert_close(norm.running_var.double(), variance, atol=0, rtol=0.01)


def test_a_model_without_batchnorm_runs_nothing():
    line = reestimate(nn.Linear(3, 3), [torch.ones(2, 3)], lambda _: pytest.fail("ran"))
    assert line == {"batchnorm": "pooled", "batches": 0, "clouds": 0, "updated": [], "unused": []}


def test_a_norm_without_running_statistics_is_left_alone():
    model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3))
    assert reestimate(model, [torch.randn(4, 3)])["updated"] == ["1"]


def test_a_norm_that_is_called_twice_gets_the_statistics_of_all_that_entered():
    """As the tokenizer of a tuning that cuts clouds into further patches, of another number."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.norm(x), self.norm(3 * x[::2] + 1)

    model, x = Twice(), torch.randn(12, 3)
    line = reestimate(model, x.split([4, 8]))
    mean, variance = moments(torch.cat([x, 3 * x[::2] + 1]))
    torch.testing.assert_close(model.norm.running_mean.double(), mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.norm.running_var.double(), variance, atol=1e-6, rtol=1e-5)
    assert (line["batches"], line["clouds"], int(model.norm.num_batches_tracked)) == (2, 12, 4)


def test_a_norm_that_runs_twice_and_is_not_called_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            for _ in range(2):
                nn.functional.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True, momentum=1.0)
                self.norm.num_batches_tracked += 1

    with pytest.raises(UsageError, match="'norm' runs more than once"):
        reestimate(Twice(), [torch.randn(4, 3)])


def test_of_some_norms_the_others_stay_as_they_are(net):
    points, before = clouds(12), {name: value.clone() for name, value in net.state_dict().items()}
    line = reestimate(net, points.split(6), among=["second"])
    assert (line["updated"], line["unused"]) == (["second"], [])
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"second.running_mean", "second.running_var", "second.num_batches_tracked"}
    with torch.no_grad():
        inside = net.eval().linear(net.first(net.conv(points.transpose(1, 2))).amax(2))
    torch.testing.assert_close(net.second.running_mean, inside.mean(0), atol=1e-6, rtol=1e-5)


def test_an_unknown_rule_is_refused(net):
    with pytest.raises(UsageError, match="rule is 'mean'"):
        reestimate(net, [clouds(4)], rule="mean")


@pytest.mark.parametrize("count", [2, 31, 32, 33, 65])
def test_statistics_are_taken_from_every_cloud_once_in_batches_of_all_classes(count):
    groups = (torch.arange(count), torch.arange(count) * 2.0)
    parts = list(drawn_batches(groups))
    assert all(torch.equal(part[1], part[0] * 2.0) for part in parts)
    assert sorted(torch.cat([part[0] for part in parts]).tolist()) == list(range(count))
    assert all(1 < len(part[0]) <= 32 for part in parts)
    for part in parts if count > 32 else ():
        assert part[0].min() < count / 4, "of the first class of a sorted file"
        assert part[0].max() >= count * 3 / 4, "and of the last"
    assert [part[0].tolist() for part in drawn_batches(groups)] == [part[0].tolist() for part in parts]
