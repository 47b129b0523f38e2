"""The protocol of a study in words: what was asked for, on which data, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wisetune.report import words
from wisetune.results import DataSet, Study

_PROTOCOL = {
    "story": "Study",
    "start": "Starting weights",
    "architecture": "Their architecture",
    "start_weights": "Their digest",
    "fit": "Training",
    "keep": "Penalty of training backbones",
    "head": "Head",
    "gentle_fit": "Training at the low rate",
    "head_fit": "Training of heads",
    "seeds": "Training seeds",
    "corruption": "Corruptions",
    "selection": "Selected on what",
    "noted": "Noted of trainings",
}

_DATA = {
    "bundled": "Bundled file",
    "points": "Points a scan",
    "normalise": "Normalised to",
    "up": "Upright axis",
    "seed": "Seed of splits",
    "split": "Split",
    "val": "Validation part",
    "test": "Test part",
    "labelled": "Labelled scans of each class, at most",
    "per_class": "Scans of each class, at most",
    "objects": "Objects that are scanned",
    "groups": "Groups that splits do not part",
    "repeated": "Scans with fewer points, some of which are repeated",
    "skipped": "Files left out",
    "few-shot": "Few-shot",
    "folds_of": "One of the folds of",
}
"""What a task's protocol calls things, in words."""
_SAID = ("task", "counts", "warnings")
"""What stands elsewhere on the page."""


def facts_of(study: Study) -> list[tuple[str, Any]]:
    """The protocol of a study, line by line."""
    return _facts(study) + ([("Time", _time(study))] if study.seconds is not None else [])


def _time(study: Study) -> str:
    """How long it took, and what was there before."""
    took = words.duration(study.seconds or 0)
    if study.found:
        took += (
            f". Of {words.counted(study.trainings, 'training')} {study.found} had been done or begun by another command: that is not in it."
        )
    return took


def _facts(study: Study) -> list[tuple[str, Any]]:
    return [(label, getattr(study, field)) for field, label in _PROTOCOL.items() if getattr(study, field) not in (None, "", [], {})]


def sets_of(study: Study) -> list[dict[str, Any]]:
    """Its data sets, the task first."""
    roles = ["Transfer set" if probe.spec.startswith("transfer") else "Robustness probe" for probe in study.probes]
    return [_set("Task", study.task), *map(_set, roles, study.probes)]


def _set(role: str, data: DataSet) -> dict[str, Any]:
    """A data set: facts, items a split, and items a class."""
    facts: dict[str, Any] = {label: value for label, value in (("Measured as", data.spec), ("Digest", data.digest)) if value}
    facts |= {_in_words(key): value for key, value in data.protocol.items() if key not in _SAID and value not in (None, {}, [], ())}
    return {
        "role": role,
        "name": data.name or "data",
        "facts": {key: _split_names(value) for key, value in facts.items()},
        "classes": data.classes,
        "totals": {words.split(split): sum(found.values()) for split, found in data.counts.items()},
        "splits": list(data.counts),
        "rows": [(name, [found.get(name, 0) for found in data.counts.values()]) for name in data.classes if data.counts],
    }


def _in_words(key: str) -> str:
    return _DATA.get(key) or key.replace("_", " ").capitalize()


def _split_names(value: Any) -> Any:
    return {words.split(key): item for key, item in value.items()} if isinstance(value, Mapping) else value
