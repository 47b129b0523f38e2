from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest
import safetensors
from terminal import refused, wisetune

from pico import bits
from wisetune import load_delta, load_model, resolve
from wisetune.build.request import NO_PROBE
from wisetune.results import Results


def scans(world):
    return sorted(map(str, (world / "scans/test").rglob("*.ply")))


def test_an_export_predicts_what_the_run_predicts(finished):
    done = wisetune("export", "out", "scans.safetensors")
    assert (done.code, done.out, done.error) == (0, "Model: scans.safetensors\nCard:  scans.md\n", "")
    asked = wisetune("predict", "out", *scans(finished), "--json")
    assert asked.code == 0
    assert wisetune("predict", "scans.safetensors", *scans(finished), "--json").json == asked.json


def test_the_card_says_what_the_model_is(finished):
    assert wisetune("export", "out", "scans.safetensors").code == 0
    card = (finished / "scans.md").read_text()
    for words in ("npz:solids.npz", "ball, box, plate, stick", "mine.safetensors"):
        assert words in card
    assert str(finished) not in card


def test_what_is_there_is_not_written_over(finished):
    assert wisetune("export", "out", "scans.safetensors").code == 0
    assert wisetune("export", "out", "scans.safetensors").code == 0  # the same again
    (finished / "scans.md").write_text("my notes")
    before = (finished / "scans.safetensors").read_bytes()
    refused(wisetune("export", "out", "scans.safetensors"), 2, "'scans.md' is there already and holds something else", "--force")
    refused(wisetune("export", "out", "scans.safetensors", "--half"), 2, "'scans.safetensors' is there already and holds something else")
    assert ((finished / "scans.md").read_text(), (finished / "scans.safetensors").read_bytes()) == ("my notes", before)
    assert wisetune("export", "out", "scans.safetensors", "--half", "--force").code == 0
    assert (finished / "scans.safetensors").stat().st_size < len(before)


def test_the_card_has_the_numbers_of_its_own_seed_and_no_word_for_whoever_runs(finished):
    results = Results.read(finished / "out/results.json")
    best = results.study.recommended
    (own,) = [
        row.record.value
        for row in results.rows
        if (row.method, row.alpha, row.record.role, row.record.split) == (best.method, best.alpha, "accuracy", "test")
    ]
    # Another seed, all of whose answers are wrong: the mean is half of it.
    other = [
        replace(row, seed=1, record=replace(row.record, value=0.0, detail=row.record.detail | {"right": "0" * row.record.n}))
        for row in results.rows
        if "right" in row.record.detail
    ]
    study = replace(results.study, seeds=[0, 1], warnings=[NO_PROBE, "a leak"])
    both = replace(results, study=study, rows=[*results.rows, *other])
    (finished / "out/results.json").write_text(json.dumps(both.to_json()))
    assert wisetune("export", "out", "scans.safetensors").code == 0
    card = (finished / "scans.md").read_text().replace("\xa0", " ")
    assert f", the model of training seed 0, which has an accuracy of {100 * own:.1f} %" in card
    assert "Over its 2 training seeds:" in card
    assert "- a leak" in card
    assert "--probe" not in card.partition("## Made with")[0]


def test_half_precision_is_half_the_size_and_nearly_the_same_answer(finished):
    assert wisetune("export", "out", "whole.safetensors").code == 0
    assert wisetune("export", "out", "half.safetensors", "--half").code == 0
    tensors = {}
    for name in ("whole", "half"):
        with safetensors.safe_open(f"{name}.safetensors", "np") as file:
            tensors[name] = sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118 - not a dict
    assert tensors["half"] < 0.51 * tensors["whole"]
    whole, half = (wisetune("predict", f"{name}.safetensors", *scans(finished), "--json").json for name in ("whole", "half"))
    for one, other in zip(whole, half, strict=True):
        assert list(one["probabilities"].values()) == pytest.approx(list(other["probabilities"].values()), abs=0.01)


def test_a_delta_is_joined_to_what_the_run_began_with(finished):
    done = wisetune("export", "out", "d.safetensors", "--delta")
    assert (done.code, done.error) == (0, "")
    first, card, size, call = done.out.splitlines()
    assert (first, card, call) == (
        "Delta: d.safetensors",
        "Card:  d.md",
        "    wisetune.load_delta('d.safetensors', wisetune.resolve('mine.safetensors').load())",
    )
    assert re.fullmatch(r"\d\.\d\d MB; the whole model is \d\.\d\d MB\. In Python they are joined by", size)
    start = resolve("mine.safetensors").load()
    model, whole = load_delta("d.safetensors", start), load_model("out/model.safetensors")
    assert bits(model.state_dict()) == bits(whole.state_dict())
    refused(wisetune("predict", "d.safetensors", *scans(finished)), 65, "is a delta file", "wisetune.load_delta(")
    shutil.rmtree(finished / "out/store/objects")
    refused(wisetune("export", "out", "e.safetensors", "--delta"), 65, "the weights that 'out' began with are no longer in its store")
    assert not (finished / "e.safetensors").exists()


def test_a_model_without_grafts_folds_to_itself(finished):
    assert wisetune("export", "out", "whole.safetensors").code == 0
    assert wisetune("export", "out", "folded.safetensors", "--fold").code == 0
    assert (finished / "folded.safetensors").read_bytes() == (finished / "whole.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("out", "scans.safetensors", "--delta", "--half"), 2, "--delta and --half were given: a delta is what changed, as it is"),
        (("out", "scans.safetensors", "--delta", "--fold"), 2, "--delta and --fold were given"),
        (("out", "scans.pth"), 2, "'scans.pth' must end in .safetensors"),
        (("nowhere", "scans.safetensors"), 65, "there is no model at 'nowhere'"),
        (
            ("out/model.safetensors", "scans.safetensors"),
            65,
            "'out/model.safetensors' is not a run's folder. Give the --out of wisetune run",
        ),
        (("out", "deep/scans.safetensors"), 73, "There is no folder deep: make it, or choose another place"),
        (("out",), 2, "requires an argument"),
    ],
)
def test_a_slip_writes_nothing(finished, words, code, said):
    before = set(finished.rglob("*"))
    refused(wisetune("export", *words), code, said)
    assert set(finished.rglob("*")) == before
