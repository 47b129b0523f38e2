"""What is there: list and show, of a run's store; show also of a backbone or a weights file."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wisetune.errors import counted

if TYPE_CHECKING:
    from wisetune.records import Record
    from wisetune.store.objects import Stored, Summary
    from wisetune.store.store import Store


def list_(run: Path, /, *, json: bool = False) -> int:
    """What a run's store holds: digest, size and name of everything trained or mixed, and how it was made; --json has the recipe's spelling too.

    Parameters
    ----------
    run
        A run's OUT folder.
    json
        As JSON.
    """
    from wisetune.store.store import Store

    rows = _rows(Store(store_of(run), create=False), run)
    if json:
        print(jsonlib.dumps([vars(row) for row in rows], indent=2))
        return 0
    wide = max((len(row.name) for row in rows), default=0)
    for row in rows:
        print(f"{row.digest}  {row.size / 1e6:7.2f} MB  {row.name:{wide}}  {row.made}")
    print(f"{counted(len(rows), 'object')}, {sum(row.size for row in rows) / 1e6:.1f} MB")
    return 0


def show(run: Path, /, digest: str | None = None, *, shapes: bool = False, json: bool = False) -> int:
    """What a run found; with a digest, what one object is, how it was made, what was measured of it, and its log (for a mix: the audit).

    Of a backbone, a setting of one (point-mae-scanobjectnn) or a weights file of wisetune: what it is, which parts have no pre-trained value and so
    are not mixed, and its official training in words, with what is at fault in it as published. A run's folder of the same name goes first;
    with a colon after it (act:) the name is the backbone's. Of a released checkpoint: whose it is, what it holds, the settings that it fits, and
    the command to begin with it.

    Parameters
    ----------
    run
        A run's OUT folder; or a backbone, a preset of one (point-mae-modelnet-1k; wisetune options backbone lists them), or a weights file.
    digest
        A digest that list prints, or its beginning.
    shapes
        The name and shape of every tensor too.
    json
        As JSON.
    """
    from wisetune.cli.models import results_of
    from wisetune.errors import UsageError, WeightsError
    from wisetune.report.board import Board
    from wisetune.report.costs import as_text
    from wisetune.report.verdict import summary
    from wisetune.store.store import Store

    # A folder of code may be called as a backbone is; a run's folder is what was asked for, also where ./ before it has been dropped.
    a_run = (run / "store").is_dir() or (run / "results.json").is_file()
    if digest is None and not a_run and (run.is_file() or _is_backbone(str(run))):
        told, words = _weights(run, shapes)
        print(jsonlib.dumps(told, indent=2) if json else "\n".join(words))
        return 0
    if digest is None:
        _refuse_misspelled(run)
        results = results_of(run)
        found = summary(results)
        print(jsonlib.dumps(found, indent=2) if json else "\n".join([*found["sentences"], *as_text(Board(results)), *found["notes"]]))
        return 0
    store = Store(store_of(run), create=False)
    rows = [row for row in _rows(store, run) if row.digest.startswith(digest)]
    if len(rows) != 1:
        raise UsageError(f"{len(rows) or 'no'} objects begin with '{digest}'; wisetune list {run} shows them all.")
    (row,) = rows
    stored = store.load(row.digest)
    if stored is None:
        raise WeightsError(f"object {row.digest} was damaged and has been moved aside; the run's command builds it again.")
    records = store.records_of(row.digest)
    if json:
        told = {"log": stored.log, "extra": stored.extra, "stamp": stored.stamp, "records": [record.to_json() for record in records]}
        print(jsonlib.dumps({**vars(row), **told}, indent=2))
        return 0
    for line in _told(row, stored, store.recipe(row.digest), records):
        print(line)
    for name, tensor in stored.tensors.items() if shapes else ():
        print(f"  {name}  {list(tensor.shape)}")
    return 0


def _is_backbone(text: str) -> bool:
    from wisetune.nets.create import BACKBONES, preset_called

    return preset_called(text) is not None or text.partition(":")[0] in BACKBONES.names()


def _refuse_misspelled(run: Path) -> None:
    """A word that is no path may be meant for a backbone's name."""
    from wisetune.errors import DataError
    from wisetune.nets.create import LISTED, meant_backbone

    _refuse_word(run)
    if not run.exists() and run.name == str(run) and not run.suffix and (meant := meant_backbone(run.name)):
        raise DataError(f"there is neither a run nor a backbone '{run}'.{meant} {LISTED}")


