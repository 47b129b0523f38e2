"""WiSE-FT on whole models: the backbone is mixed, the head is not."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, overload

from torch import Tensor, nn

from wisetune.errors import UsageError, WeightsError
from wisetune.nets.backbone import Backbone
from wisetune.nets.grafts import told, unexplained
from wisetune.nets.model import Model
from wisetune.weights.merge import Missing, State, fresh_copy
from wisetune.weights.wise import Wise

HeadRule: TypeAlias = Literal["from_finetuned", "drop"]


@overload
def mix(
    start: Model | Backbone,
    finetuned: Model,
    alpha: float,
    *,
    head: HeadRule = "from_finetuned",
    missing: Missing = "from_last",
) -> Model: ...


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
    start: State | Model | Backbone,
    finetuned: State | Model,
    alpha: float,
    *,
    head_prefixes: Sequence[str] | None = None,
    head: HeadRule = "from_finetuned",
    missing: Missing = "from_last",
) -> dict[str, Tensor] | Model:
    """Mix the backbones of two models: (1 - alpha) start + alpha finetuned (Wortsman et al. 2022, eq. 1), heads left out.

    The start has no head for the task, or another one, so heads are never averaged:

    * ``head="from_finetuned"`` keeps the trained head on the mixed backbone: plain **WiSE-FT** for models with a new head.
    * ``head="drop"`` returns the backbone alone. Training a new head on it, frozen, gives **WiSE-FT-LP**.

    Two models give a model, two state dicts a state dict. Models know their heads, and which parts of the start have no pre-trained value; state
    dicts do not, and it has to be said.

    BatchNorm statistics of the result are averages that fit neither model: see ``wisetune.weights.batchnorm.reestimate``.

    Args:
        start: the pre-trained model, its backbone, or its state dict; a head in it is ignored. From a state dict leave out what has no
            pre-trained value (a backbone's ``anatomy.fresh``): it is then copied from the fine-tuned model instead of mixed with initial noise.
        finetuned: the fine-tuned model, or its state dict; the result has its keys, in its order, on its devices.
        alpha: 0 gives the start's backbone, 1 the fine-tuned one, both bit for bit.
        head_prefixes: of state dicts, where heads live; ``head`` means every key that is ``head`` or begins with ``head.``, and is the
            default (``Model.head_prefix`` names another). ``()`` for models without a head.
        head: what becomes of the fine-tuned head.
        missing: what becomes of backbone keys that only one model has (see ``wisetune.weights.merge``).

    Returns:
        A new state dict that shares no storage with either model; of models a new model in eval mode, without a head for ``head="drop"``.

    Raises:
        UsageError: alpha outside [0, 1], an unknown policy, a prefix that no fine-tuned key begins with, or a model and a state dict.
        WeightsError: backbones that do not fit each other, or with other grafts, or values that are not finite.
    """
    if head not in ("from_finetuned", "drop"):
        raise UsageError(f"head is '{head}'; it can be from_finetuned, drop.")
    if isinstance(start, (Model, Backbone)) and isinstance(finetuned, Model):
        if head_prefixes is not None:
            raise UsageError("head_prefixes were given with models, which know their heads; leave them out.")
        return _mix_models(start, finetuned, alpha, head, missing)
    if not isinstance(start, Mapping) or not isinstance(finetuned, Mapping):
        kinds = f"{type(start).__name__} and {type(finetuned).__name__}"
        raise UsageError(f"{kinds} cannot be mixed; give a start and a fine-tuned wisetune model, or the state dicts of both.")
    return _mix_states(start, finetuned, alpha, ("head",) if head_prefixes is None else head_prefixes, head, missing)


def mixable(backbone: Backbone, *, is_start: bool) -> State:
    """A backbone's state; of a start without the parts that have no pre-trained value, which would mix initial noise in."""
    fresh = set(backbone.anatomy.fresh) if is_start else set()
    return {key: value for key, value in backbone.state_dict().items() if key not in fresh}


def _mix_models(start: Model | Backbone, finetuned: Model, alpha: float, head: HeadRule, missing: Missing) -> Model:
    begun = start.backbone if isinstance(start, Model) else start
    _check_grafts(begun, finetuned.backbone)
    before = mixable(begun, is_start=True)
    after = finetuned.state_dict()
    roots = (finetuned.head_prefix,) if len(after) > len(finetuned.backbone.state_dict()) else ()
    mixed = copy.deepcopy(finetuned)
    mixed.load_state_dict(_mix_states(before, after, alpha, roots, "from_finetuned", missing))
    return (mixed if head == "from_finetuned" else Model(mixed.backbone, nn.Identity())).eval()


def _check_grafts(start: Backbone, finetuned: Backbone) -> None:
    if (start.grafts, unexplained(start)) != (finetuned.grafts, unexplained(finetuned)):
        raise WeightsError(
            f"the start has {told(start)} grafted into it, and the fine-tuned model {told(finetuned)}: what one of them lacks has no value between "
            "them. Mix models with the same grafts, or their state dicts, where missing= says what becomes of it."
        )


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
