"""What was put into a backbone after it was built: a weights file has to say it, and models that are mixed have to agree on it."""

from __future__ import annotations

from wisetune.nets.backbone import Backbone, build_empty


def additions(backbone: Backbone) -> tuple[str, ...]:
    """Names of the modules, parameters and buffers of a backbone that its spec does not build, whoever put them there."""
    plain = set(_names(build_empty(backbone.spec)))
    return tuple(name for name in _names(backbone) if name not in plain)


def told(backbone: Backbone) -> str:
    """What was put into a backbone, in words for a message: the tunings that grafted, else the first of the names."""
    added = additions(backbone)
    return ", ".join(backbone.grafts) or (f"'{added[0]}'" if added else "nothing")


def _names(backbone: Backbone) -> list[str]:
    modules = [name for name, _ in backbone.named_modules()]
    return [*modules, *(name for name, _ in backbone.named_parameters()), *(name for name, _ in backbone.named_buffers())]
