"""Official trainings by name: what ``--fit official`` and ``--fit preset=NAME`` mean, and what ``wisetune show NAME`` says of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from wisetune.errors import UsageError, did_you_mean
from wisetune.fit.fit import Fit
from wisetune.fit.words import in_words
from wisetune.nets.backbone import BackboneSpec, Preset
from wisetune.nets.create import BACKBONES, named, parse_any_head, preset_called
from wisetune.nets.official_fits import Reading
from wisetune.nets.parts import PartsHead
from wisetune.spelling import apart

OFFICIAL = "official"
_WORDS = ("", "preset", "reading")
"""Words of a fit that its spec does not know; the first item may be one without a name."""


def fit_of(given: str, usual: str, backbone: BackboneSpec, called: str, *, frozen: bool = False) -> Fit:
    """The fit that ``--fit`` means: what is given, and the rest of an official preset if one is named, else as ``usual``.

    ``called`` is what the user calls the architecture. With ``frozen`` a head's is meant. Where the preset's cosine ends before its training, a
    number of epochs that is given moves that end too.

    Raises:
        UsageError: a word that means nothing, or a preset that is not there.
    """
    words, rest = apart(given, _WORDS)
    called_so = words.pop("", None)
    if called_so not in (None, OFFICIAL) and "preset" in words:
        raise UsageError(f"'{given}' names two settings, '{called_so}' and preset={words['preset']}; give one.")
    if called_so is not None:
        words.setdefault("preset", called_so)
    if "preset" not in words:
        if "reading" in words:
            raise UsageError(
                f"reading={words['reading']} is of an official preset, and none was named: {OFFICIAL},reading={words['reading']}."
            )
        base = Fit.from_options(usual)
    else:
        reading = words.get("reading", "as_intended")
        if reading not in get_args(Reading):
            raise UsageError(f"reading is '{reading}'; it can be {', '.join(get_args(Reading))}.")
        preset = _preset(words["preset"], backbone, called, frozen=frozen)
        assert preset.fit is not None
        base = Fit.from_options(preset.fit.text("as_published" if reading == "as_published" else "as_intended"))
    fit = Fit.from_options(rest, otherwise={field.name: getattr(base, field.name) for field in dataclasses.fields(base)})
    if base.cosine_epochs is None or apart(rest, ("cosine_epochs",))[0]:
        return fit
    # The published course is as much longer than its cosine whatever its length: else a short one would never lower its rate.
    return dataclasses.replace(fit, cosine_epochs=max(1, fit.epochs - (base.epochs - base.cosine_epochs)))


def _preset(name: str, backbone: BackboneSpec, called: str, *, frozen: bool) -> Preset:
    words = called.removeprefix("random:").partition(",")[0]
    if name == OFFICIAL and of_parts(words):
        raise UsageError(
            f"{words} is a setting of part segmentation, which is not trained here. A classifier on that backbone can be: give preset=NAME, or "
            "options such as epochs=30,lr=0.001."
        )
    there = {key: preset for key, preset in BACKBONES.entry(backbone.name).presets().items() if preset.fit and preset.fit.frozen == frozen}
    what = "official training of heads" if frozen else "official training"
    if not there:
        raise UsageError(f"{backbone.name} has no {what}. Give options such as epochs=30,lr=0.001.")
    if name != OFFICIAL:
        if name not in there:
            raise UsageError(
                f"{backbone.name} has no {what} '{name}'.{did_you_mean(name, [OFFICIAL, *there])} There are: {', '.join(there)}."
            )
        return there[name]
    like = {key: preset for key, preset in there.items() if _same(preset.backbone, backbone)}
    mine = {key: preset for key, preset in like.items() if f"{backbone.name}-{key}" == words} or like
    if len(mine) == 1:
        return next(iter(mine.values()))
    why = (
        f"are those of several official settings ({', '.join(mine)})" if mine else f"are those of no official setting ({', '.join(there)})"
    )
    raise UsageError(f"{OFFICIAL} names no training here: the sizes of these weights {why}. Name one: preset={next(iter(mine or there))}.")


def _same(one: BackboneSpec, other: BackboneSpec) -> bool:
    """Whether they are the same but for what no training depends on: the reading and the initial values."""

    def bare(spec: BackboneSpec) -> Mapping[str, Any]:
        return {key: value for key, value in spec.canonical().items() if key not in ("reading", "initial", "drop_path")}

    return bare(one) == bare(other)


def of_parts(name: str) -> bool:
    """Whether a name is that of a setting of part segmentation (``point-mae-shapenetpart``)."""
    preset = preset_called(name)
    return preset is not None and isinstance(parse_any_head(preset.head), PartsHead)


def training(preset: Preset) -> dict[str, Any] | None:
    """How the official code tunes a setting, as plain data; None where no official training is known here."""
    if preset.fit is None:
        return None
    return {
        "frozen": preset.fit.frozen,
        "as_intended": preset.fit.text("as_intended"),
        "as_published": preset.fit.text("as_published"),
        "faults": list(preset.fit.faults),
        "voting": preset.fit.votes,
    }


def told(name: str) -> Iterator[str]:
    """A preset's official training in words, line by line, by its one word (``point-mae-scanobjectnn``)."""
    preset = named()[name]
    if preset.fit is None:
        yield "training   " + ("not here: wisetune trains no part segmentation" if of_parts(name) else "no official one")
        return
    option = "--head-fit" if preset.fit.frozen else "--fit"
    fit = Fit.from_options(preset.fit.text())
    yield from (f"{'' if number else 'training':10} {line}" for number, line in enumerate(in_words(fit)))
    yield f"           {option} {OFFICIAL}, or with every option: {preset.fit.text()}"
    differs = ",".join(f"{key}={value}" for key, value in preset.fit.published.items() if preset.fit.options.get(key) != value)
    yield f"published  {differs}"
    yield f"           {option} {OFFICIAL},reading=as_published"
    yield from (f"           - {fault}" for fault in preset.fit.faults)
    yield f"voting     --measure {preset.fit.votes}" if preset.fit.votes else "voting     none that works with this number of points"
    yield f"run        {command(name)}"


def command(name: str, file: str = "FILE") -> str:
    """The command that begins with a file in a setting, trained as its official code does where that is known."""
    preset = named()[name]
    begin = f"--from {file} --backbone {name} --on"
    # The bundled probe has too few points for most settings.
    if preset.fit is None:
        return f"wisetune run wise-ft-lp {begin} TASK --probe OTHER --out OUT"
    # Sphere is what tasks are read with by themselves.
    task = "TASK" if preset.fit.normalise == "sphere" else f"TASK,normalise={preset.fit.normalise}"
    story, option = ("lp", "--head-fit") if preset.fit.frozen else ("ft", "--fit")
    return f"wisetune run {story} {begin} {task} --probe OTHER --head {preset.head} {option} {OFFICIAL} --out OUT"
