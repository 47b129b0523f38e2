"""The audit of a merge: what was mixed, copied and left out, and whether the result is where it should be. Lines for the log."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wisetune.weights.merge import State, mixes

Line = dict[str, Any]


def audit(parts: Sequence[State], merged: State, alpha: float | None = None) -> list[Line]:
    """Judge a merge by its inputs and its result, independently of the code that merged.

    Call it on what the merge returned, *before* BatchNorm statistics are re-estimated, which moves them off the line on purpose.

    Args:
        parts: the state dicts that were merged, the start first, the fine-tuned one last; unchanged.
        merged: the result.
        alpha: the coefficient of a mix of two states; None for other merges, whose place is then not checked.

    Returns:
        JSON-able lines, each with ``audit`` (what was looked at) and ``ok`` (False: the merge cannot be trusted):

        * ``keys``: how many keys all parts share, keys only some parts have, integer tensors copied, keys of the last part that are
          left out, keys that come from nowhere.
        * ``dtypes``: how many tensors of which dtype, for each part and the result.
        * ``tied``: one line for each set of keys that share one storage in a part; they must be equal after the merge.
        * ``distance``: for each part after the first, overall (``block`` is ``all``) and block by block: ||part - start|| (L2, float64)
          and its ratio to ||start||. With an alpha also ``position``, where the result lies on the line from start (0) to
          fine-tuned (1), and ``deviation``, the distance from the place on the line where it should lie.
        * ``ends``: whether all mixed tensors equal the start or the fine-tuned model bit for bit; at alpha 0 and 1 one must.
        * ``finite``: keys that hold values that are not finite, for each part and the result.
    """
    start, last = parts[0], parts[-1]
    shared = [key for key in last if key in merged and all(key in part for part in parts)]
    mixed = [key for key in shared if mixes(last[key])]
    return [
        _keys(parts, merged, shared),
        {"audit": "dtypes", "ok": True, "parts": [_dtypes(part) for part in parts], "merged": _dtypes(merged)},
        *_tied(parts, merged),
        *_distances(parts, merged, mixed, alpha),
        _ends(start, last, merged, mixed, alpha),
        _finite(parts, merged),
    ]


def block_of(key: str) -> str:
    """The block a key belongs to: up to its first number (``blocks.3.attn.qkv.weight``: ``blocks.3``), else without its last word."""
    words = key.split(".")
    for at, word in enumerate(words):
        if word.isdigit():
            return ".".join(words[: at + 1])
    return ".".join(words[:-1]) or key


def _keys(parts: Sequence[State], merged: State, shared: list[str]) -> Line:
    last = parts[-1]
    everywhere = set(last).intersection(*parts)
    integers = [key for key in shared if not mixes(last[key])]
    from_nowhere = [key for key in merged if key not in last]
    return {
        "audit": "keys",
        "ok": not from_nowhere and all(_same(last[key], merged[key]) for key in integers),
        "shared": len(everywhere),
        "not_in_all": [[key for key in part if key not in everywhere] for part in parts],
        "copied_integers": integers,
        "left_out": [key for key in last if key not in merged],
        "from_nowhere": from_nowhere,
    }


def _dtypes(state: State) -> dict[str, int]:
    return dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values()))


def _tied(parts: Sequence[State], merged: State) -> list[Line]:
    lines: list[Line] = []
    for number, part in enumerate(parts):
        places: dict[tuple[Any, ...], list[str]] = defaultdict(list)
        for key, tensor in part.items():
            if tensor.numel():
                place = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
                places[place].append(key)
        for keys in places.values():
            if len(keys) > 1:
                after = [merged[key] for key in keys if key in merged]
                lines.append({"audit": "tied", "ok": all(_same(after[0], other) for other in after[1:]), "part": number, "keys": keys})
    return lines


def _distances(parts: Sequence[State], merged: State, mixed: list[str], alpha: float | None) -> list[Line]:
    blocks: dict[str, list[str]] = {"all": mixed}
    for key in mixed:
        blocks.setdefault(block_of(key), []).append(key)
    place = alpha if len(parts) == 2 else None
    lines: list[Line] = []
    for number in range(1, len(parts)):
        # Squares key by key, so that never more than one tensor is held in float64.
        squares = {key: _squares(parts[0][key], parts[number][key], merged[key], place) for key in mixed}
        for block, keys in blocks.items():
            size2, distance2, along, deviation2 = (math.fsum(squares[key][at] for key in keys) for at in range(4))
            size, distance, deviation = math.sqrt(size2), math.sqrt(distance2), math.sqrt(deviation2)
            line: Line = {"audit": "distance", "ok": True, "part": number, "block": block}
            line |= {"distance": _number(distance), "relative": _number(distance / size) if size else None}
            if place is not None:
                # The cast to the result's dtype moves each value by at most half an eps; the factor leaves room for these sums.
                room = 4 * max((torch.finfo(merged[key].dtype).eps for key in keys), default=0.0) * (size + distance)
                line |= {"position": _number(along / distance2) if distance2 else None, "deviation": _number(deviation)}
                line["ok"] = deviation <= room
            lines.append(line)
    return lines


def _squares(start: Tensor, part: Tensor, merged: Tensor, alpha: float | None) -> tuple[float, float, float, float]:
    """||start||^2, ||part - start||^2, (merged - start).(part - start), ||merged - (the place on the line)||^2."""
    a, b, m = (_wide(tensor) for tensor in (start, part, merged))
    step, moved = b - a, m - a
    off = 0.0 if alpha is None else _square(moved - alpha * step)
    return _square(a), _square(step), float((moved * step.conj()).sum().real), off


def _ends(start: State, last: State, merged: State, mixed: list[str], alpha: float | None) -> Line:
    at_start = all(_same(start[key], merged[key]) for key in mixed)
    at_last = all(_same(last[key], merged[key]) for key in mixed)
    ok = at_start if alpha == 0 else at_last if alpha == 1 else True
    return {"audit": "ends", "ok": ok, "alpha": alpha, "equal_to_start": at_start, "equal_to_finetuned": at_last}


def _finite(parts: Sequence[State], merged: State) -> Line:
    bad = [[key for key, tensor in state.items() if mixes(tensor) and not bool(torch.isfinite(tensor).all())] for state in (*parts, merged)]
    return {"audit": "finite", "ok": not any(bad), "parts": bad[:-1], "merged": bad[-1]}


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal values and signs of zero, whatever the dtype and device."""
    if a.shape != b.shape:
        return False
    a, b = a.detach().cpu(), b.detach().cpu()
    return torch.equal(a, b) and (not a.is_floating_point() or torch.equal(torch.signbit(a), torch.signbit(b)))


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().to(torch.promote_types(tensor.dtype, torch.float64))


def _square(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor)) ** 2


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None
