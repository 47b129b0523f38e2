"""WiSE-FT on whole models: the backbone is mixed, the head is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from wisetune.errors import UsageError
from wisetune.weights.merge import Missing, State, fresh_copy
from wisetune.weights.wise import Wise


def mix(
    start: State,
    finetuned: State,
    alpha: float,
    *,
    head_prefixes: Sequence[str] = ("head",),
    head: Literal["from_finetuned", "drop"] = "from_finetuned",
    missing: Missing = "from_last",
) -> dict[str, Tensor]:
    """Mix the backbones of two models: (1 - alpha) start + alpha finetuned (Wortsman et al. 2022, eq. 1), heads left out.

    The start has no head for the task, or another one, so heads are never averaged:

    * ``head="from_finetuned"`` keeps the trained head on the mixed backbone: plain **WiSE-FT** for models with a new head.
    * ``head="drop"`` returns the backbone alone. Training a new head on it, frozen, gives **WiSE-FT-LP**.

    BatchNorm statistics of the result are averages that fit neither model: see ``wisetune.weights.batchnorm.reestimate``.

    Args:
        start: state dict of the pre-trained model; tensors of a head in it are ignored. Leave out what has no pre-trained value (a
            backbone's ``anatomy.fresh``): it is then copied from the fine-tuned model instead of mixed with initial noise.
        finetuned: state dict of the fine-tuned model; the result has its keys, in its order, on its devices.
        alpha: 0 gives the start's backbone, 1 the fine-tuned one, both bit for bit.
        head_prefixes: where heads live; ``head`` means every key that is ``head`` or begins with ``head.`` (``Model.head_prefix`` for
            a model of ours). ``()`` for models without a head.
        head: what becomes of the fine-tuned head.
        missing: what becomes of backbone keys that only one model has (see ``wisetune.weights.merge``).

    Returns:
        A new state dict that shares no storage with either model.

    Raises:
        UsageError: alpha outside [0, 1], an unknown policy, or a prefix that no fine-tuned key begins with.
        WeightsError: backbones that do not fit each other, or values that are not finite.
    """
    if head not in ("from_finetuned", "drop"):
        raise UsageError(f"head is '{head}'; it can be from_finetuned, drop.")
    roots = tuple(prefix.rstrip(".") for prefix in head_prefixes)
    for root in roots:
        if not root or not any(_below(key, root) for key in finetuned):
            raise UsageError(
                f"no key of the fine-tuned state begins with the head prefix '{root}'; its last keys: {', '.join(list(finetuned)[-2:])}. "
                "Name the head in head_prefixes, or pass () if the model has none."
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
