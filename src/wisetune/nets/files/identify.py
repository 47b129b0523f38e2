"""Whose weights a file holds, as far as the names and shapes of its tensors tell."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from wisetune.nets.create import BACKBONES
from wisetune.nets.files.torch_pointcloud import released, widened
from wisetune.spelling import dashed, spell

PREFIX = "module."
"""What DataParallel puts in front of names."""
_EARLY_M2AE = (
    "an early Point-M2AE (its issue #5), whose encoder is called MAE_encoder.encoders, .blocks and .norms; not all of its names are known, and "
    "none is guessed: get the file that the authors link now, whose names begin with h_encoder"
)
_OTHERS = (
    ("img_token", "ReCon"),
    ("MAE_encoder.encoders.", _EARLY_M2AE),
    ("h_encoder.", "Point-M2AE"),
    ("dgcnn_1.", "the dVAE of Point-BERT"),
    ("visual.", "CLIP"),
    ("text_", "a text encoder, as in CLIP"),
    ("patch_embed.", "an image transformer, as in timm"),
    ("sa1.", "PointNet++"),
    ("feat.stn.", "PointNet"),
)
"""What keys begin with, and whose they are, where no backbone here knows them; the first that is found names the file."""
_MOST_FRONTS = 8


@dataclasses.dataclass(frozen=True)
class Looks:
    """Whose weights these may be: ``families`` with the options that shapes tell, by name; some families share names and shapes.

    ``front`` is what would have to be taken off the front of the names for that. Where no family here knows the names, ``other`` says
    whose they seem to be. All empty where names tell nothing.
    """

    families: Mapping[str, Mapping[str, object]]
    front: str = ""
    other: str = ""

    def __str__(self) -> str:
        if not self.families:
            return self.other
        found: dict[str, list[str]] = {}
        for name, sizes in self.families.items():
            found.setdefault(in_words(sizes), []).append(name)
        told = "; or ".join(f"{' or '.join(names)} with {sizes}" for sizes, names in found.items())
        if not self.front:
            return told
        return (
            f"{told}, with '{self.front}' before its names; take it off and save the file again: "
            f"{{name.removeprefix('{self.front}'): value for name, value in state.items()}}"
        )


def identify(shapes: Mapping[str, tuple[int, ...]]) -> Looks:
    """Whose weights these are, by names (those of torch-pointcloud too) and shapes. Leading ``module.`` says nothing."""
    shapes = {bare(key): shape for key, shape in shapes.items()}
    names = released(shapes)
    shapes = {names[key][0]: widened(shape, names[key][1]) for key, shape in shapes.items()} if names else shapes
    if families := _families(shapes):
        return Looks(families)
    for front in _fronts(shapes):
        if families := _families({key.removeprefix(front): shape for key, shape in shapes.items() if key.startswith(front)}):
            return Looks(families, front)
    for start, whose in _OTHERS:
        if any(key.startswith(start) or f".{start}" in key for key in shapes):
            return Looks({}, other=whose)
    return Looks({})


def bare(key: str) -> str:
    """Without what DataParallel puts in front; only in front, for a name may end in "module." too."""
    while key.startswith(PREFIX):
        key = key.removeprefix(PREFIX)
    return key


def in_words(sizes: Mapping[str, object]) -> str:
    """Options as they are spelled."""
    return ", ".join(f"{dashed(option)}={spell(value)}" for option, value in sizes.items())


def _families(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, object]]:
    return {name: sizes for name in BACKBONES.names() if (sizes := BACKBONES.entry(name).sizes(shapes)) is not None}


def _fronts(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What many names begin with: somebody's own model around a backbone."""
    counts = Counter[str]()
    for key in shapes:
        parts = key.split(".")[:-1]
        counts.update(".".join(parts[:length]) + "." for length in (1, 2) if length <= len(parts))
    return [front for front, _ in counts.most_common(_MOST_FRONTS)]