def _refuse_word(run: Path) -> None:
    """A word that is no path may be one that other commands know: a tuning, a story, a measure."""
    from wisetune.cli.options import known_as
    from wisetune.errors import DataError

    word = str(run)
    if not run.exists() and (found := known_as(word)):
        noun, name = found
        raise DataError(f"there is no run '{word}'. {name} is a {noun}: wisetune options {name} says what it is and what it takes.")


def _weights(what: Path, shapes: bool) -> tuple[dict[str, Any], Iterator[str]]:
    """What a backbone or a weights file is, as plain data and in words."""
    from wisetune.cli import released
    from wisetune.nets.files.carded import is_ours

    if what.is_file() and not is_ours(what):
        found = released.released(what)
        return found, released.in_words(found)
    model = _model(what)
    return model, _model_in_words(model, shapes)


def _model(what: Path) -> dict[str, Any]:
    """What a backbone, or the one in a file, is, as plain data."""
    from wisetune.build.official import training
    from wisetune.nets.backbone import build_empty, on_meta
    from wisetune.nets.create import assemble, class_names, parse_any_head, parse_backbone, preset_called
    from wisetune.nets.files.carded import shapes_of
    from wisetune.nets.files.delta import is_delta, read_delta
    from wisetune.nets.files.save import read_card
    from wisetune.nets.macs import macs
    from wisetune.nets.parts import PartsHead
    from wisetune.weights.mix import unmixed

    delta = read_delta(what) if what.is_file() and is_delta(what) else None
    card = delta.card if delta else read_card(what) if what.is_file() else None
    preset = None if card else preset_called(str(what))
    backbone = build_empty(card.backbone if card else parse_backbone(str(what)))
    told: dict[str, Any] = {
        "name": str(what),
        "backbone": str(backbone.spec),
        "values": sum(value.numel() for value in backbone.parameters()),
    }
    told |= {"points": backbone.points, "readout": backbone.readout, "features": backbone.feature_width}
    head, classes = (card.head, card.classes) if card else (None, ())
    if str(what).rstrip(":") == backbone.spec.name:
        told["presets"] = list(type(backbone.spec).presets())
    if preset is not None:
        told["source"] = preset.source
        head = parse_any_head(preset.head)
        classes = class_names(preset.classes) if preset.classes else ()
    if head is not None:
        told |= {"head": str(head), "outputs": len(classes) or None}
    if isinstance(head, PartsHead):
        known = card.categories if card else preset.classes if preset else None
        told["categories"] = list(known) if isinstance(known, Mapping) else [str(number) for number in range(head.categories)]
    whole = None
    if head is not None and classes:
        with on_meta():
            whole = assemble(backbone, head, classes)
        told["head_values"] = sum(value.numel() for value in whole.head.parameters())
        if not (card and card.grafts):  # what these compute is in the file alone
            told["macs"] = macs(whole)._asdict()
    if card is not None and head is not None:
        told |= {"classes": list(classes), "grafts": list(card.grafts)}
    if delta is not None:
        told["start"] = {"digest": delta.start, "name": delta.card.about.get("start")}
    told["not_mixed"] = [{"part": part.name, "at_alpha_0": part.at_zero} for part in unmixed(whole or backbone)]
    if preset is not None:
        told["official_training"] = training(preset)
    # What a tuning grafted is in the file alone.
    shapes = shapes_of(what) if card else {name: value.shape for name, value in (whole or backbone).state_dict().items()}
    return told | {"shapes": {name: list(shape) for name, shape in shapes.items()}}


