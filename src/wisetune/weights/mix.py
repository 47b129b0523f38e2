"""WiSE-FT on whole models: the backbone is mixed, the head is not."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, overload

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from wisetune.errors import DataError, UsageError, WeightsError
from wisetune.nets.backbone import Backbone
from wisetune.nets.categories import Category
from wisetune.nets.features import FeatureBank
from wisetune.nets.grafts import SHARE, has_shares, told, unexplained
from wisetune.nets.headed import Headed
from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter
from wisetune.weights.alphas import tidy
from wisetune.weights.batchnorm import reestimate_on, trained_norms
from wisetune.weights.merge import Missing, State, fresh_copy, with_shares
from wisetune.weights.wise import Wise

HeadRule: TypeAlias = Literal["from_finetuned", "drop"]
Clouds: TypeAlias = np.ndarray | Tensor | Sequence[np.ndarray]
"""What a caller gives: its shape is checked with a message, so the type promises none."""


@dataclasses.dataclass(frozen=True)
class Unmixed:
    """A part of a fine-tuned model that has no pre-trained value, and what it is at alpha = 0."""

    name: str
    at_zero: str


_TUNED = "the fine-tuned model's, as at every alpha"
_HEADS = f"{_TUNED} (WiSE-FT), or one trained on the mixed backbone (WiSE-FT-LP)"


def unmixed(model: Headed | Backbone) -> list[Unmixed]:
    """What a mix of a start and a fine-tuned model does not mix: the head, and of the backbone what pre-training lacks.

    A mix that mixed them would mix initial noise in.
    """
    backbone = model.backbone if isinstance(model, Headed) else model
    prefixes = model.head_prefixes if isinstance(model, Headed) else (f"{backbone.head_name}.",)
    head = ", ".join(prefix.rstrip(".") for prefix in prefixes)
    return [*(Unmixed(name, _TUNED) for name in backbone.anatomy.fresh), Unmixed(f"{head} (the head)", _HEADS)]


@overload
def mix(
    start: Headed | Backbone,
    finetuned: Model,
    alpha: float,
    *,
    head: HeadRule = "from_finetuned",
    missing: Missing = "from_last",
    clouds: Clouds | None = None,
) -> Model: ...


@overload
def mix(
    start: Headed | Backbone,
    finetuned: Segmenter,
    alpha: float,
    *,
    head: HeadRule = "from_finetuned",
    missing: Missing = "from_last",
    clouds: Clouds | None = None,
    categories: Category | None = None,
) -> Model | Segmenter: ...


@overload
def mix(
    start: State,
    finetuned: State,
    alpha: float,
    *,
    head_prefixes: Sequence[str] | None = None,
    head: HeadRule = "from_finetuned",
    missing: Missing = "from_last",
) -> dict[str, Tensor]: ...


def mix(
    start: State | Headed | Backbone,
    finetuned: State | Model | Segmenter,
    alpha: float,
    *,
    head_prefixes: Sequence[str] | None = None,
    head: HeadRule = "from_finetuned",
    missing: Missing = "from_last",
    clouds: Clouds | None = None,
    categories: Category | None = None,
) -> dict[str, Tensor] | Model | Segmenter:
    """Mix the backbones of two models: (1 - alpha) start + alpha finetuned (Wortsman et al. 2022, eq. 1), heads left out.

    The start has no head for the task, or another one, so heads are never averaged:

    * ``head="from_finetuned"`` keeps the trained head on the mixed backbone: plain **WiSE-FT** for models with a new head.
    * ``head="drop"`` returns the backbone alone. Training a new head on it, frozen, gives **WiSE-FT-LP**.

    What a tuning grafted into the fine-tuned model counts by its share, which is alpha.

    Two models give a model, two state dicts a state dict. Models know their heads, and which parts of the start have no pre-trained value; state
    dicts do not, and it has to be said.

    Without ``clouds`` the BatchNorm statistics of the result are averages too, which fit neither model, and it answers worse than it could.
    Give training clouds, and they are measured again on these, as ``wisetune run`` does: all that moved in training, the head's too.

    Args:
        start: the pre-trained model, its backbone, or its state dict; a head in it is ignored. From a state dict leave out what has no
            pre-trained value (a backbone's ``anatomy.fresh``): it is then copied from the fine-tuned model instead of mixed with initial noise.
        finetuned: the fine-tuned model, or its state dict; the result has its keys, in its order, on its devices.
        alpha: 0 gives the start's backbone, 1 the fine-tuned one, both bit for bit.
        head_prefixes: of state dicts, where heads live; ``head`` means every key that is ``head`` or begins with ``head.``, and is the
            default (a model's ``head_prefixes`` names another). ``()`` for models without a head.
        head: what becomes of the fine-tuned head.
        missing: what becomes of backbone keys that only one model has (see ``wisetune.weights.merge``).
        clouds: of two models, clouds ``[n, p, 3]`` on which BatchNorm statistics are measured again, centred and scaled as those that the model
            was tuned on: ``wisetune.parse_task("scans").load(1024).train.points``. At alpha 0 and 1 nothing is mixed, and nothing measured.
        categories: of part segmentation models, the category of each of ``clouds``, by name or number.

    Returns:
        A new state dict that shares no storage with either model; of models a new model in eval mode, without a head for ``head="drop"``.

    Raises:
        UsageError: alpha outside [0, 1], an unknown policy, a prefix that no fine-tuned key begins with, a model and a state dict, clouds with
            state dicts, or categories missing or for nothing.
        DataError: clouds or categories that the model cannot take.
        WeightsError: backbones that do not fit each other, or with other grafts, or both with LoRA's or SSF's of other values (``wisetune.fold``
            puts these into weights first); or values that are not finite.
    """
    if head not in ("from_finetuned", "drop"):
        raise UsageError(f"head is '{head}'; it can be from_finetuned, drop.")
    if isinstance(start, (Headed, Backbone)) and isinstance(finetuned, (Model, Segmenter)):
        if head_prefixes is not None:
            raise UsageError("head_prefixes were given with models, which know their heads; leave them out.")
        _check_categories(finetuned, clouds, categories)
        return _mix_models(start, finetuned, alpha, head, missing, clouds, categories)
    if isinstance(start, (Headed, Backbone)) and isinstance(finetuned, Backbone):
        raise UsageError(
            f"the second model given to wisetune.mix is a backbone ({type(finetuned).__name__}) without a head, where the fine-tuned model belongs: "
            f"{_headed(start)} Backbones alone are mixed as state dicts: "
            "wisetune.mix(start.state_dict(), finetuned.state_dict(), 0.5, head_prefixes=())."
        )
    if not isinstance(start, Mapping) or not isinstance(finetuned, Mapping):
        kinds = f"{type(start).__name__} and {type(finetuned).__name__}"
        raise UsageError(
            f"{kinds} cannot be mixed; give a start and a fine-tuned wisetune model, or the state dicts of both: "
            "wisetune.mix(wisetune.resolve('point-mae-mini').load(), wisetune.load_model('tuned.safetensors'), 0.5)."
        )
    if clouds is not None or categories is not None:
        word = "categories" if clouds is None else "clouds"
        raise UsageError(f"{word}= was given with state dicts, which cannot look at clouds; give the two models themselves.")
    _check_products(start, finetuned)
    return _mix_states(start, finetuned, alpha, ("head",) if head_prefixes is None else head_prefixes, head, missing)


def _check_categories(finetuned: Model | Segmenter, clouds: Clouds | None, categories: Category | None) -> None:
    if not isinstance(finetuned, Segmenter):
        if categories is not None:
            raise UsageError("categories= was given with a classifier; they are for part segmentation models. Leave them out.")
    elif (clouds is None) != (categories is None):
        given, other = ("categories", "clouds") if clouds is None else ("clouds", "categories")
        raise UsageError(
            f"{given}= was given without {other}=; the BatchNorm statistics of a part segmentation model are measured on clouds with the "
            "category of each. Give both, or neither."
        )


def _headed(start: Headed | Backbone) -> str:
    """What to give as the fine-tuned model, to whoever gave a backbone."""
    if isinstance(start, Headed):
        return "the first one has a head. Change places: the start first, then the fine-tuned model."
    return "give the model with the head that it was tuned with, as wisetune.load_model('tuned.safetensors') reads it."


def mixable(backbone: Backbone, *, is_start: bool) -> State:
    """A backbone's state; of a start without the parts that have no pre-trained value (``unmixed``), which would mix initial noise in."""
    fresh = set(backbone.anatomy.fresh) if is_start else set()
    return {key: value for key, value in backbone.state_dict().items() if key not in fresh}


def _mix_models(
    start: Headed | Backbone,
    finetuned: Model | Segmenter,
    alpha: float,
    head: HeadRule,
    missing: Missing,
    clouds: Clouds | None,
    categories: Category | None,
) -> Model | Segmenter:
    begun = start.backbone if isinstance(start, Headed) else start
    _check_grafts(begun, finetuned.backbone)
    before = mixable(begun, is_start=True)
    after = finetuned.state_dict()
    roots = finetuned.head_prefixes if len(after) > len(finetuned.backbone.state_dict()) else ()
    mixed = copy.deepcopy(finetuned)
    mixed.load_state_dict(_mix_states(before, after, alpha, roots, "from_finetuned", missing))
    if clouds is not None and tidy(alpha) not in (0.0, 1.0):
        device, stacked = next(mixed.parameters()).device, _stacked(clouds)
        groups = FeatureBank(device).groups(mixed.eval(), stacked, "clouds")
        hot = None
        if isinstance(mixed, Segmenter) and categories is not None:
            hot = mixed.one_hot(categories, len(stacked)).to(groups[0])
        reestimate_on(mixed, groups, hot, trained_norms(mixed, with_shares([before, mixable(finetuned.backbone, is_start=False)])))
    return (mixed if head == "from_finetuned" else Model(mixed.backbone, nn.Identity())).eval()


def _stacked(clouds: Clouds) -> Float32[np.ndarray, "n p 3"]:
    """Clouds as one array; that their coordinates are finite, and enough, is seen where they are grouped."""
    try:
        stacked = clouds.detach().cpu().numpy() if isinstance(clouds, Tensor) else np.asarray(clouds)
    except ValueError:
        raise DataError("clouds= holds clouds of different numbers of points; draw the same number from each.") from None
    if stacked.ndim != 3 or stacked.shape[2] != 3 or not len(stacked) or stacked.dtype.kind not in "fiu":
        raise DataError(f"clouds= is {stacked.dtype} {list(stacked.shape)}; it takes coordinates [clouds, points, 3].")
    return np.ascontiguousarray(stacked, np.float32)


def _check_grafts(start: Backbone, finetuned: Backbone) -> None:
    mine, theirs = start.grafts, finetuned.grafts
    fits = theirs[: len(mine)] == mine and has_shares(theirs[len(mine) :])
    if not fits or unexplained(start) != unexplained(finetuned):
        raise WeightsError(
            f"the start has {told(start)} grafted into it, and the fine-tuned model {told(finetuned)}: what one of them lacks has no value between "
            "them. Mix models with the same grafts, or their state dicts, where missing= says what becomes of it."
        )
    before, after = start.state_dict(), finetuned.state_dict()
    for graft in mine:
        if graft.folds and any(_differ(before, after, name) for name in graft.names if not name.endswith(SHARE)):
            raise WeightsError(
                f"both models have what '{graft.tuning}' grafts, with other values: factors, of which a mean is not the mean of what they make of the "
                "weights. Put them into the weights first: wisetune.mix(wisetune.fold(start), wisetune.fold(finetuned), 0.5)."
            )


def _check_products(start: State, finetuned: State) -> None:
    """Of state dicts nobody knows whether the tensors of a graft that both have multiply one another."""
    for share in (key for key in start if key.endswith(SHARE) and key in finetuned):
        other = next(
            (key for key in start if _below(key, share.removesuffix(SHARE)) and key != share and _differ(start, finetuned, key)), None
        )
        if other is not None:
            raise WeightsError(
                f"both states have a tuning's graft with other values, first '{other}'. Mixed tensor by tensor, factors that multiply one another "
                "give nothing between the two models: give these themselves, or of LoRA and SSF the states of wisetune.fold(model)."
            )


def _differ(start: State, finetuned: State, key: str) -> bool:
    """Whether both have it, and not the same values."""
    one, other = start.get(key), finetuned.get(key)
    return one is not None and other is not None and not (one.shape == other.shape and torch.equal(one.to(other.device), other))


def _mix_states(
    start: State, finetuned: State, alpha: float, head_prefixes: Sequence[str], head: HeadRule, missing: Missing
) -> dict[str, Tensor]:
    roots = tuple(prefix.rstrip(".") for prefix in head_prefixes)
    for root in roots:
        if not root or not any(_below(key, root) for key in finetuned):
            raise UsageError(
                f"no key of the fine-tuned state begins with the head prefix '{root}'; its last keys: {', '.join(list(finetuned)[-2:])}. "
                "Name the head in head_prefixes, pass () if there is none, or give the two models themselves."
            )

    def is_head(key: str) -> bool:
        return any(_below(key, root) for root in roots)

    backbones = [{key: tensor for key, tensor in state.items() if not is_head(key)} for state in (start, finetuned)]
    mixed = Wise(alpha, missing).merge(backbones)
    if head == "drop":
        return mixed
    return {key: fresh_copy(key, tensor) if is_head(key) else mixed[key] for key, tensor in finetuned.items()}


def _below(key: str, root: str) -> bool:
    return key == root or key.startswith(root + ".")
