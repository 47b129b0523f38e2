"""Masked pre-training: what its models share, the contrast between two masked views, and the model for a plain transformer over patches.

The last is Point-MAE's (Pang et al. 2022, section 3). Names are those of the released pre-training model, so that its files load and ours can be
read by it. Only visible patches are tokenised: a hidden patch's token is never used, and the released code's use of it in the tokenizer's
BatchNorm statistics is left out.
"""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import Backbone, Groups
from wisetune.nets.plain import POSITION_HIDDEN, PlainSpec
from wisetune.nets.readout import Tokens
from wisetune.nets.transformer import Context, Transformer, initialise
from wisetune.points.neighbours import gather

Seen = TypeVar("Seen")


@dataclasses.dataclass(frozen=True)
class Hidden:
    """Which patches are visible and which are hidden, by index; the counts are the same for all clouds of a batch."""

    visible: Int64[torch.Tensor, "b v"]
    hidden: Int64[torch.Tensor, "b h"]


def hide(centres: Float[torch.Tensor, "b g 3"], ratio: float, block: bool, generator: torch.Generator) -> Hidden:
    """Hide ``ratio`` of each cloud's patches: at random, or the ones nearest to a random centre (``block``).

    Raises:
        UsageError: none or all would be hidden.
    """
    b, g, _ = centres.shape
    count = int(ratio * g)
    if not 0 < count < g:
        raise UsageError(f"mask={ratio} hides {count} of {g} patches; at least one must be hidden and at least one seen.")
    if block:
        seeds = torch.randint(g, (b, 1), generator=generator).to(centres.device)
        order = (centres - gather(centres, seeds)).norm(dim=-1).argsort(dim=1)
    else:
        order = torch.rand(b, g, generator=generator).to(centres.device).argsort(dim=1)
    return Hidden(visible=order[:, count:], hidden=order[:, :count])


class Masked(nn.Module, Generic[Seen]):
    """Base of the models that pre-train a backbone by rebuilding what is hidden; ``Seen`` is what the encoder makes of the rest.

    A subclass names its parameters as the released pre-training model does.
    """

    @property
    def encoder(self) -> Backbone:
        """The backbone that learns; its weights are this model's."""
        raise NotImplementedError(f"{type(self).__name__} must define encoder")

    def places(self, groups: Groups) -> Float[torch.Tensor, "b g 3"]:
        """The centres of the patches of which some are hidden."""
        raise NotImplementedError(f"{type(self).__name__} must define places")

    def encode(self, groups: Groups, mask: Hidden) -> Seen:
        """What the encoder makes of the visible part alone."""
        raise NotImplementedError(f"{type(self).__name__} must define encode")

    def pool(self, seen: Seen) -> Float[torch.Tensor, "b f"]:
        """The encoder's readout of it, on which views are compared."""
        raise NotImplementedError(f"{type(self).__name__} must define pool")

    def rebuild(self, groups: Groups, mask: Hidden, seen: Seen) -> Float[torch.Tensor, ""]:
        """Chamfer distance between rebuilt and true points of the hidden patches."""
        raise NotImplementedError(f"{type(self).__name__} must define rebuild")

    def backbone(self) -> Backbone:
        """What pre-training was for: the encoder as it is used without a mask, in eval mode."""
        return self.encoder.eval()

    def forward(self, groups: Groups, mask: Hidden) -> Float[torch.Tensor, ""]:
        """The reconstruction loss of one masked view."""
        return self.rebuild(groups, mask, self.encode(groups, mask))


class PatchDecoder(nn.Module):
    """Transformer over visible tokens and mask tokens, then the last norm on the mask tokens alone."""

    def __init__(self, width: int, depth: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.blocks = Transformer(width, depth, heads, drop_path).blocks
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[torch.Tensor, "b t d"], position: Float[torch.Tensor, "b t d"], count: int) -> Float[torch.Tensor, "b m d"]:
        """The last ``count`` tokens, decoded."""
        for block in self.blocks:
            x = block(x, Context(position))
        return self.norm(x[:, -count:])


