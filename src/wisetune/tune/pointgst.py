"""PointGST: an adapter that works on tokens in the spectrum of the graph of their places."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from wisetune.nets._linear import Linear, linear
from wisetune.nets.headed import Headed
from wisetune.nets.uncalled import Uncalled
from wisetune.points.neighbours import gather
from wisetune.points.spectral import fourier_basis, z_order
from wisetune.spec import option
from wisetune.tune.graft import WHOLE, Graft, Grafting
from wisetune.tune.tuning import Figures, Published

_TRANSPOSED = "Bases are used where the paper's formula has their transposes; a comment in the code says so."
_TOGETHER = (
    "The scale of a graph's weights is the smallest distance in the whole batch, so that what a cloud gives depends on those beside it; worked out "
    "in single precision it is what rounding leaves of a place's distance to itself, which is not repeated here."
)

_MADE = "pointgst"


class Spectra(nn.Module):
    """What takes tokens of patches to their spectra, of all patches and of few that are neighbours on a curve: an orthogonal matrix of each cloud.

    It depends on places alone, has no gradient, and is made once for all blocks.
    """

    def __init__(self, local: int, published: bool) -> None:
        super().__init__()
        self.local, self.published = local, published

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Into all blocks."""
        x, context, *rest = inputs
        with torch.no_grad():
            made = tuple(part.to(x) for part in (self.whole(context.centres), self.parts(context.centres)))
        return x, context.making(_MADE, *made), *rest

    def whole(self, places: Float[torch.Tensor, "b g 3"]) -> Float[torch.Tensor, "b g g"]:
        """Of all patches."""
        return self._taken(fourier_basis(places, together=self.published))

    def parts(self, places: Float[torch.Tensor, "b g 3"]) -> Float[torch.Tensor, "b g g"]:
        """Of each ``local`` patches in turn along the curve; the last ones may be fewer."""
        order, count = z_order(places), places.shape[1]
        rest = count % self.local
        near, last = gather(places, order).split((count - rest, rest), dim=1)
        some = [near.unflatten(1, (-1, self.local))] * (rest < count) + [last.unsqueeze(1)] * (rest > 0)
        blocks = [block for few in some for block in self._taken(fourier_basis(few, together=self.published)).unbind(1)]
        before = itertools.accumulate((block.shape[1] for block in blocks), initial=0)
        rows = [F.pad(block, (at, count - at - block.shape[1])) for block, at in zip(blocks, before, strict=False)]
        rank = order.argsort(dim=1).unsqueeze(1)
        return torch.cat(rows, dim=1).gather(2, rank.expand(-1, count, -1))

    def _taken(self, basis: torch.Tensor) -> torch.Tensor:
        """The released code takes the basis where the formula has its transpose."""
        return basis if self.published else basis.transpose(-2, -1)


