from __future__ import annotations

import pytest
import safetensors
from terminal import refused, wisetune


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


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("out", "scans.pth"), 2, "'scans.pth' must end in .safetensors"),
        (("nowhere", "scans.safetensors"), 2, "there is no model at 'nowhere'"),
        (
            ("out/model.safetensors", "scans.safetensors"),
            2,
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
