"""Multi-scale masked reconstruction (Point-M2AE, Zhang et al. 2022, sections 3.1 to 3.4).

Patches of the last level are hidden, and below it every patch that is in no visible one, so that what is visible is the same region on all
levels. The encoder climbs over visible patches alone. The decoder goes one level down, from the last to the one before it, with what the encoder
knows of the visible patches there, and rebuilds the members of those that are hidden: the centres of the first level.

Names are those of the released model. Its head rebuilds as many points as a patch of the first level has, more than the members to rebuild; a
Chamfer distance does not mind, and the paper does not say it, so both readings do that.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import nn

from wisetune.errors import UsageError
from wisetune.nets.backbone import LEVELS, Backbone, Groups, build_empty
from wisetune.nets.families.point_m2ae import PointM2AE, PointM2AESpec, Visible
from wisetune.nets.masked import Hidden, Masked, chamfer, to_points
from wisetune.nets.readout import Tokens
from wisetune.nets.transformer import Context, Transformer
from wisetune.points.interpolate import spread_to
from wisetune.points.neighbours import gather

_TOP = LEVELS - 1
_REBUILT = LEVELS - 2
"""The level whose hidden patches are rebuilt."""


class _Residual(nn.Module):
    """Two maps of the channels with BatchNorm, on a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net1 = _mapped(width, width)
        self.net2 = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width))
        self.act = nn.GELU()

    def forward(self, x: Float[torch.Tensor, "b d n"]) -> Float[torch.Tensor, "b d n"]:
        return self.act(x + self.net2(self.net1(x)))


class TokenPropagation(nn.Module):
    """From a level to the one below: its tokens, interpolated, beside those that are known there (PointNet++'s feature propagation)."""

    def __init__(self, above: int, width: int) -> None:
        super().__init__()
        self.fuse = nn.ModuleDict({"net": _mapped(above + width, width)})
        self.extraction = nn.ModuleDict({"operation": nn.Sequential(_Residual(width))})

    def forward(
        self,
        places: Float[torch.Tensor, "b n 3"],
        known: Float[torch.Tensor, "b n d"],
        places_above: Float[torch.Tensor, "b m 3"],
        above: Float[torch.Tensor, "b m e"],
    ) -> Float[torch.Tensor, "b n d"]:
        """Tokens at ``places``."""
        spread = spread_to(places, places_above)
        # Summed at once, where ``spread.of`` sums one by one and rounds otherwise: stored pre-trainings keep their bits.
        from_above = (gather(above, spread.index) * spread.weight[..., None]).sum(dim=2)
        x = torch.cat([known, from_above], dim=-1).transpose(1, 2)
        return self.extraction["operation"](self.fuse["net"](x)).transpose(1, 2)


class MaskedPyramid(Masked[tuple[Visible, ...]]):
    """The pyramid on visible patches, and a decoder that rebuilds the members of hidden patches of the level before the last."""

    def __init__(self, spec: PointM2AESpec, decoder_depth: int = 1) -> None:
        super().__init__()
        encoder = PointM2AE(spec)
        # In a tuple it is no module of this one, whose names begin with the pyramid's, not with the backbone's.
        self._encoder = (encoder,)
        self.h_encoder = encoder.h_encoder
        for level in range(_TOP):
            self.h_encoder.encoder_norms[str(level)] = nn.LayerNorm(spec.widths[level])
        widths = [spec.widths[level] for level in range(_TOP, _REBUILT - 1, -1)]
        self.mask_token = nn.Parameter(torch.zeros(1, widths[0]))
        self.h_decoder, self.decoder_pos_embeds, self.token_prop = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        last = max(len(widths) * decoder_depth - 1, 1)
        for stage, width in enumerate(widths):
            rates = [spec.drop_path * block / last for block in range(stage * decoder_depth, (stage + 1) * decoder_depth)]
            self.h_decoder.append(Transformer(width, decoder_depth, spec.heads, rates))
            self.decoder_pos_embeds.append(nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width)))
            if stage:
                self.token_prop.append(TokenPropagation(widths[stage - 1], width))
        self.decoder_norm = nn.LayerNorm(widths[-1])
        self.rec_head = nn.Conv1d(widths[-1], 3 * spec.group_sizes[0], 1)
        if spec.initial == "published":
            self.h_decoder.apply(_xavier)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    @property
    def encoder(self) -> PointM2AE:
        """The backbone that learns."""
        return self._encoder[0]

    def backbone(self) -> Backbone:
        """The pyramid without the norms of the levels below, which are the decoder's."""
        done, state = build_empty(self.encoder.spec), self.state_dict()
        done.load_state_dict({name: state[name] for name in done.state_dict()}, assign=True)
        return done

    def places(self, groups: Groups) -> Float[torch.Tensor, "b g 3"]:
        """Those of the last level."""
        return groups[2 * _TOP]

    def encode(self, groups: Groups, mask: Hidden) -> tuple[Visible, ...]:
        """The visible patches of each level, after its norm."""
        top = torch.zeros(groups[2 * _TOP].shape[:2], dtype=torch.bool, device=mask.visible.device).scatter_(1, mask.visible, True)
        levels = self.encoder.climb(groups, self.encoder.visible(groups, top))
        norms = self.h_encoder.encoder_norms
        return tuple(level._replace(tokens=norms[str(number)](level.tokens)) for number, level in enumerate(levels))

    def pool(self, seen: tuple[Visible, ...]) -> Float[torch.Tensor, "b f"]:
        """The encoder's readout of the last level, of which as many patches are visible in every cloud."""
        tokens = seen[_TOP].tokens
        return self.encoder.pool(Tokens(lead=tokens[:, :0], patch=tokens))

    def rebuild(self, groups: Groups, mask: Hidden, seen: tuple[Visible, ...]) -> Float[torch.Tensor, ""]:
        """Chamfer distance between rebuilt and true members of the hidden patches."""
        centres, members = groups[0::2], groups[1::2]
        hidden = ~seen[_REBUILT].visible
        if not hidden.any():
            raise UsageError(
                f"a mask that hides {mask.hidden.shape[1]} of {mask.hidden.shape[1] + mask.visible.shape[1]} patches of the last level hides "
                "none of the level below in a whole batch, as each is a part of a visible one; give a larger mask."
            )
        x = self._put(seen[_TOP], self.mask_token)
        (x,) = self.h_decoder[0](x, Context(self.decoder_pos_embeds[0](centres[_TOP])))
        for stage, level in enumerate(range(_TOP - 1, _REBUILT - 1, -1), 1):
            known = self._put(seen[level], torch.zeros_like(seen[level].tokens[0, :1]))
            x = self.token_prop[stage - 1](centres[level], known, centres[level + 1], x)
            (x,) = self.h_decoder[stage](x, Context(self.decoder_pos_embeds[stage](centres[level])))
        true = gather(centres[_REBUILT - 1], members[_REBUILT]) - centres[_REBUILT][:, :, None]
        return chamfer(to_points(self.rec_head, self.decoder_norm(x[hidden])), true[hidden])

    @staticmethod
    def _put(level: Visible, otherwise: Float[torch.Tensor, "1 d"]) -> Float[torch.Tensor, "b g d"]:
        """A token for every patch: the visible ones' own, the same one for the others."""
        everywhere = otherwise.expand(*level.visible.shape, -1)
        return everywhere.index_put(level.visible.nonzero(as_tuple=True), level.tokens[level.filled])


def _mapped(inside: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(inside, width, 1), nn.BatchNorm1d(width), nn.GELU())


def _xavier(module: nn.Module) -> None:
    """The decoder's initial values in the released code."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
