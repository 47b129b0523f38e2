"""Released checkpoints into a model: which tensor went where, what was left over, and a refusal when too little fits.

A file that does not belong to a model must not load "a little": strict=False in other codes has silently loaded nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wisetune.errors import UsageError, WeightsError, first_of
from wisetune.nets.backbone import Backbone, BackboneSpec, Preset, build_empty
from wisetune.nets.create import named
from wisetune.nets.files.checkpoint import Checkpoint, read_state
from wisetune.nets.files.identify import PREFIX, Looks, bare, identify
from wisetune.nets.files.kin import way
from wisetune.nets.files.load_report import LoadReport
from wisetune.nets.files.match import Match, Tuned
from wisetune.nets.files.torch_pointcloud import NAME, translate
from wisetune.nets.headed import Headed

_MOST_NAMED = 6
"""Presets that a message names."""
_FEW, _MOST_OUTPUTS = 2, 1_000_000


def load_official(
    model: Headed | Backbone,
    source: str | Path | Mapping[str, Tensor],
    *,
    min_coverage: float = 1.0,
    family: str | None = None,
    tuned: Tuned | None = None,
) -> LoadReport:
    """Load a released checkpoint in place, converted to the model's dtype and device.

    Leading ``module.`` is stripped, the names of torch-pointcloud are turned into the released ones, then the backbone renames each key. A
    head loads as a whole or, when its classes or layers differ, not at all. So does what a tuning grafted: with all of it from a file of a model
    tuned so (``wisetune.load_official``), or fresh, from one that was not tuned.

    Args:
        model: a model, or a backbone alone (heads in the file are then left out).
        source: a file (see ``read_state``) or a state dict.
        min_coverage: the least share of the backbone's values that the file must have. All, by default: a layer that is missing may have few
            values and makes another function. Lower, what is missing stays fresh and the report's notes name it.
        family: whose file it is, where the model is to begin with another family's encoder: ``recon`` with a ``point-mae``. What of it has no
            counterpart is left out, and the report's notes say what such weights are not. Without it such a file is refused.
        tuned: what is known of files of tuned models.

    Raises:
        BadFile: the file cannot be read as weights.
        WeightsError: it is not this model's: too little fits, shapes differ, two keys want one place, or values are not finite. The model
            is then as it was.
        UsageError: no model, neither a file nor a state dict, or a family whose encoder is another architecture.
    """
    if not isinstance(model, (Headed, Backbone)) or not isinstance(source, (str, Path, Mapping)):
        raise UsageError(
            f"load_official was given {type(model).__name__} and {type(source).__name__}; it takes a model or backbone, then the file (or its "
            "state dict) to load into it: wisetune.load_official(model, 'pretrain.pth')."
        )
    if isinstance(source, (str, Path)):
        label, checkpoint = Path(source).name, read_state(source)
    else:
        label, checkpoint = "the state dict", Checkpoint(_tensors(source), {}, "plain")
    return load_checkpoint(model, label, checkpoint, min_coverage=min_coverage, family=family, tuned=tuned)


def load_checkpoint(
    model: Headed | Backbone,
    label: str,
    checkpoint: Checkpoint,
    *,
    min_coverage: float = 1.0,
    family: str | None = None,
    tuned: Tuned | None = None,
) -> LoadReport:
    """As ``load_official``, of a file that was read already; ``label`` is what messages call it."""
    if isinstance(min_coverage, bool) or not isinstance(min_coverage, (int, float)) or not 0 <= min_coverage <= 1:
        raise UsageError(
            f"min_coverage is {min_coverage!r}; it is a share of the backbone's values, from 0 to 1. 1, the default, takes nothing less than all."
        )
    found, called, prefix = under_released_names(label, checkpoint.tensors)
    match = Match(label, model, found, family, called, tuned or Tuned())
    report = match.report(checkpoint, prefix)
    if why := match.why_not(min_coverage):
        raise _refusal(match, why)
    match.refuse_not_finite()
    with torch.no_grad():
        for target, key in match.loaded.items():
            match.targets[target].copy_(found[key])
    return report


def _refusal(match: Match, why: str) -> WeightsError:
    """With whose file it seems to be, how this model could begin with it, and the presets that it fits."""
    looks, spec = identify(match.shapes), match.backbone.spec
    told = "" if spec.name in looks.families and not looks.front and _sized(spec, looks.families[spec.name]) else str(looks)
    told = f" It looks like {told}." if told else ""
    if match.kin is None:
        told += way(match.backbone, looks, lambda backbone, family: _fits(backbone, _on_meta(match.found), family))
    there = [name for name in fitting(match.found, looks) if spec.name not in looks.families or name.startswith(f"{spec.name}-")]
    told += f" It fits {first_of(there, _MOST_NAMED)}." if there else ""
    return WeightsError(f"{match.label} does not fit this {spec.name}: {why}.{told} Nothing was loaded.")


def _tensors(source: Mapping[str, object]) -> dict[str, Tensor]:
    """What a caller gave as a state dict, arrays as tensors.

    Raises:
        UsageError: it holds something else.
    """
    found: dict[str, Tensor] = {}
    for name, value in source.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(value)
        if not isinstance(value, Tensor):
            inside = f" Give what is in it: checkpoint['{name}']." if isinstance(value, Mapping) else ""
            raise UsageError(f"the state dict has a {type(value).__name__} as '{name}'; it takes tensors by name.{inside}")
        found[name] = value
    return found


def fitting(found: Mapping[str, Tensor], looks: Looks) -> dict[str, Preset]:
    """The presets, by one word, whose backbones these tensors fill; names as in a file, those of torch-pointcloud too."""
    released, _, _ = under_released_names("", found)
    shapes = _on_meta(released)
    return {
        name: preset
        for family, sizes in looks.families.items()
        if not looks.front
        for name, preset in named(family).items()
        if _sized(preset.backbone, sizes) and _fits(build_empty(preset.backbone), shapes)
    }


def outputs_of(model_of: Callable[[int], Headed], found: Mapping[str, Tensor]) -> int | None:
    """How many outputs the head in a file has, where it is the one of these models, which are given by that number; None where it is not."""

    def match(outputs: int) -> Match:
        return Match("", model_of(outputs), found, None, {}, Tuned())

    few = match(_FEW)
    there = {shape[:1] for name, shape, _ in few.mismatched if name.startswith(few.head_prefixes)} or {(_FEW,)}
    outputs = next(iter(there), ())
    if len(there) > 1 or not outputs or not 1 <= outputs[0] <= _MOST_OUTPUTS:
        return None
    whole = match(outputs[0])
    left = any((whole.renamed(key) or "").startswith(whole.head_prefixes) for key in whole.ignored)
    return outputs[0] if not left and any(name.startswith(whole.head_prefixes) for name in whole.loaded) else None


def _on_meta(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.to("meta") for key, value in found.items()}


def _fits(model: Headed | Backbone, found: Mapping[str, Tensor], family: str | None = None) -> bool:
    try:
        return not Match("", model, found, family, {}, Tuned()).why_not(1.0)
    except WeightsError:  # two tensors for one place
        return False


def _sized(spec: BackboneSpec, sizes: Mapping[str, object]) -> bool:
    """Whether a spec has these options; a class token says nothing, as it may be fresh, or left out."""
    told = {"token_width": None, **sizes}
    return all(getattr(spec, name, value) == value for name, value in told.items() if name != "class_token")


def under_released_names(label: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Tensors under the released names, without what DataParallel puts in front; of each translated one the name in the file; what was in front.

    Raises:
        WeightsError: two tensors for one name.
    """
    found = {bare(key): value for key, value in tensors.items()}
    if len(found) < len(tensors):
        raise WeightsError(f"{label} has keys that differ only by a leading '{PREFIX}'; give a file that holds one model.")
    renamed, called = translate(found)
    if len(renamed) < len(found):
        raise WeightsError(f"{label} has two tensors for one place under the names of {NAME}; give a file that holds one model.")
    return renamed, called, PREFIX if any(key.startswith(PREFIX) for key in tensors) else ""