def _model_in_words(model: dict[str, Any], shapes: bool) -> Iterator[str]:
    from wisetune.build.official import told as official
    from wisetune.report.words import giga

    of_preset = "source" in model
    yield f"{model['name']}: {model['source']}" if of_preset else f"{model['name']}  {model['backbone']}"
    if of_preset:
        yield f"backbone   {model['backbone']}"
    of_head = f", and {model['head_values']:,} of the head" if "head_values" in model else ""
    yield f"size       {model['values']:,} values{of_head} (--shapes lists them)"
    if "start" in model:
        yield f"holds      {sum(map(math.prod, model['shapes'].values())):,} values that its start has not: a delta (wisetune.load_delta joins both)"
        yield f"start      the weights {model['start']['digest'][:16]}" + (f", {name}" if (name := model["start"]["name"]) else "")
    yield f"takes      clouds of {counted(model['points'], 'point')}"
    yield f"features   {counted(model['features'], 'number')} (readout {model['readout']})"
    if "presets" in model:
        yield f"presets    {', '.join(model['presets'])} (wisetune options {model['backbone'].partition(':')[0]} says what each is)"
    if "head" in model:
        named = f", {counted(len(model['classes']), 'class')}: {', '.join(model['classes'])}" if "classes" in model else ""
        yield f"head       {model['head']}" + (named or (f", {model['outputs']} outputs" if model["outputs"] else ""))
        if "categories" in model:
            named = f"{len(model['categories'])} categories: {', '.join(model['categories'])}"
            yield f"           answers for every point, model(points, category); {named}"
        yield from (f"graft      {graft}" for graft in model.get("grafts", ()))
    if "macs" in model:
        published, true = (giga(model["macs"][way]) for way in ("published", "true"))
        yield f"computes   {published} multiply-accumulates of one cloud as papers count them, {true} as it is computed here"
    yield "not mixed"
    for part in model["not_mixed"]:
        yield f"  {part['part']}: no pre-trained value; at alpha=0 it is {part['at_alpha_0']}"
    if of_preset:
        yield from official(model["name"])
    for name, shape in model["shapes"].items() if shapes else ():
        yield f"  {name}  {shape}"


def _rows(store: Store, run: Path) -> list[Summary]:
    """What a store holds, each by the name that the run's tables give it, where they have it."""
    import dataclasses

    from wisetune.cli.session import Session

    session = Session.read_sound(run)
    names = session.names if session else {}
    return [dataclasses.replace(row, name=names.get(row.digest, row.name)) for row in store.list()]


def _told(row: Summary, stored: Stored, recipe: dict[str, Any] | None, records: list[Record]) -> Iterator[str]:
    import datetime

    from wisetune.recipe import tree_in_words

    yield f"{row.digest}  {row.name}"
    yield f"recipe   {row.recipe}"
    yield from (f"         {line}" for line in (tree_in_words(recipe) if recipe else ()))
    made = datetime.datetime.fromtimestamp(row.created).astimezone()
    yield f"made     {made:%Y-%m-%d %H:%M}" + "".join(f", {name} {value}" for name, value in stored.stamp.items())
    count = sum(tensor.numel() for tensor in stored.tensors.values())
    yield f"size     {row.size / 1e6:.2f} MB: {counted(len(stored.tensors), 'tensor')}, {counted(count, 'value')} (--shapes lists them)"
    yield "measured" + ("" if records else " nothing of these weights by themselves")
    for record in records:
        of = f" {record.detail['kind']} {record.detail['level']}" if "kind" in record.detail else ""
        within = f"{100 * record.low:.1f} to {100 * record.high:.1f}"
        yield f"  {record.name}{of} on {record.data}, {record.split}: {100 * record.value:.1f} % ({within}), n {record.n}"
    if kept := stored.extra.get("penalty"):
        facts = {key.replace("_", " "): f"{value:.3g}" if isinstance(value, float) else value for key, value in kept.items()}
        yield "penalty  " + ", ".join([facts.pop("penalty"), *(f"{key} {value}" for key, value in facts.items())])
    if found := stored.extra.get("found"):
        yield "found    " + ", ".join([found["found"], *(f"{key} {value:.3g}" for key, value in found.items() if key != "found")])
    if stored.log:
        yield "log"
    for line in stored.log:
        yield "  " + "  ".join(f"{key}={value}" for key, value in line.items() if not isinstance(value, (dict, list)))


def store_of(run: Path) -> Path:
    """The store in a run's folder.

    Raises:
        DataError: there is none.
    """
    from wisetune.errors import DataError

    if not (run / "store").is_dir():
        _refuse_word(run)
        raise DataError(f"'{run}' is not a run's folder: it has no store. Give the --out of wisetune run.")
    return run / "store"
