"""What was put into a backbone after it was built: a weights file has to say it, and models that are mixed have to agree on it."""

from __future__ import annotations

from torch import Tensor, nn

from wisetune.nets.backbone import Backbone, Grafted, build_empty

SHARE = ".share"
"""What the name of a buffer ends in by which a graft counts: at 0 as if it was not there. What has none has no value where it is not."""


def parts(module: nn.Module) -> dict[str, nn.Module | Tensor]:
    """The modules, parameters and buffers of a backbone or a head, by name; what has two names under both."""
    return {
        **dict(module.named_modules(remove_duplicate=False)),
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def unexplained(backbone: Backbone) -> tuple[str, ...]:
    """Names of the parts of a backbone that neither its spec builds nor a tuning noted to have grafted."""
    known = {*parts(build_empty(backbone.spec)), *(name for graft in backbone.grafts for name in graft.names)}
    return tuple(name for name in parts(backbone) if name not in known)


def has_shares(grafts: tuple[Grafted, ...]) -> bool:
    """Whether each of these counts by a share, so that a backbone without them is one in which they count for nothing."""
    return all(not graft.names or any(name.endswith(SHARE) for name in graft.names) for graft in grafts)


def told(backbone: Backbone) -> str:
    """What was put into a backbone, in words for a message: the tunings that grafted, and the first of the names that they do not explain."""
    others = [f"'{name}'" for name in unexplained(backbone)[:1]]
    return ", ".join([*(graft.tuning for graft in backbone.grafts), *others]) or "nothing"
