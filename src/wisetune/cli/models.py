"""Commands on what a run left: predict, export, report, list, show."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wisetune.results import Results


def predict(run: Path, *files: Path, json: bool = False, device: str = "auto") -> int:
    """The class of each file, with its probability, by the model that a run recommended.

    A file that cannot be read is reported and the others are still predicted; the exit code is then 65, or 69 if all that is missing is a library.

    Parameters
    ----------
    run
        A run's OUT folder, or a model file that export wrote.
    files
        Point clouds or meshes.
    json
        One JSON list on stdout, with the probability of every class.
    device
        auto, cpu, cuda or mps.
    """
    import sys

    from wisetune.build.predict import Predictor
    from wisetune.errors import DataError, MissingExtra, UsageError
    from wisetune.runtime import device as device_of

    if not files:
        raise UsageError("predict needs at least one file: wisetune predict RUN scan.ply ...")
    predictor = Predictor(_model_file(run), device_of(device))
    found: list[dict[str, Any]] = []
    bad: set[int] = set()
    for file in files:
        try:
            probability = predictor.probabilities(file)
        except (DataError, MissingExtra) as error:
            bad.add(error.exit_code)
            found.append({"file": str(file), "error": str(error)})
            print(f"wisetune: {error}", file=sys.stderr)
            continue
        best = max(probability, key=lambda name: probability[name])
        found.append({"file": str(file), "class": best, "probability": probability[best], "probabilities": probability})
        if not json:
            print(f"{file}\t{best}\t{probability[best]:.3f}")
    if json:
        print(jsonlib.dumps(found, indent=2))
    return min(bad, default=0)


def export(run: Path, out: Path, *, half: bool = False) -> int:
    """Write the recommended model as one safetensors file, with a model card beside it.

    Parameters
    ----------
    run
        A run's OUT folder.
    out
        The file to write, for example scans.safetensors; the card is written to scans.md.
    half
        Store in half precision (half the size; answers change by about a thousandth).
    """
    from wisetune.errors import UsageError
    from wisetune.files import write_text
    from wisetune.nets.save import read_card, save_model
    from wisetune.report.card import model_card
    from wisetune.tune.saved import load_model

    source = _model_file(run)
    if out.suffix != ".safetensors":
        raise UsageError(f"'{out}' must end in .safetensors.")
    about, results = read_card(source).about, _results(run)
    save_model(out, load_model(source), about, half=half)
    write_text(out.with_suffix(".md"), model_card(results, about))
    print(f"Model: {out}\nCard:  {out.with_suffix('.md')}")
    return 0


def report(run: Path, *others: Path, markdown: Path | None = None, title: str = "Results") -> int:
    """Draw the report of a run again from its results.json, without computing anything; with --markdown, several runs in one table.

    Parameters
    ----------
    run
        A run's OUT folder.
    others
        Further runs, for one table of all (with --markdown).
    markdown
        Write a page of Markdown here instead.
    title
        That page's title.
    """
    from wisetune.errors import UsageError
    from wisetune.files import write_text
    from wisetune.report.markdown import markdown as markdown_of
    from wisetune.report.markdown import together
    from wisetune.report.write import write_report

    if markdown is None:
        if others:
            raise UsageError(
                f"report was given {1 + len(others)} runs; several are drawn as one table: add --markdown PAGE.md, or give one run."
            )
        for path in write_report(_results(run), run):
            print(path)
        return 0
    if markdown.is_dir():
        raise UsageError(f"--markdown {markdown} is a folder; name a file in it, for example {markdown / 'report.md'}.")
    write_text(markdown, together([_results(one) for one in (run, *others)], title) if others else markdown_of(_results(run), title))
    print(markdown)
    return 0


def list_(run: Path, *, json: bool = False) -> int:
    """What a run's store holds: digest, size and recipe of everything trained or mixed.

    Parameters
    ----------
    run
        A run's OUT folder.
    json
        As JSON.
    """
    from wisetune.store.store import Store

    rows = Store(store_of(run), create=False).list()
    if json:
        print(jsonlib.dumps([vars(row) for row in rows], indent=2))
        return 0
    for row in rows:
        print(f"{row.digest}  {row.size / 1e6:7.2f} MB  {row.recipe}")
    print(f"{len(rows)} objects, {sum(row.size for row in rows) / 1e6:.1f} MB")
    return 0


def show(run: Path, digest: str | None = None, *, json: bool = False) -> int:
    """What a run found; with a digest, one object's recipe and log (for a mix: the audit).

    Parameters
    ----------
    run
        A run's OUT folder.
    digest
        A digest that list prints, or its beginning.
    json
        As JSON.
    """
    from wisetune.errors import UsageError, WeightsError
    from wisetune.report.verdict import summary
    from wisetune.store.store import Store

    if digest is None:
        found = summary(_results(run))
        print(jsonlib.dumps(found, indent=2) if json else "\n".join([*found["sentences"], *found["notes"]]))
        return 0
    store = Store(store_of(run), create=False)
    rows = [row for row in store.list() if row.digest.startswith(digest)]
    if len(rows) != 1:
        raise UsageError(f"{len(rows) or 'no'} objects begin with '{digest}'; wisetune list {run} shows them all.")
    stored = store.load(rows[0].digest)
    if stored is None:
        raise WeightsError(f"object {rows[0].digest} was damaged and has been moved aside; the run's command builds it again.")
    if json:
        print(jsonlib.dumps({**vars(rows[0]), "log": stored.log, "extra": stored.extra}, indent=2))
        return 0
    print(f"{rows[0].digest}  {rows[0].recipe}")
    for name, tensor in stored.tensors.items():
        print(f"  {name}  {list(tensor.shape)}")
    for line in stored.log:
        print("  " + "  ".join(f"{key}={value}" for key, value in line.items() if not isinstance(value, (dict, list))))
    return 0


def store_of(run: Path) -> Path:
    """The store in a run's folder.

    Raises:
        UsageError: there is none.
    """
    from wisetune.errors import UsageError

    if not (run / "store").is_dir():
        raise UsageError(f"'{run}' is not a run's folder: it has no store. Give the --out of wisetune run.")
    return run / "store"


def _model_file(run: Path) -> Path:
    from wisetune.errors import UsageError

    file = run / "model.safetensors" if run.is_dir() else run
    if not file.is_file():
        raise UsageError(f"there is no model at '{file}'. Give the --out folder of a finished run, or an exported .safetensors file.")
    return file


def _results(run: Path) -> Results:
    from wisetune.errors import UsageError
    from wisetune.results import Results

    if run.is_file():
        raise UsageError(f"'{run}' is not a run's folder. Give the --out of wisetune run.")
    file = run / "results.json"
    if not file.is_file():
        raise UsageError(f"there is no '{file}'. Give the --out folder of a finished run.")
    return Results.read(file)
