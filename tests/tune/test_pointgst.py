"""PointGST against a second statement of its formula."""

from __future__ import annotations

import pytest
import torch

import restated
from restated import line, normed, silu
from wisetune.points.spectral import fourier_basis
from wisetune.tune import pointgst
from wisetune.tune.pointgst import PointGST, SpectralAdapter


def curve(centres):
    """The order along the curve: bits of the cells of y, x and z in turn, negative numbers as sixteen bits have them."""
    cells = [[f"{int(value * 100) % 65536:016b}" for value in centre.tolist()] for centre in centres]
    keys = ["".join(y + x + z for x, y, z in zip(*bits, strict=True)) for bits in cells]
    return sorted(range(len(keys)), key=lambda row: (keys[row], row))


def spectral(h, basis, inner, norm, published):
    """There, through the map, and back."""
    there, back = (basis, basis.T) if published else (basis.T, basis)
    found = there @ h
    return back @ (found + silu(line(normed(found, norm), inner)))


def stated(model, everything, at, published):
    """Of one cloud of a batch; as published graphs of the same size have one scale."""
    backbone = model.backbone
    local = backbone.blocks.pointgst.local
    cut = [restated.patches(points, backbone.spec.groups, backbone.spec.group_size)[0] for points in everything]
    orders = [curve(centres) for centres in cut]
    sizes = [range(first, min(first + local, len(cut[at]))) for first in range(0, len(cut[at]), local)]
    graphs = torch.stack(cut)
    wholes = fourier_basis(graphs, together=published)
    small = {}
    for size in {len(part) for part in sizes}:
        rows = [[orders[cloud][row] for row in part] for cloud in range(len(cut)) for part in sizes if len(part) == size]
        found = fourier_basis(torch.stack([cut[i // (len(rows) // len(cut))][row] for i, row in enumerate(rows)]), together=published)
        small[size] = found.unflatten(0, (len(cut), -1))[at]

    x, position = restated.tokens(everything[at], backbone, backbone.spec.groups, backbone.spec.group_size)
    x, position = torch.cat([backbone.cls_token[0], x]), torch.cat([backbone.cls_pos[0], position])
    for block in backbone.blocks.blocks:
        adapter = block.residual_mlp.pointgst
        x = restated.attended(x + position, block)
        h = line(x, adapter.down)
        whole = spectral(h[1:], wholes[at], adapter.inner, adapter.norm_whole, published)
        parts, seen = torch.zeros_like(whole), dict.fromkeys(small, 0)
        for part in sizes:
            rows = [orders[at][row] for row in part]
            basis = small[len(part)][seen[len(part)]]
            seen[len(part)] += 1
            parts[rows] = spectral(h[1:][rows], basis, adapter.inner, adapter.norm_parts, published)
        inside = silu(h) + torch.cat([torch.zeros_like(h[:1]), whole + parts])
        x = x + restated.transformed(x, block) + line(inside, adapter.up)
    x = normed(x, backbone.norm)
    return torch.cat([x[0], x[1:].amax(dim=0)])


@pytest.mark.parametrize("reading", ["as_intended", "as_published"])
@pytest.mark.parametrize("local", [3, 4, 32])
def test_the_formula(reading, local):
    model, points = restated.tuned(PointGST(rank=5, local=local, reading=reading)), restated.clouds(3)
    wanted = torch.stack([stated(model, points, at, reading == "as_published") for at in range(len(points))])
    torch.testing.assert_close(model.features(points), wanted, rtol=1e-10, atol=1e-10)


def test_as_published_what_a_cloud_gives_depends_on_the_others():
    points = restated.clouds(3)
    for reading, alone in (("as_intended", True), ("as_published", False)):
        model = restated.tuned(PointGST(rank=5, local=4, reading=reading))
        assert torch.allclose(model.features(points)[:1], model.features(points[:1]), rtol=0, atol=1e-9) is alone


def test_it_begins_as_the_backbone_is():
    points = restated.clouds()
    torch.manual_seed(0)
    backbone = restated.SPEC.build().double().eval()
    before = backbone.pool(backbone(points))
    model = restated.tuned(PointGST(rank=5))
    model.backbone.load_state_dict(backbone.state_dict(), strict=False)
    for site in model.backbone.anatomy.sites:
        adapter = model.backbone.get_submodule(site.residual_mlp).pointgst
        adapter.__init__(16, 5)
        adapter.double()
        assert all(value.any() for value in (adapter.down.weight, adapter.norm_whole.weight, adapter.norm_parts.weight))
    assert torch.equal(model.features(points), before)


def test_bases_are_made_once_for_all_blocks_and_need_no_gradient(monkeypatch):
    asked, seen = [], []

    def basis(places, **more):
        asked.append(torch.is_grad_enabled())
        return fourier_basis(places, **more)

    def spectrum(adapter, h, there, norm):
        seen.append(there)
        return kept(adapter, h, there, norm)

    kept = SpectralAdapter._in_spectrum
    monkeypatch.setattr(pointgst, "fourier_basis", basis)
    monkeypatch.setattr(SpectralAdapter, "_in_spectrum", spectrum)
    restated.tuned(PointGST(rank=5, local=4))(restated.clouds()).sum().backward()
    assert asked == [False, False]
    assert len(seen) == 6
    assert len({there.data_ptr() for there in seen}) == 2
    assert not any(there.requires_grad for there in seen)
