"""What every merge of state dicts shares: which keys, which dtypes, what is refused.

A merge is a pure function of state dicts. The *last* state is the fine-tuned one: the result has exactly its keys in its order, and
lies on its devices.

* Floating-point tensors under a key that all states have are mixed. Sums are taken in float64 (float32 on devices without it), and the
  cast to the widest dtype among the inputs comes last.
* Integer and bool tensors (``num_batches_tracked``, masks, index tables) are copied from the last state, never averaged.
* A tuning's graft counts by its share (``x.share``), which is 0 in a state that lacks it: only the last state, or all, may have a graft.
* Other keys that only some states have follow ``missing``: ``from_last`` copies what the last state has and leaves out what it lacks (a
  decoder, a mask token); ``error`` refuses.
* A result never shares storage with an input, and never requires a gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from wisetune.errors import UsageError, WeightsError, counted
from wisetune.nets.grafts import SHARE
from wisetune.spec import Spec

State = Mapping[str, Tensor]
Missing = Literal["from_last", "error"]
Rule = Callable[[str, list[Tensor]], Tensor]
"""From a key and its tensors (one a state, wide dtype, never to be written into) to the mixed tensor."""


@dataclasses.dataclass(frozen=True)
class Merge(Spec):
    """A way to mix state dicts; the fields of a subclass are its options."""

    def merge(self, states: Sequence[State]) -> dict[str, Tensor]:
        """Mix state dicts, the fine-tuned one last, into a new one (see the module for keys and dtypes).

        Raises:
            UsageError: the wrong number of states.
            WeightsError: states that do not fit each other, or hold values that are not finite.
        """
        raise NotImplementedError(f"{type(self).__name__} must define merge")


def mixes(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that can be averaged."""
    return tensor.is_floating_point() or tensor.is_complex()


def combine(states: Sequence[State], rule: Rule, *, missing: Missing = "from_last") -> dict[str, Tensor]:
    """Apply ``rule`` key by key under the policy that the module's docstring states.

    Raises:
        UsageError: no states, or an unknown policy.
        WeightsError: no shared key; shapes or kinds that differ; values that are no tensors or not finite; a graft that only some states
            have, beside or without the last; a key that not all states have, where ``missing`` is ``error``.
    """
    if not states:
        raise UsageError("a merge needs at least one state dict; it was given none.")
    if missing not in ("from_last", "error"):
        raise UsageError(f"missing is '{missing}'; it can be from_last, error.")
    for number, state in enumerate(states):
        _check_values(number, state)
    states = with_shares(states)
    shared = set(states[0]).intersection(*states[1:])
    _check_coverage(states, shared, missing)
    merged: dict[str, Tensor] = {}
    for key, tensor in states[-1].items():
        parts = [state[key] for state in states] if key in shared else [tensor]
        _check_fit(key, parts)
        merged[key] = _mix(key, parts, rule) if key in shared and mixes(tensor) else fresh_copy(key, tensor)
    return merged


def with_shares(states: Sequence[State]) -> list[State]:
    """The states, each with a share of 0 of the grafts that the last alone has: its other tensors have no value there, and count for nothing.

    Raises:
        WeightsError: a graft that the last state lacks, or that some of the others have: what one of them has of it would be lost.
    """
    for key in {key: None for state in states for key in state if key.endswith(SHARE)}:
        owners = [number for number, state in enumerate(states, 1) if key in state]
        if len(owners) < len(states) and owners != [len(states)]:
            place = key.removesuffix(SHARE)
            raise WeightsError(
                f"what a tuning grafted at '{place}' is in {counted(len(owners), 'state')} of {len(states)}, of which number {owners[0]} is not the "
                "last, and the result takes its grafts from the last. Put the one state that has it last; where several have grafts, put them into "
                "weights first: wisetune.fold(model).state_dict()."
            )
    *others, last = states
    shares = {key: torch.zeros_like(value) for key, value in last.items() if key.endswith(SHARE)}
    return [{**state, **{key: value for key, value in shares.items() if key not in state}} for state in others] + [last]


def fresh_copy(key: str, tensor: Tensor) -> Tensor:
    """A contiguous copy with storage of its own.

    Raises:
        WeightsError: a value is not finite; the message names the key.
    """
    _check_finite(key, tensor, "the last state")
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _mix(key: str, parts: list[Tensor], rule: Rule) -> Tensor:
    for number, part in enumerate(parts):
        _check_finite(key, part, f"state {number + 1} of {len(parts)}")
    target = parts[-1].device
    dtype = parts[0].dtype
    for part in parts[1:]:
        dtype = torch.promote_types(dtype, part.dtype)
    wide = torch.promote_types(dtype, torch.float32 if target.type == "mps" else torch.float64)
    mixed = rule(key, [part.detach().to(target, wide) for part in parts])
    # copy=True: a rule may hand back one of its inputs, which may be the caller's own tensor.
    result = mixed.to(dtype, copy=True, memory_format=torch.contiguous_format)
    _check_finite(key, result, "the merged state (the mix left the range of its dtype)")
    return result


def _check_values(number: int, state: State) -> None:
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"state {number + 1} holds a {type(value).__name__} under '{key}', not a tensor. "
                "Pass the state dict itself, not the checkpoint around it."
            )


def _check_coverage(states: Sequence[State], shared: set[str], missing: Missing) -> None:
    if not shared:
        first, last = next(iter(states[0]), "nothing"), next(iter(states[-1]), "nothing")
        raise WeightsError(
            f"the states to merge share no key: the first begins with '{first}', the last with '{last}'. Bring their prefixes into line."
        )
    if missing == "error":
        for number, state in enumerate(states):
            alone = [key for key in state if key not in shared]
            if alone:
                raise WeightsError(
                    f"state {number + 1} of {len(states)} has {counted(len(alone), 'key')} that another state lacks, first '{alone[0]}'. "
                    "Use missing=from_last to take such keys from the last state."
                )


def _check_fit(key: str, parts: list[Tensor]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.shape != first.shape:
            raise WeightsError(
                f"'{key}' is {list(first.shape)} in the first state and {list(part.shape)} in another. "
                "Only weights of one architecture can be merged; a head of another task must be left out."
            )
        if mixes(part) != mixes(first):
            raise WeightsError(f"'{key}' is {first.dtype} in the first state and {part.dtype} in another; one of them was converted.")


def _check_finite(key: str, tensor: Tensor, where: str) -> None:
    if mixes(tensor) and not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"'{key}' holds values that are not finite in {where}. Training diverged, or the file is damaged.")