class MaskedAutoencoder(Masked[torch.Tensor]):
    """Encoder on visible patches, decoder that rebuilds the points of hidden ones."""

    def __init__(self, spec: PlainSpec, decoder_depth: int = 4, decoder_heads: int | None = None) -> None:
        super().__init__()
        self.MAE_encoder = spec.build()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.decoder_pos_embed = nn.Sequential(nn.Linear(3, POSITION_HIDDEN), nn.GELU(), nn.Linear(POSITION_HIDDEN, spec.width))
        self.MAE_decoder = PatchDecoder(spec.width, decoder_depth, decoder_heads or spec.heads, spec.drop_path)
        self.increase_dim = nn.Sequential(nn.Conv1d(spec.width, 3 * spec.group_size, 1))
        if spec.initial == "published":
            for part in (self.decoder_pos_embed, self.MAE_decoder, self.increase_dim):
                part.apply(initialise)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    @property
    def encoder(self) -> Backbone:
        """The backbone that learns."""
        return self.MAE_encoder

    def places(self, groups: Groups) -> Float[torch.Tensor, "b g 3"]:
        """Those of all patches."""
        return groups[0]

    def encode(self, groups: Groups, mask: Hidden) -> Float[torch.Tensor, "b v d"]:
        """Tokens of the visible patches."""
        centres, offsets = groups
        return self.MAE_encoder.encode((gather(centres, mask.visible), _patches(offsets, mask.visible))).patch

    def pool(self, seen: Float[torch.Tensor, "b v d"]) -> Float[torch.Tensor, "b f"]:
        """The encoder's readout of visible tokens."""
        return self.encoder.pool(Tokens(lead=seen[:, :0], patch=seen))

    def rebuild(self, groups: Groups, mask: Hidden, seen: Float[torch.Tensor, "b v d"]) -> Float[torch.Tensor, ""]:
        """Chamfer distance between rebuilt and true points of the hidden patches."""
        centres, offsets = groups
        at_visible = self.decoder_pos_embed(gather(centres, mask.visible))
        at_hidden = self.decoder_pos_embed(gather(centres, mask.hidden))
        joined = torch.cat([seen, self.mask_token.expand(*at_hidden.shape[:2], -1)], dim=1)
        decoded = self.MAE_decoder(joined, torch.cat([at_visible, at_hidden], dim=1), at_hidden.shape[1])
        rebuilt = to_points(cast(nn.Conv1d, self.increase_dim[0]), decoded)
        return chamfer(rebuilt.flatten(0, 1), _patches(offsets, mask.hidden).flatten(0, 1))


def to_points(head: nn.Conv1d, tokens: Float[torch.Tensor, "*b d"]) -> Float[torch.Tensor, "*b k 3"]:
    """The points that each token is rebuilt to; a convolution of kernel size 1 is a linear map of the channels."""
    return F.linear(tokens, head.weight.squeeze(-1), head.bias).unflatten(-1, (-1, 3))


class Projector(nn.Module):
    """The head on which views are compared; thrown away after pre-training (Chen et al. 2020, SimCLR, section 4.2)."""

    def __init__(self, features: int, out: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, features), nn.BatchNorm1d(features), nn.ReLU(), nn.Linear(features, out))

    def forward(self, features: Float[torch.Tensor, "b f"]) -> Float[torch.Tensor, "b o"]:
        """Directions of unit length."""
        return F.normalize(self.layers(features), dim=-1)


def contrast(a: Float[torch.Tensor, "b o"], b: Float[torch.Tensor, "b o"], temperature: float) -> Float[torch.Tensor, ""]:
    """InfoNCE over two views (SimCLR's NT-Xent): each view must find its partner among all others of the batch."""
    both = torch.cat([a, b])
    alike = both @ both.T / temperature
    alike = alike.masked_fill(torch.eye(len(both), dtype=torch.bool, device=alike.device), float("-inf"))
    n = len(a)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(alike.device)
    return F.cross_entropy(alike, partner)


def chamfer(a: Float[torch.Tensor, "r n 3"], b: Float[torch.Tensor, "r m 3"]) -> Float[torch.Tensor, ""]:
    """Chamfer-L2: mean squared distance to the nearest point of the other set, both ways, summed (Point-MAE eq. 4).

    Which point is the nearest is found without a graph: the gradient needs the pairs alone, not every distance.
    """
    with torch.no_grad():
        # |a - b|^2 without the part that is the same for all candidates.
        to_b = torch.baddbmm(b.square().sum(-1).unsqueeze(1), a, b.transpose(1, 2), alpha=-2).argmin(dim=2)
        to_a = torch.baddbmm(a.square().sum(-1).unsqueeze(1), b, a.transpose(1, 2), alpha=-2).argmin(dim=2)
    return (a - gather(b, to_b)).square().sum(-1).mean() + (b - gather(a, to_a)).square().sum(-1).mean()


def _patches(offsets: Float[torch.Tensor, "b g k 3"], index: Int64[torch.Tensor, "b m"]) -> Float[torch.Tensor, "b m k 3"]:
    return gather(offsets.flatten(2), index).unflatten(-1, offsets.shape[2:])
