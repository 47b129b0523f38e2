"""Commands on what a run left: predict, export, report."""

from __future__ import annotations

import csv
import io
import json as jsonlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wisetune.cli.kinds import TextOrNone, Word, WordOrNone

if TYPE_CHECKING:
    import torch

    from wisetune.nets.backbone import Backbone
    from wisetune.nets.headed import Headed
    from wisetune.results import Results


def predict(
    run: Path, /, *files: Path, json: bool = False, device: Word = "auto", category: WordOrNone = None, out: Path | None = None
) -> int:
    """The class of each file, with its probability, by the model that a run recommended; by a part segmentation model the part of every point.

    Of parts a line tells each one's share of the points. A model sees as many points as it was made for, and each of the others is of the part of
    the nearest of these; of a mesh points are drawn. Of a folder all files are taken, those in its sub-folders too. A file that cannot be read is
    reported and the others are still predicted; the exit code is then 65, or 69 if all that is missing is a library.

    Parameters
    ----------
    run
        A run's OUT folder, or a model file that export wrote.
    files
        Point clouds or meshes, or folders of them.
    json
        One JSON list on stdout, with the probability of every class, or the number of every point's part.
    device
        auto, cpu, cuda or mps.
    category
        Of part segmentation: what the shapes are, for example Chair.
    out
        Of part segmentation: a new folder, for a table of each file's points (x, y, z, the part's number and name).
    """
    import sys

    from wisetune.build.predict import has_parts, spread
    from wisetune.errors import DataError, MissingExtra, UsageError
    from wisetune.runtime import device as device_of

    if not files:
        raise UsageError("predict needs at least one file: wisetune predict RUN scan.ply ...")
    model, where = _model_file(run), device_of(device)
    of_file = _parts_of(model, category, out, spread(files), where) if has_parts(model) else _class_of(model, category, out, where)
    found: list[dict[str, Any]] = []
    bad: set[int] = set()
    for file in spread(files):
        try:
            told, line = of_file(file)
        except (DataError, MissingExtra) as error:
            bad.add(error.exit_code)
            found.append({"file": str(file), "error": str(error)})
            print(f"wisetune: {error}", file=sys.stderr)
            continue
        found.append({"file": str(file), **told})
        if not json:
            print(f"{file}\t{line}")
    if json:
        print(jsonlib.dumps(found, indent=2))
    return min(bad, default=0)


_OfFile = Callable[[Path], tuple[dict[str, Any], str]]
"""What is told of a file, as data and as a line."""


def _class_of(model: Path, category: str | None, out: Path | None, device: torch.device) -> _OfFile:
    from wisetune.build.predict import Predictor
    from wisetune.errors import UsageError

    for option, given in (("--category", category), ("--out", out)):
        if given is not None:
            raise UsageError(f"{option} was given, which is for part segmentation, and {model} is a classifier. Leave it out.")
    predictor = Predictor(model, device)

    def told(file: Path) -> tuple[dict[str, Any], str]:
        probability = predictor.probabilities(file)
        best = max(probability, key=lambda name: probability[name])
        return {"class": best, "probability": probability[best], "probabilities": probability}, f"{best}\t{probability[best]:.3f}"

    return told


def _parts_of(model: Path, category: str | None, out: Path | None, files: list[Path], device: torch.device) -> _OfFile:
    from wisetune.build.predict import PartsPredictor
    from wisetune.errors import UsageError, naming
    from wisetune.files import write_text
    from wisetune.nets.files.save import read_card

    if category is None:
        known = ", ".join(read_card(model).categories)
        there = f" There are: {known}." if known else ""
        raise UsageError(
            f"{model} is a part segmentation model, which answers for every point of a shape whose category is known: add --category NAME.{there}"
        )
    with naming("--category"):
        predictor = PartsPredictor(model, category, device)
    tables = {file: out / f"{file.name}.csv" for file in files} if out is not None else {}
    if out is not None:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UsageError(f"--out {out} is there and not an empty folder. Name a new one, or remove it.")
        if len(set(tables.values())) < len(set(files)):
            raise UsageError(f"--out {out} would have two tables of one name, of files in different folders. Give each its own --out.")

    def told(file: Path) -> tuple[dict[str, Any], str]:
        found = predictor.parts(file)
        labels = found.labels.tolist()
        shares = {
            name: {"number": number, "points": (count := labels.count(number)), "share": count / len(labels)}
            for name, number in zip(predictor.names, predictor.numbers, strict=True)
        }
        if file in tables:
            names, table = dict(zip(predictor.numbers, predictor.names, strict=True)), io.StringIO()
            rows = ([*place, label, names[label]] for place, label in zip(found.points.tolist(), labels, strict=True))
            csv.writer(table, lineterminator="\n").writerows([["x", "y", "z", "number", "part"], *rows])
            write_text(tables[file], table.getvalue())
        data = {"category": predictor.category, "parts": shares, "labels": labels}
        if found.drawn:
            data["drawn"] = found.points.tolist()
        return data, "\t".join([predictor.category, *(f"{name} {share['share']:.3f}" for name, share in shares.items())])

    return told


