"""What is there: list and show, of a run's store; show also of a backbone or a weights file."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wisetune.errors import counted

if TYPE_CHECKING:
    from wisetune.records import Record
    from wisetune.store.objects import Stored, Summary
    from wisetune.store.store import Store


def list_(run: Path, *, json: bool = False) -> int:
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


def show(run: Path, digest: str | None = None, *, shapes: bool = False, json: bool = False) -> int:
    """What a run found; with a digest, what one object is, how it was made, what was measured of it, and its log (for a mix: the audit).

    Of a backbone, a setting of one (point-mae-scanobjectnn) or a weights file of wisetune: what it is, which parts have no pre-trained value and so
    are not mixed, and its official training in words, with what is at fault in it as published. A run's folder of the same name goes first;
    with a colon after it (act:) the name is the backbone's.

    Parameters
    ----------
    run
        A run's OUT folder; or a backbone, a preset of one (point-mae-modelnet-1k), or a weights file.
    digest
        A digest that list prints, or its beginning.
    shapes
        The name and shape of every tensor too.
    json
        As JSON.
    """
    from wisetune.cli.models import results_of
    from wisetune.errors import UsageError, WeightsError
    from wisetune.report.verdict import summary
    from wisetune.store.store import Store

    # A folder of code may be called as a backbone is; a run's folder is what was asked for, also where ./ before it has been dropped.
    a_run = (run / "store").is_dir() or (run / "results.json").is_file()
    if digest is None and not a_run and (run.is_file() or _is_backbone(str(run))):
        model = _model(run)
        print(jsonlib.dumps(model, indent=2) if json else "\n".join(_model_in_words(model, shapes)))
        return 0
    if digest is None:
        found = summary(results_of(run))
        print(jsonlib.dumps(found, indent=2) if json else "\n".join([*found["sentences"], *found["notes"]]))
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


def _model(what: Path) -> dict[str, Any]:
    """What a backbone, or the one in a file, is."""
    from wisetune.build.official import told as official
    from wisetune.nets.backbone import build_empty
    from wisetune.nets.create import parse_backbone, preset_called
    from wisetune.nets.save import read_card
    from wisetune.weights.mix import unmixed

    card = read_card(what) if what.is_file() else None
    spec = card.backbone if card else parse_backbone(str(what))
    backbone = build_empty(spec)
    told: dict[str, Any] = {"name": str(what), "backbone": str(spec), "values": sum(value.numel() for value in backbone.parameters())}
    if card is not None and card.head is not None:
        told |= {"head": str(card.head), "classes": list(card.classes), "grafts": list(card.grafts)}
    told["no pre-trained value"] = [{"part": part.name, "at alpha=0": part.at_zero} for part in unmixed(backbone)]
    told["official training"] = list(official(str(what))) if preset_called(str(what)) else []
    return told | {"shapes": {name: list(value.shape) for name, value in backbone.state_dict().items()}}


def _model_in_words(model: dict[str, Any], shapes: bool) -> Iterator[str]:
    of_preset = model["official training"]
    yield from of_preset[:2] or [f"{model['name']}  {model['backbone']}"]
    yield f"size       {model['values']:,} values (--shapes lists them)"
    if "head" in model:
        yield f"head       {model['head']}, {len(model['classes'])} classes: {', '.join(model['classes'])}"
        yield from (f"graft      {graft}" for graft in model["grafts"])
    yield "not mixed"
    for part in model["no pre-trained value"]:
        yield f"  {part['part']}: no pre-trained value; at alpha=0 it is {part['at alpha=0']}"
    yield from of_preset[2:]
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
        raise DataError(f"'{run}' is not a run's folder: it has no store. Give the --out of wisetune run.")
    return run / "store"
