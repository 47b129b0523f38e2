"""Weights files of the package torch-pointcloud: its names of Point-MAE's, Point-BERT's and Point-M2AE's parts as the released ones.

The map is data, read off version 0.0.18; the package itself is not needed. Its shared maps are linear layers where the released ones are convolutions
of kernel size 1: the same numbers, in one dimension less. Of a segmentation model only the encoder is taken: its decoder joins coordinates and
features in another order than the released one, so that the same names would hold permuted weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

NAME = "torch-pointcloud"
_MARK = ".local_mlp.lins."
"""Stands in names of each of its files of these families, and in no released one."""
_TOKENIZER = {
    "local_mlp.lins.0": ("first_conv.0", 3),
    "local_mlp.norms.0.module": ("first_conv.1", 0),
    "local_mlp.lins.1": ("first_conv.3", 3),
    "global_mlp.lins.0": ("second_conv.0", 3),
    "global_mlp.norms.0.module": ("second_conv.1", 0),
    "global_mlp.lins.1": ("second_conv.3", 3),
}
"""Within a mini-PointNet: the released name, and how many dimensions its ``weight`` has where that is not the file's."""
_DVAE = {
    "input_trans.lins.0": ("input_trans", 3),
    **{f"layer{layer}.conv": (f"layer{layer}.0", 0) for layer in range(1, 5)},
    **{f"layer{layer}.norm": (f"layer{layer}.1", 0) for layer in range(1, 5)},
    "layer5_conv": ("layer5.0", 3),
    "layer5_norm": ("layer5.1", 0),
}
_MLP3 = {
    "lins.0": ("0", 0),
    "norms.0.module": ("1", 0),
    "lins.1": ("4", 0),
    "norms.1.module": ("5", 0),
    "lins.2": ("8", 0),
}
_MLP2 = {"lins.0": ("0", 0), "lins.1": ("3", 0)}
_BLOCK = {"lins.0": ("fc1", 0), "lins.1": ("fc2", 0)}
_POSITION = {"lins.0": ("0", 0), "lins.1": ("2", 0)}
_RULES: tuple[tuple[str, dict[str, tuple[str, int]]], ...] = (
    (r"((?:.+\.)?(?:encoder|token_embed\.\d+)\.)", _TOKENIZER),
    (r"(dgcnn_[12]\.)", _DVAE),
    (r"(.*blocks\.\d+\.mlp\.)", _BLOCK),
    (r"(.*pos_embed(?:s\.\d+)?\.)", _POSITION),
    (r"(cls_head\.)", _POSITION),
    (r"(increase_dim\.)", {"lins.0": ("0", 3)}),
)
"""What stands before a part, and what is called otherwise behind it."""
_STARTS = (
    # Point-BERT's classifier holds the whole backbone under ``encoder.``; what else begins so is the mini-PointNet.
    (re.compile(r"encoder\.(?=encoder\.|reduce_dim\.|cls_token$|cls_pos$|pos_embed\.|blocks\.|norm\.)"), ""),
    (re.compile(r"norm_f\."), "norm."),
    (re.compile(r"blocks\.(?=\d)"), "blocks.blocks."),
)
_HEAD, _SEGMENTS = "cls_head_finetune.", "label_conv."


def translate(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A state dict under the released names, and of each of these the name in the file; another's file as it is, and nothing."""
    names = released(state)
    if not names:
        return dict(state), {}
    found = {key: value.reshape(widened(tuple(value.shape), names[key][1])) for key, value in state.items()}
    return {names[key][0]: value for key, value in found.items()}, {name: key for key, (name, _) in names.items()}


def released(keys: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Of each key the released name and the least number of its dimensions; empty where these are not the package's names."""
    keys = tuple(keys)
    if not any(_MARK in key for key in keys):
        return {}
    head = _MLP3 if "head.norms.0.module.weight" in keys else _MLP2
    if any(key.startswith(_SEGMENTS) for key in keys):  # whose ``head`` is another; every backbone knows that what begins so is none of its
        return {key: (f"{_SEGMENTS}{key}", 0) if key.startswith("head.") else _released(key, head) for key in keys}
    return {key: _released(key, head) for key in keys}


def widened(shape: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """A shape with as many dimensions, the new ones last and of size 1."""
    return shape + (1,) * (dimensions - len(shape))


def _released(key: str, head: Mapping[str, tuple[str, int]]) -> tuple[str, int]:
    name = key
    for start, instead in _STARTS:
        name = start.sub(instead, name, count=1) if start.match(name) else name
    stem, dot, kind = name.rpartition(".")
    if stem.startswith("head.") and (part := head.get(stem.removeprefix("head."))):
        return f"{_HEAD}{part[0]}.{kind}", 0
    for before, parts in _RULES:
        for part, (instead, dimensions) in parts.items():
            if found := re.fullmatch(before + re.escape(part), stem):
                return f"{found[1]}{instead}{dot}{kind}", dimensions if kind == "weight" else 0
    return name, 0