def export(run: Path, /, out: Path, *, half: bool = False, fold: bool = False, delta: bool = False, force: bool = False) -> int:
    """Write the recommended model as one safetensors file, with a model card beside it.

    With --delta the file holds what the weights that the run began with have not: what was grafted, the head, and what training changed. From Python
    wisetune.load_delta joins it to them, bit for bit, and refuses any other weights.

    Parameters
    ----------
    run
        A run's OUT folder.
    out
        The file to write, for example scans.safetensors; the card is written to scans.md.
    half
        Store in half precision (half the size; answers change by about a thousandth).
    fold
        Put what a tuning grafted into the weights, so that it is a model as any other (lora, ssf); answers change in the sixth digit.
    delta
        Write what changed alone, as it is.
    force
        Write over files that are there and hold something else.
    """
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from wisetune.build.request import NO_PROBE
    from wisetune.errors import UsageError
    from wisetune.files import write_bytes
    from wisetune.nets.files.delta import save_delta
    from wisetune.nets.files.save import read_card, save_model
    from wisetune.report.card import model_card
    from wisetune.tune.folding import fold as folded
    from wisetune.tune.saved import load_model

    if delta and (half or fold):
        raise UsageError(f"--delta and {'--half' if half else '--fold'} were given: a delta is what changed, as it is. Give one of them.")
    source = _model_file(run)
    if out.suffix != ".safetensors":
        raise UsageError(f"'{out}' must end in .safetensors.")
    about, results = read_card(source).about, results_of(run)
    # How to ask for another probe is for whoever runs, not for whoever gets the model.
    warnings = [warning for warning in results.study.warnings if warning != NO_PROBE]
    card = model_card(replace(results, study=replace(results.study, warnings=warnings)), about)
    model = folded(load_model(source)) if fold else load_model(source)
    with TemporaryDirectory() as folder:
        if delta:
            save_delta(Path(folder) / out.name, model, _start_of(run, results, model), about)
        else:
            save_model(Path(folder) / out.name, model, about, half=half)
        made = {out: (Path(folder) / out.name).read_bytes(), out.with_suffix(".md"): card.encode()}
    for path, data in made.items():
        if not force and path.exists() and not (path.is_file() and path.read_bytes() == data):
            raise UsageError(f"'{path}' is there already and holds something else. Choose another name, or write over it with --force.")
    for path, data in made.items():
        write_bytes(path, data, make_folders=False)
    print(f"{'Delta' if delta else 'Model'}: {out}\nCard:  {out.with_suffix('.md')}")
    if delta:
        print(f"{out.stat().st_size / 1e6:.2f} MB; the whole model is {source.stat().st_size / 1e6:.2f} MB. In Python they are joined by")
        print(f"    wisetune.load_delta({str(out)!r}, wisetune.resolve({results.study.start!r}).load())")
    return 0


def _start_of(run: Path, results: Results, model: Headed) -> Backbone:
    """The weights that a run began with, from its store.

    Raises:
        WeightsError: they are no longer there.
    """
    from wisetune.cli.listing import store_of
    from wisetune.errors import WeightsError
    from wisetune.nets.backbone import build_empty
    from wisetune.recipe import Start, digest
    from wisetune.store.store import Store

    spec = model.backbone.spec
    stored = Store(store_of(run), create=False).load(digest(Start(spec, results.study.start_weights)))
    if stored is None:
        raise WeightsError(f"the weights that '{run}' began with are no longer in its store; the run's command puts them there again.")
    start = build_empty(spec)
    start.load_state_dict(stored.tensors, assign=True)
    return start


def report(run: Path, /, *others: Path, markdown: Path | None = None, title: TextOrNone = None) -> int:
    """Draw the report of a run again from its results.json, without computing anything; with --markdown, several runs in one table.

    Parameters
    ----------
    run
        A run's OUT folder.
    others
        Further runs, for one page of all (with --markdown); folds of one task are counted together.
    markdown
        Write a page of Markdown here instead.
    title
        That page's title. Default: Results.
    """
    from wisetune.errors import UsageError
    from wisetune.files import write_text
    from wisetune.report.markdown import markdown as markdown_of
    from wisetune.report.together import together
    from wisetune.report.write import write_report

    if markdown is None:
        if others:
            raise UsageError(
                f"report was given {1 + len(others)} runs; several are drawn as one table: add --markdown PAGE.md, or give one run."
            )
        if title is not None:
            raise UsageError("--title was given, which is of a page of Markdown: add --markdown PAGE.md, or leave it out.")
        for path in write_report(results_of(run), run):
            print(path)
        return 0
    if markdown.is_dir():
        raise UsageError(f"--markdown {markdown} is a folder; name a file in it, for example {markdown / 'report.md'}.")
    head, runs = title or "Results", [results_of(one) for one in (run, *others)]
    write_text(markdown, together(runs, head) if others else markdown_of(runs[0], head))
    print(markdown)
    return 0


def _model_file(run: Path) -> Path:
    from wisetune.cli.session import Session
    from wisetune.errors import DataError

    file = run / "model.safetensors" if run.is_dir() else run
    if not file.is_file():
        instead = "Give the --out folder of a finished run, or an exported .safetensors file."
        raise DataError(f"there is no model at '{file}'. {Session.why_not(run) or instead}")
    return file


def results_of(run: Path) -> Results:
    """What a run found.

    Raises:
        DataError: the folder is not that of a finished run.
    """
    from wisetune.cli.session import Session
    from wisetune.errors import DataError
    from wisetune.results import Results

    if run.is_file():
        raise DataError(f"'{run}' is not a run's folder. Give the --out of wisetune run.")
    file = run / "results.json"
    if not file.is_file():
        raise DataError(f"there is no '{file}'. {Session.why_not(run) or 'Give the --out folder of a finished run.'}")
    return Results.read(file)
