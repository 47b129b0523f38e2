"""``wisetune show FILE`` of weights that wisetune did not write: a released checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wisetune.errors import an, counted
from wisetune.spelling import dashed, spell

if TYPE_CHECKING:
    from wisetune.nets.backbone import Preset
    from wisetune.nets.files.look import Look


def released(path: Path) -> dict[str, Any]:
    """What a released file is, as plain data; ``next`` are the lines to type.

    Raises:
        BadFile, WeightsError: as of ``look``.
    """
    from wisetune.nets.files.look import look, told_apart
    from wisetune.tune.saved import spelling, tuned_in

    found = look(path)
    tuned = [spelling(kind, sizes) for kind, sizes in tuned_in(found.shapes).items()]
    return {
        "file": str(path),
        "tuned": tuned,
        "holds": found.holds,
        "families": [
            {"family": name, "sizes": {option: spell(value) for option, value in sizes.items()}}
            for name, sizes in found.looks.families.items()
        ],
        "layout": found.layout,
        "prefix": found.prefix,
        "names": found.names,
        "tensors": found.tensors,
        "values": found.values,
        "types": dict(found.types),
        "head": found.head,
        "outputs": found.outputs,
        "head_of": list(found.with_head),
        "beside": dict(found.beside),
        "presets": {name: str(preset.backbone) for name, preset in found.presets.items()},
        "differ": [{"presets": names, "options": options} for names, options in told_apart(found.presets)],
        "sized": found.sized,
        "next": _load(path, found, tuned[0]) if tuned else _next(path, found),
    }


def in_words(told: dict[str, Any]) -> Iterator[str]:
    """The same for a terminal."""
    from wisetune.nets.files.look import ENCODER, PARTS, PRE_TRAINING

    families = [one["family"] for one in told["families"]]
    what = told["holds"] if told["holds"] == ENCODER else f"{an(told['holds'])} file"
    yield f"{told['file']}: {what} of {' or '.join(families)}"
    if len(families) > 1:
        yield "family     these names and sizes are those of each; the preset that you name says as which they are read"
    sizes: dict[str, list[str]] = {}
    for one in told["families"]:
        sizes.setdefault(", ".join(f"{dashed(option)}={value}" for option, value in one["sizes"].items()), []).append(one["family"])
    for size, of in sizes.items():
        yield f"sizes      {size}" + (f" ({' or '.join(of)})" if len(sizes) > 1 else "")
    under = f"layout {told['layout']}, prefix '{told['prefix']}'" + (f", names of {told['names']}" if told["names"] else "")
    types = " and ".join(told["types"])
    yield f"holds      {counted(told['tensors'], 'tensor')}, {counted(told['values'], 'value')} of {types} ({under})"
    if told["tuned"]:
        yield f"tuned      {' and '.join(told['tuned'])}; what shapes do not tell is in wisetune options {told['tuned'][0].partition(':')[0]}"
    if told["head"]:
        noun = "part" if told["holds"] == PARTS else "class"
        yield f"head       {told['head']}, {counted(told['outputs'], noun)}"
    elif told["holds"] not in (PRE_TRAINING, ENCODER) and not told["tuned"]:
        yield "head       none that is known here"
    if told["beside"]:
        yield "beside     " + ", ".join(name if value is None else f"{name}={_short(value)}" for name, value in told["beside"].items())
    for number, group in enumerate(told["differ"]):
        yield f"{'' if number else 'fits':10} {group['presets']}: {group['options']}"
    if not told["presets"] and not told["tuned"]:
        yield f"fits       no preset; --backbone {told['sized']}, where H, N and G are not in the file"
    for number, line in enumerate(told["next"]):
        yield f"{'' if number else 'next':10} {line}"


def _load(path: Path, found: Look, tuned: str) -> list[str]:
    """What to type for a file of a tuned model."""
    families = " or ".join(f"'{name}'" for name in found.looks.families)
    return [
        f"from Python, with the backbone ({families}) and the preset that it was tuned with:",
        f"model = wisetune.create(NAME, preset='scanobjectnn', classes=15, tuning='{tuned}', reading='as_published')",
        f"wisetune.load_official(model, {str(path)!r})",
    ]


def _next(path: Path, found: Look) -> list[str]:
    """What to type."""
    from wisetune.build.official import command
    from wisetune.nets.files.look import CLASSIFICATION, PARTS

    if not found.presets:
        return [f"wisetune run wise-ft-lp --from {shlex.quote(str(path))} --backbone {found.sized} --on TASK --probe OTHER --out OUT"]
    names = found.with_head or tuple(found.presets)
    best = max(names, key=lambda name: _suits(found.presets[name], found.outputs))
    preset = found.presets[best]
    classes = f", classes={found.outputs}" if found.outputs not in (None, _outputs(preset)) else ""
    head = f", head='{found.head}'" if found.head not in ("", preset.head) else ""
    load = [
        f"model = wisetune.create('{preset.backbone.name}', preset='{best.removeprefix(f'{preset.backbone.name}-')}'{classes}{head})",
        f"wisetune.load_official(model, {str(path)!r})",
    ]
    if found.holds == PARTS and found.with_head:
        keep = "wisetune.save_model('mine.safetensors', model)  # for wisetune predict mine.safetensors FILE --category NAME"
        return ["from Python:", *load, keep]
    lines = [command(best, shlex.quote(str(path)))]
    if found.holds == CLASSIFICATION and found.head:
        # Sphere is how predict brings clouds to a model whose file says nothing.
        frame = f", {{'normalise': '{preset.fit.normalise}'}}" if preset.fit and preset.fit.normalise != "sphere" else ""
        lines += ["or, to classify with it as it is, from Python:", *load]
        lines += [f"wisetune.save_model('mine.safetensors', model{frame})  # for wisetune predict mine.safetensors"]
    return lines


def _outputs(preset: Preset) -> int:
    from wisetune.nets.create import class_names

    return len(class_names(preset.classes)) if preset.classes else 0


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _suits(preset: Preset, outputs: int | None) -> tuple[bool, bool, bool]:
    """How well a setting goes with a file: of as many classes, with an official training, of a whole model; the first of equals."""
    return (outputs is not None and _outputs(preset) == outputs, preset.fit is not None, preset.fit is not None and not preset.fit.frozen)
