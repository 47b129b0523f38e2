"""Point-BERT's dVAE as a tokenizer: the official numbers, and the files that hold it."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from net_samples import cloud, fill, schema
from wisetune.errors import BadFile, DataError, UsageError, WeightsError
from wisetune.nets.backbone import on_meta
from wisetune.nets.dvae import NEIGHBOURS, DVAETokenizer, PatchGraph, load_dvae
from wisetune.points.neighbours import gather

TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 2e-5}, torch.float64: {"rtol": 1e-9, "atol": 1e-9}}
TINY = {"groups": 8, "group_size": 6, "width": 12, "hidden": 4, "tokenizer": (6, 8, 10)}


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "reference/backbones/golden/point_bert.npz") as file:
        return {key.removeprefix("dvae-tokenizer/"): value for key, value in file.items() if "dvae" in key or key == "input_1024"}


def tiny() -> DVAETokenizer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = DVAETokenizer(20, **TINY)
        for name, value in model.named_parameters():
            if value.dim() == 1:
                torch.nn.init.normal_(value, mean=float(name.endswith("weight")), std=0.3)
    return model.eval()


def file(prefix: str = "") -> dict[str, torch.Tensor]:
    beside = {"codebook": torch.ones(20, 3), "dgcnn_2.input_trans.bias": torch.ones(4), "decoder.mlp.0.bias": torch.ones(2)}
    return {f"{prefix}{name}": value for name, value in {**tiny().state_dict(), **beside}.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("rule", ["fanin", "std02"])
def test_the_official_numbers(golden, rule, dtype):
    with on_meta():
        model = DVAETokenizer(reading="as_published")
    model = fill(model, rule).to(dtype)
    suffix = "64" if dtype == torch.float64 else ""
    points = torch.from_numpy(golden["input_1024"])
    offsets, near = model.group(points)
    with torch.no_grad():
        tokens = model.encoder(offsets)
        logits = model.encode((offsets, near))
    np.testing.assert_allclose(logits[:, :4, :256].numpy(), golden[f"{rule}/output{suffix}"], **TOLERANCE[dtype])
    np.testing.assert_array_equal(logits.argmax(dim=-1).numpy(), golden[f"{rule}/token_ids{suffix}"])
    if dtype == torch.float32:
        np.testing.assert_allclose(tokens[:, :8, :32].numpy(), golden[f"{rule}/encoder:out_slice"], **TOLERANCE[dtype])
        with torch.no_grad():
            assert torch.equal(model.codes(points), logits.argmax(dim=-1))


def test_the_official_graph(golden):
    offsets, near = DVAETokenizer(20, **{**TINY, "groups": 64, "group_size": 32}, reading="as_published").group(
        torch.from_numpy(golden["input_1024"])
    )
    assert offsets.shape == (2, 64, 32, 3)
    np.testing.assert_array_equal(np.sort(near.numpy(), axis=-1), golden["knn1_64q64k4"])


def test_the_official_names(shared):
    with on_meta():
        ours = {name: tuple(value.shape) for name, value in DVAETokenizer().state_dict().items()}
    official = schema(shared, "point_bert-dvae")
    assert ours == {name: shape for name, shape in official.items() if name.startswith(("encoder.", "dgcnn_1."))}


def test_the_map_once_a_patch_is_the_map_on_every_edge():
    graph = tiny().dgcnn_1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tokens = torch.randn(2, 8, 12)
        near = torch.randint(8, (2, 8, NEIGHBOURS))
    with torch.no_grad():
        values = F.linear(tokens, graph.input_trans.weight[..., 0], graph.input_trans.bias)
        found = []
        for layer in range(1, 5):
            there = gather(values, near)
            own = values[:, :, None].expand_as(there)
            edges = torch.cat([there - own, own], dim=-1).permute(0, 3, 1, 2)
            values = graph.get_submodule(f"layer{layer}")(edges).amax(dim=-1).transpose(1, 2)
            found.append(values)
        expected = graph.layer5(torch.cat(found, dim=-1).transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(graph(tokens, near), expected)


def test_it_trains():
    model = tiny().train()
    model(cloud(0, 2, 64)).square().mean().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters() if value.dim() > 1)


@pytest.mark.parametrize("prefix", ["", "module.", "dvae.", "module.dvae."])
def test_a_file(tmp_path, prefix):
    torch.save({"base_model": file(prefix)}, tmp_path / "dvae.pth")
    model = load_dvae(tmp_path / "dvae.pth", groups=8, group_size=6)
    points = cloud(0, 2, 64)
    with torch.no_grad():
        assert torch.equal(model(points), tiny()(points))
    assert model.codes(points).shape == (2, 8)


def test_a_file_of_torch_pointcloud(tmp_path):
    theirs = {
        "dgcnn_1.input_trans": "dgcnn_1.input_trans.lins.0",
        "dgcnn_1.layer5.0": "dgcnn_1.layer5_conv",
        "dgcnn_1.layer5.1": "dgcnn_1.layer5_norm",
    }
    theirs |= {f"dgcnn_1.layer{at}.{part}": f"dgcnn_1.layer{at}.{name}" for at in range(1, 5) for part, name in ((0, "conv"), (1, "norm"))}
    for half, name in (("first_conv", "local_mlp"), ("second_conv", "global_mlp")):
        for part, instead in ((0, "lins.0"), (1, "norms.0.module"), (3, "lins.1")):
            theirs[f"encoder.{half}.{part}"] = f"encoder.{name}.{instead}"
    state = {}
    for key, value in tiny().state_dict().items():
        stem, _, kind = key.rpartition(".")
        state[f"{theirs[stem]}.{kind}"] = value.squeeze(-1).contiguous() if value.dim() == 3 else value
    safetensors.torch.save_file(state, tmp_path / "dvae.safetensors")
    points = cloud(0, 2, 64)
    with torch.no_grad():
        assert torch.equal(load_dvae(tmp_path / "dvae.safetensors", groups=8, group_size=6)(points), tiny()(points))


def test_half_precision_is_read_as_float32():
    state = {name: value.half() if value.is_floating_point() else value for name, value in file().items()}
    assert {value.dtype for value in load_dvae(state, groups=8, group_size=6).parameters()} == {torch.float32}


def test_files_that_are_none(tmp_path):
    with pytest.raises(WeightsError, match="the state dict holds no dVAE of Point-BERT"):
        load_dvae({"encoder.first_conv.3.weight": torch.ones(2, 3, 1)})
    without = {name: value for name, value in file().items() if name != "dgcnn_1.layer3.1.bias"}
    with pytest.raises(WeightsError, match=r"'dgcnn_1.layer3.1.bias' is None, not \(16,\)"):
        load_dvae(without, groups=8, group_size=6)
    bad = file()
    bad["dgcnn_1.layer2.0.weight"][0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"not finite, in 'dgcnn_1.layer2.0.weight'"):
        load_dvae(bad, groups=8, group_size=6)
    (tmp_path / "x.pth").write_bytes(b"<html>")
    with pytest.raises(BadFile, match="a web page"):
        load_dvae(tmp_path / "x.pth")


@pytest.mark.parametrize("wrong", [{"groups": 3}, {"codes": 21}, {"hidden": 3}])
def test_sizes_that_cannot_be(wrong):
    with pytest.raises(UsageError, match=r"a dVAE with groups=.* cannot be"):
        DVAETokenizer(**{"codes": 20, **TINY, **wrong})


def test_two_in_one_file():
    with pytest.raises(WeightsError, match="two tensors for one place; give a file that holds one dVAE"):
        load_dvae({**file(), **file("dvae.")}, groups=8, group_size=6)


def test_clouds_that_no_model_takes_are_no_tokenizer_s_either():
    broken = cloud(0, 2, 64)
    broken[1, 3] = float("nan")
    with pytest.raises(DataError, match="cloud 1 of the batch has coordinates that are not finite"):
        tiny().codes(broken)
    with pytest.raises(DataError, match=r"points are \[64, 3\].*Add a batch dimension"):
        tiny()(cloud(0, 1, 64)[0])
    with pytest.raises(DataError, match="clouds have 7 points; this model needs at least 8"):
        tiny()(cloud(0, 2, 7))


def test_published_widths():
    with on_meta():
        graph = PatchGraph(256, 8192, 128)
    assert graph.layer5[0].weight.shape == (8192, 2304, 1)
