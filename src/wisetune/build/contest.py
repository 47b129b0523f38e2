"""Which backbones are probed, what tables call them, and the random ones of the same architecture that they are held against."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from wisetune.errors import UsageError, counted, first_of
from wisetune.nets.backbone import BackboneSpec
from wisetune.nets.files.pretrained import PRETRAINED, Pretrained, Random, is_released, resolve

RANDOM = "random"
"""The row of the random backbones of one architecture together."""


@dataclasses.dataclass(frozen=True)
class Contest:
    """Backbones, by what the table calls them, and the random ones of each architecture that they are held against."""

    backbones: Mapping[str, Pretrained]
    opponents: Mapping[BackboneSpec, Sequence[Pretrained]]

    @property
    def specs(self) -> list[BackboneSpec]:
        """The architectures, in order of appearance."""
        return list(dict.fromkeys(found.spec for found in self.backbones.values()))

    def of(self, spec: BackboneSpec) -> dict[str, Pretrained]:
        """The backbones of one architecture."""
        return {name: found for name, found in self.backbones.items() if found.spec == spec}

    def size(self, spec: BackboneSpec) -> int:
        """How many weights of one architecture are looked at."""
        return len(self.of(spec)) + len(self.opponents[spec])

    def random(self, spec: BackboneSpec) -> str:
        """What the table calls the random backbones of one architecture."""
        return RANDOM if len(self.specs) == 1 else f"{RANDOM}, as {next(iter(self.of(spec)))}"


def contest(sources: Sequence[str], random: int = 3, backbone: Sequence[str] = (), family: Sequence[str] = ()) -> Contest:
    """Resolve weights as ``--from`` of ``wisetune run`` does.

    ``backbone`` is what the released checkpoints among them are for, and ``family`` whose these are: one for all, or one for each in order.

    Raises:
        UsageError: no sources, a name that is not there, a negative number of random backbones, or too few or many backbones or families.
    """
    if not sources:
        raise UsageError(f"there is no backbone to probe. Give {', '.join(PRETRAINED)}, a file, or random:NAME; several are compared.")
    if random < 0:
        raise UsageError(f"--random is {random}; it must be at least 1, or 0 for no comparison.")
    sources = list(dict.fromkeys(sources))
    released = [text for text in sources if is_released(text)]
    backbones, families = (_for_each(option, given, released) for option, given in (("backbone", backbone), ("family", family)))
    found = {
        name: resolve(text, backbones.get(text), family=families.get(text)) for name, text in zip(_names(sources), sources, strict=True)
    }
    specs = dict.fromkeys(one.spec for one in found.values())
    return Contest(found, {spec: [resolve(str(Random(str(spec), seed))) for seed in range(random)] for spec in specs})


def _for_each(option: str, given: Sequence[str], released: Sequence[str]) -> dict[str, str]:
    """What is given of each released checkpoint, which is said once for all or once for each."""
    if len(given) not in (0, 1, len(released)):
        raise UsageError(
            f"--{option} was given {counted(len(given), 'time')} for {counted(len(released), 'released checkpoint')} "
            f"({first_of(released) or 'none'}); give it once for all, or once for each, in their order."
        )
    if given and not released:
        raise UsageError(f"--{option} {given[0]} was given, and none of these is a released checkpoint; the others know. Leave it out.")
    return dict(zip(released, itertools.cycle(given), strict=False))


def _knows(text: str) -> bool:
    return text in PRETRAINED or text.startswith(f"{Random.name}:")


def _names(sources: Sequence[str]) -> list[str]:
    """What the table calls them: files by name, with as many of their folders as tell them apart."""
    for length in range(1, 1 + max(len(Path(text).parts) for text in sources)):
        names = [text if _knows(text) else Path(*Path(text).parts[-length:]).as_posix() for text in sources]
        if len(set(names)) == len(names):
            return names
    raise UsageError(f"a file was given twice: {', '.join(sources)}. Give each once.")
