"""Point-BERT's dVAE as a tokenizer: which of 8,192 codes each patch of a cloud is, which is what Point-BERT is pre-trained to guess.

Only the half that makes codes is here, a mini-PointNet and a graph network over patches; the codebook and the decoder that rebuilds points are left
out. Names and shapes are those of the released code, so that its files load by name: the dVAE's own, and that in a pre-training file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from wisetune.errors import UsageError, WeightsError
from wisetune.nets._edges import EDGE_GROUPS, EDGE_SLOPE, edge_map, over_edges
from wisetune.nets.backbone import Groups, on_meta
from wisetune.nets.clouds import clouds_of
from wisetune.nets.files.checkpoint import read_state
from wisetune.nets.files.torch_pointcloud import translate
from wisetune.nets.official_fits import Reading
from wisetune.nets.tokenizer import MiniPointNet
from wisetune.points.neighbours import NeighbourRule, cut, nearest_neighbours
from wisetune.points.sampling import SamplingRule

NEIGHBOURS = 4
"""Edges of a patch in the graph; one goes to itself."""
_PREFIXES = ("module.", "dvae.")


class PatchGraph(nn.Module):
    """What the released code calls DGCNN: four layers over edges between near patches, then one over all that they gave."""

    def __init__(self, width: int, out: int, hidden: int) -> None:
        super().__init__()
        self.input_trans = nn.Conv1d(width, hidden, 1)
        inside = hidden
        for layer, outside in enumerate((2 * hidden, 4 * hidden, 4 * hidden, 8 * hidden), 1):
            self.add_module(f"layer{layer}", edge_map(2 * inside, outside))
            inside = outside
        self.layer5 = nn.Sequential(nn.Conv1d(18 * hidden, out, 1, bias=False), nn.GroupNorm(EDGE_GROUPS, out), nn.LeakyReLU(EDGE_SLOPE))

    def forward(self, tokens: Float[torch.Tensor, "b g d"], near: Int64[torch.Tensor, "b g n"]) -> Float[torch.Tensor, "b g c"]:
        """Of each patch its logits; ``near`` are its neighbours by index."""
        values = F.linear(tokens, self.input_trans.weight.squeeze(-1), self.input_trans.bias)
        found = []
        for layer in range(1, 5):
            values = over_edges(cast(nn.Sequential, self.get_submodule(f"layer{layer}")), values, values, near)
            found.append(values)
        return self.layer5(torch.cat(found, dim=-1).transpose(1, 2)).transpose(1, 2)


class DVAETokenizer(nn.Module):
    """``tokenizer(points)`` gives each patch's logits over the codes; ``tokenizer.codes(points)`` the most likely one's number."""

    def __init__(
        self,
        codes: int = 8192,
        *,
        groups: int = 64,
        group_size: int = 32,
        width: int = 256,
        hidden: int = 128,
        tokenizer: tuple[int, int, int] = (128, 256, 512),
        reading: Reading = "as_intended",
    ) -> None:
        super().__init__()
        if groups < NEIGHBOURS or codes % EDGE_GROUPS or hidden % 2:
            raise UsageError(
                f"a dVAE with groups={groups}, codes={codes} and hidden={hidden} cannot be; give at least {NEIGHBOURS} groups, codes in a multiple "
                f"of {EDGE_GROUPS}, and an even hidden width."
            )
        self.groups, self.group_size, self.reading = groups, group_size, reading
        self.encoder = MiniPointNet(width, tokenizer)
        self.dgcnn_1 = PatchGraph(width, codes, hidden)

    # Points come from users: their shape is checked here with a message, so this signature does not promise one.
    def group(self, points: torch.Tensor) -> Groups:
        """What depends on the cloud alone: patches' points relative to their centres ``[b, g, k, 3]``, and near patches ``[b, g, 4]``.

        Raises:
            DataError: not ``[batch, points, 3]`` of finite floats, or too few points for the patches.
        """
        weight = self.dgcnn_1.input_trans.weight
        points = clouds_of(points, max(self.groups, self.group_size), weight)
        published, dtype = self.reading == "as_published", weight.dtype
        # Offsets are differences of nearly equal numbers: they are taken in the wider of the two precisions.
        points = points.to(torch.promote_types(points.dtype, dtype))
        rules: tuple[SamplingRule, NeighbourRule] = ("pointnet2", "expanded") if published else ("intended", "exact")
        centres, offsets = cut(points, self.groups, self.group_size, *rules)
        return offsets.to(dtype), nearest_neighbours(centres, centres, NEIGHBOURS)

    def encode(self, groups: Groups) -> Float[torch.Tensor, "b g c"]:
        """Logits of grouped clouds."""
        offsets, near = groups
        return self.dgcnn_1(self.encoder(offsets), near)

    def forward(self, points: torch.Tensor) -> Float[torch.Tensor, "b g c"]:
        """Logits over the codes."""
        return self.encode(self.group(points))

    def codes(self, points: torch.Tensor) -> Int64[torch.Tensor, "b g"]:
        """The most likely code of each patch."""
        return self(points).argmax(dim=-1)


def load_dvae(
    source: str | Path | Mapping[str, Tensor],
    *,
    groups: int = 64,
    group_size: int = 32,
    reading: Reading = "as_intended",
) -> DVAETokenizer:
    """The tokenizer of a released dVAE file, of a Point-BERT pre-training file, or of torch-pointcloud's, in eval mode.

    Args:
        source: a file (see ``read_state``) or a state dict; its shapes tell all sizes but those of the patches.
        groups: how many patches a cloud is cut into; 64 for the released one's 1,024 points.
        group_size: how many points each has.
        reading: ``as_published`` chooses patches as the released code does.

    Raises:
        BadFile: the file cannot be read as weights.
        WeightsError: it holds no dVAE, or not all of one, or more than one, or values that are not finite.
    """
    label = Path(source).name if isinstance(source, (str, Path)) else "the state dict"
    tensors = read_state(source).tensors if isinstance(source, (str, Path)) else source
    bare = {re.sub(rf"^({'|'.join(map(re.escape, _PREFIXES))})+", "", key): value for key, value in tensors.items()}
    state, _ = translate(bare)
    if len(state) < len(tensors):
        raise WeightsError(f"{label} has two tensors for one place; give a file that holds one dVAE.")
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    first, second = shapes.get("encoder.first_conv.3.weight", ()), shapes.get("encoder.second_conv.3.weight", ())
    inside, last = shapes.get("dgcnn_1.input_trans.weight", ()), shapes.get("dgcnn_1.layer5.0.weight", ())
    if not all(len(shape) == 3 for shape in (first, second, inside, last)):
        raise WeightsError(f"{label} holds no dVAE of Point-BERT: it has no 'dgcnn_1.' beside an 'encoder.'. Give the dVAE's file.")
    widths = (first[1], first[0], second[1])
    with on_meta():
        model = DVAETokenizer(
            last[0], groups=groups, group_size=group_size, width=second[0], hidden=inside[0], tokenizer=widths, reading=reading
        )
    wanted = model.state_dict()
    for name, value in wanted.items():
        if shapes.get(name) != tuple(value.shape):
            raise WeightsError(f"{label} holds another dVAE than Point-BERT's: '{name}' is {shapes.get(name)}, not {tuple(value.shape)}.")
        if not torch.isfinite(state[name]).all():
            raise WeightsError(f"{label} has values that are not finite, in '{name}': its training diverged.")
    model.load_state_dict(
        {name: state[name].to(torch.float32 if value.is_floating_point() else value.dtype) for name, value in wanted.items()}, assign=True
    )
    return model.eval()
