"""A ledger of live tensors: how many bytes of storage are held at once while functions run. On ``meta`` tensors it needs neither memory nor a GPU.

Counted is what an allocator is asked for: every storage once, from the operation that makes it until nothing refers to it, be it a variable
or a graph. Not counted: an operation's own workspace, rounding and fragments of an allocator, and the CUDA context.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Attention = Literal["fused", "math"]
"""How ``scaled_dot_product_attention`` is computed: by a kernel that keeps its output and one number a row for the backward pass, as CPUs and
GPUs do here; or as written out in the released codes, which keeps the softmax of all pairs of tokens too."""


class Ledger(TorchDispatchMode):
    """``with Ledger() as ledger:`` counts; ``live`` and ``peak`` are bytes, of what was made inside and of what was ``hold``-ed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def hold(self, tensors: Iterable[torch.Tensor]) -> int:
        """Count tensors that were made before, and return the bytes that they add: storages that are counted already add none."""
        before = self.live
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self.live += storage.nbytes()
                weakref.finalize(storage, self._drop, key)
        self.peak = max(self.peak, self.live)
        return self.live - before

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        self.hold(value for value in tree_leaves(made) if isinstance(value, torch.Tensor))
        return made


@contextlib.contextmanager
def as_on_a_gpu(attention: Attention) -> Iterator[None]:
    """Dropout, and attention where it is fused, on ``meta`` tensors by CUDA's kernels, where torch would write them out; on others as ever.

    A mode of torch would not do: it is left during a backward pass, in which recomputed blocks attend again.
    """
    with _ONE:
        vars(F).update({"dropout": _dropout} | ({"scaled_dot_product_attention": _attention} if attention == "fused" else {}))
        try:
            yield
        finally:
            vars(F).update({"dropout": _torch_dropout, "scaled_dot_product_attention": _torch_attention})


_torch_attention, _torch_dropout = F.scaled_dot_product_attention, F.dropout
_ONE = threading.Lock()


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:  # noqa: A002 - torch's name
    if not input.is_meta or not training or inplace:
        return _torch_dropout(input, p, training, inplace)
    return torch.native_dropout(input, p, True)[0]


def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    if not q.is_meta or enable_gqa:
        return _torch_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:  # the kernel adds to scores, and keeps what it added
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill_(~attn_mask, -torch.inf)
        attn_mask = attn_mask.expand(*q.shape[:-1], k.shape[-2])
    graph = torch.is_grad_enabled() and any(value.requires_grad for value in (q, k, v))
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    return kernel(q, k, v, attn_mask, graph, dropout_p, is_causal, scale=scale)[0]
