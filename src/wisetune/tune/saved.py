"""Models into which a tuning grafted, and files: what was grafted has to be there before its values fit.

A file of wisetune says what it holds. One of a released code does not: it is loaded into a model with the same grafts, by a map of names that each
tuning knows (``Tuning.released``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from wisetune.errors import UsageError
from wisetune.nets.backbone import Backbone
from wisetune.nets.files import delta, official, save
from wisetune.nets.files.load_report import LoadReport
from wisetune.nets.files.match import Tuned
from wisetune.nets.headed import Headed
from wisetune.nets.model import Model
from wisetune.nets.segmenter import Segmenter
from wisetune.spelling import dashed, spell
from wisetune.tune.tuning import Tuning
from wisetune.tune.tunings import TUNINGS


def load_model(path: str | Path) -> Model | Segmenter:
    """The model in a file that ``save_model`` wrote, in eval mode, in float32 if it was stored in half precision.

    A file never imports a tuning from outside wisetune: import its module before, if you trust the file.

    Raises:
        BadFile: the file is damaged or not safetensors.
        WeightsError: it is not wisetune's, holds no head, is not what it says, or was made by a tuning that is not there.
    """
    return save.load_model(path, _graft)


def load_official(
    model: Headed | Backbone, source: str | Path | Mapping[str, Tensor], *, min_coverage: float = 1.0, family: str | None = None
) -> LoadReport:
    """Load a released checkpoint in place, converted to the model's dtype and device.

    Leading ``module.`` is stripped, the names of torch-pointcloud are turned into the released ones, then the backbone and the tunings that
    grafted into it rename each key. A head loads as a whole or, when its classes or layers differ, not at all.

    A model with grafts takes the file of one that was tuned so, with all of them, or one of a backbone that was not tuned: its grafts stay fresh.

    Args:
        model: a model, or a backbone alone (heads in the file are then left out). For a released file of DAPT, IDPT or VPT one with its grafts:
            ``create(..., tuning="dapt:preset=scan-hardest", reading="as_published")``.
        source: a file (see ``read_state``) or a state dict.
        min_coverage: the least share of the backbone's values that the file must have. All, by default: a layer that is missing may have few
            values and makes another function. Lower, what is missing stays fresh and the report's notes name it.
        family: whose file it is, where the model is to begin with another family's encoder: ``recon`` with a ``point-mae``. What of it has no
            counterpart is left out, and the report's notes say what such weights are not. Without it such a file is refused.

    Raises:
        BadFile: the file cannot be read as weights.
        WeightsError: it is not this model's: too little fits, shapes differ, it is of another tuning, two keys want one place, or values are not
            finite. The model is then as it was.
        UsageError: no model, neither a file nor a state dict, or a family whose encoder is another architecture.
    """
    backbone = model.backbone if isinstance(model, Headed) else model
    tuned = _Known(backbone) if isinstance(backbone, Backbone) else None
    return official.load_official(model, source, min_coverage=min_coverage, family=family, tuned=tuned)


def official_state(model: Headed) -> dict[str, Tensor]:
    """The state dict of a model under the names of the released code: ``load_state_dict`` there takes it, and ``load_official`` here.

    Raises:
        UsageError: no model, one with grafts whose names in released files are not known, or one that does something else than that code.
    """
    if not isinstance(model, Headed):
        raise UsageError(f"official_state was given {type(model).__name__}; it takes a model.")
    known = _Known(model.backbone)
    strange = [graft.tuning for graft in model.backbone.grafts if graft.names and not any(name in known.places for name in graft.names)]
    if strange or known.notes:
        why = known.notes[0] if known.notes else f"wisetune has no map of names for what '{strange[0]}' grafts"
        raise UsageError(f"this model has no official state dict: {why}.")
    grafted = {name for graft in model.backbone.grafts for name in graft.names}
    return {
        theirs: value for own, value in model.state_dict().items() for theirs in known.places.get(own, () if own in grafted else (own,))
    }


def load_delta(path: str | Path, start: Backbone | Headed) -> Model | Segmenter:
    """The model of a file that ``save_delta`` wrote and of the backbone that it began with, in eval mode: bit for bit the one that was saved.

    A file never imports a tuning from outside wisetune: import its module before, if you trust the file.

    Raises:
        BadFile: the file is damaged or not safetensors.
        WeightsError: it is no delta, is not what it says, is of another start, or was made by a tuning that is not there.
        UsageError: no path or no start, or one into which something was grafted.
    """
    return delta.load_delta(path, start, _graft)


class _Known(Tuned):
    """What the tunings know of released files, for one backbone."""

    def __init__(self, backbone: Backbone) -> None:
        state = backbone.state_dict()
        grafted = list(_grafted(backbone))
        self.tunings = [tuning for tuning, _ in grafted]
        found = ((name, tuning.released(name)) for tuning, names in grafted for name in names if name in state)
        self.places = {name: theirs for name, theirs in found if theirs}
        self.notes = tuple(tuning.unlike_released for tuning in self.tunings if tuning.unlike_released)

    def refusal(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """As ``Tuned.refusal``: the file's tuning and options, as far as its shapes tell, against what this model has."""
        for kind, sizes in tuned_in(shapes).items():
            mine = next((tuning for tuning in self.tunings if type(tuning) is kind), None)
            if mine is not None and all(getattr(mine, option) == value for option, value in sizes.items()):
                continue
            have, spelled = " and ".join(map(str, self.tunings)) or "no tuning", spelling(kind, sizes)
            looks = " with ".join(filter(None, [kind.name, spelled.partition(":")[2].replace(",", ", ")]))
            return (
                f"it looks like {looks}, and this model has {have}. Make one that has it: wisetune.create(..., tuning='{spelled}', "
                "reading='as_published')."
            )
        return ""


def tuned_in(shapes: Mapping[str, tuple[int, ...]]) -> dict[type[Tuning], dict[str, object]]:
    """The tunings that put something into the model of a released state dict, and those of their options that shapes tell."""
    kinds = map(TUNINGS.entry, TUNINGS.names())
    return {kind: sizes for kind in kinds if (sizes := kind.sizes(shapes)) is not None}


def spelling(kind: type[Tuning], sizes: Mapping[str, object]) -> str:
    """A tuning with these options, as it is typed."""
    return ":".join(filter(None, [kind.name, ",".join(f"{dashed(option)}={spell(value)}" for option, value in sizes.items())]))


def _grafted(backbone: Backbone) -> Iterator[tuple[Tuning, tuple[str, ...]]]:
    """The tunings that grafted into a backbone and can be found by what they noted, and the names of what they added."""
    for graft in backbone.grafts:
        try:
            yield TUNINGS.parse_imported(graft.tuning), graft.names
        except UsageError:  # noqa: PERF203 - one from outside that is spelled as it cannot be read; no released code has it
            continue


def _graft(model: Headed, tuning: str) -> None:
    TUNINGS.parse_imported(tuning).graft_into(model)
