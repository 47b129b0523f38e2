"""The catalog of tunings: one module of this package is one tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wisetune.catalog import Catalog
from wisetune.errors import UsageError, did_you_mean
from wisetune.spec import NOTHING
from wisetune.spelling import apart
from wisetune.tune.tuning import Tuning

PRESET = "preset"


class Tunings(Catalog[Tuning]):
    """Of a tuning with published settings, one of these may be named in place of its options: ``dapt:preset=modelnet40,rank=8``."""

    def parse(self, text: str, otherwise: Mapping[str, Any] = NOTHING) -> Tuning:
        """As any spec's; what a preset says comes before ``otherwise``. No file names one: it has every option (``parse_imported``).

        Raises:
            UsageError: unknown name, option or preset, wrong kind of value.
        """
        name, options = self.divide(text)
        kind = self.entry(name)
        presets = kind.presets()
        words, rest = apart(options, (PRESET,)) if presets else ({}, options)
        if PRESET not in words:
            return super().parse(text, otherwise)
        preset = words[PRESET]
        if preset not in presets:
            raise UsageError(f"'{name}' has no preset '{preset}'.{did_you_mean(preset, presets)} There are: {', '.join(presets)}.")
        return kind.from_options(rest, otherwise={**otherwise, **presets[preset].options})


TUNINGS = Tunings("tuning", "wisetune.tune", Tuning, machinery=("create", "folding", "graft", "saved", "tuned", "tuning", "tunings"))