class SpectralAdapter(Graft, Uncalled):
    """``U [silu(h) + S'(f + silu(A LN f)) + L'(l + silu(A LN l))] + u`` of ``h = D x + d``, ``f = S h``, ``l = L h`` (Liang et al. 2025).

    ``S`` and ``L`` take the tokens of patches to their spectra and ``S'`` and ``L'`` back; other tokens have ``U silu(h) + u``. ``A``, which both
    spectra share, and ``U`` begin at nothing.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up, self.inner = Linear(width, rank), Linear(rank, width), Linear(rank, rank)
        self.norm_whole, self.norm_parts = nn.LayerNorm(rank), nn.LayerNorm(rank)
        nn.init.xavier_uniform_(self.down.weight)
        for value in (self.up.weight, self.up.bias, self.inner.weight, self.inner.bias):
            nn.init.zeros_(value)
        self._context: tuple[int, tuple[torch.Tensor, ...]] | None = None

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Into the block: what the branch beside which this stands is not told waits until it is called."""
        x, context, *_ = inputs
        self._context = x.shape[1] - context.leads, context.made[_MADE]

    def parallel(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Of what enters the branch, added to what it gives."""
        context, self._context = self._context, None
        assert context is not None
        behind, spectra = context
        # Not every family has its lead tokens in this branch: patches and what is behind them are counted from the end.
        return output + self(inputs[0], inputs[0].shape[1] - behind, *spectra)

    def forward(
        self, x: Float[torch.Tensor, "b t d"], leads: int, whole: Float[torch.Tensor, "b g g"], parts: Float[torch.Tensor, "b g g"]
    ) -> Float[torch.Tensor, "b t d"]:
        """What it adds."""
        h = self.down(x)
        lead, patches, extra = h.tensor_split((leads, leads + whole.shape[1]), dim=1)
        found = self._in_spectrum(patches, whole, self.norm_whole) + self._in_spectrum(patches, parts, self.norm_parts)
        h = torch.cat([F.silu(lead), F.silu(patches) + found, F.silu(extra)], dim=1)
        return linear(h, self.up.weight * self.share, self.up.bias * self.share)

    def uncalled_macs(self, *inputs: torch.Tensor) -> int:
        """The map up, which the share is worked into."""
        return inputs[0][..., 0].numel() * self.up.weight.numel()

    def _in_spectrum(
        self, h: Float[torch.Tensor, "b g r"], there: Float[torch.Tensor, "b g g"], norm: nn.LayerNorm
    ) -> Float[torch.Tensor, "b g r"]:
        found = there @ h
        return there.transpose(1, 2) @ (found + F.silu(self.inner(norm(found))))


@dataclasses.dataclass(frozen=True)
class PointGST(Grafting):
    """Point cloud spectral adapter, parallel to each block's MLP (Liang et al., TPAMI 2025, arXiv 2410.08114, section 4).

    ``x' + MLP(LN x') + PCSA(x')``; see ``SpectralAdapter``. Bases are eigenvectors of graphs of the patches' centres (``points/spectral.py`` says what
    makes them unique): of all, and of ``local`` neighbours along a curve. As published they are used where the formula has their transposes, and the
    scale of a graph's weights is the smallest distance in the whole batch, so that what a cloud gives depends on the others; the released code
    computes that distance by a matrix product in single precision, where it is what rounding leaves of a place's distance to itself, which no
    other machine repeats, and is not repeated here.

    In a pyramid each level has graphs of its own patches.
    """

    name: ClassVar[str] = "pointgst"
    title: ClassVar[str] = "PointGST"
    figures: ClassVar[Figures | None] = Figures(0.6, 85.29, "its repository")
    begins: ClassVar[Literal["unchanged", "changed"]] = "unchanged"
    lasting: ClassVar[str] = "a bottleneck bends between its maps"

    rank: int = option(36, least=1, most=1 << 13, means="width of the bottleneck")
    local: int = option(32, least=1, most=1 << 14, means="patches of a small graph; where there are fewer, all of them")

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """Those of the released configurations for Point-MAE; those for ACT and ReCon have the same sizes."""
        files = {"scan-hardest": "scan_hardest", "scan-objbg": "scan_objbg", "scan-objonly": "scan_objonly", "modelnet40": "modelnet"}
        return {
            name: Published({"rank": 36, "local": 32}, f"PointGST cfgs/mae/finetune_{file}_pgst.yaml", (WHOLE, _TRANSPOSED, _TOGETHER))
            for name, file in files.items()
        }

    def graft(self, model: Headed) -> None:
        """Bases for each stack of blocks, and an adapter beside each MLP."""
        backbone = model.backbone
        for stage in backbone.anatomy.stages:
            spectra = self.put(model, stage.blocks, Spectra(self.local, self.reading == "as_published"))
            backbone.get_submodule(stage.blocks).register_forward_pre_hook(spectra.enter)
            for site in stage.sites:
                self.refuse_wide(self.rank, site.width, site.block)
                adapter = self.put(model, site.residual_mlp, SpectralAdapter(site.width, self.rank))
                backbone.get_submodule(site.block).register_forward_pre_hook(adapter.enter)
                backbone.get_submodule(site.residual_mlp).register_forward_hook(adapter.parallel)
