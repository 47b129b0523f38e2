"""``wisetune compare``: what a user sees, and what is refused."""

from __future__ import annotations

import json

import pytest
from terminal import refused, wisetune

COMPARE = [
    "compare",
    "--from",
    "mine.safetensors",
    "--on",
    "npz:solids.npz",
    "--probe",
    "npz:others.npz",
    "--probe-c",
    "0.01",
    "--out",
    "out",
]
SHORT = [*COMPARE, "--fit", "epochs=1,batch=16", "--head-fit", "epochs=2,batch=16,augment=none", "--seeds", "1"]


@pytest.mark.usefixtures("chatty")
def test_one_line_a_method_says_what_it_gains_and_costs(world):
    done = wisetune(*SHORT, "--tunings", "bitfit", "lora:rank=4")
    assert done.code == 0, done.error
    lines = done.out.splitlines()
    top = next(
        at for at, line in enumerate(lines) if line.split() == ["accuracy", "diff", "robust", "diff", "trains", "memory", "step", "file"]
    )
    for line, name in zip(lines[top + 1 : top + 5], ["full fine-tuning", "linear probing", "BitFit", "LoRA (rank=4)"], strict=True):
        assert line.startswith(name)
    assert max(map(len, lines[top : top + 10])) <= 100
    assert lines[0].startswith("Accuracy against full fine-tuning: ")
    assert "Take " not in done.out
    assert "This file is full fine-tuning, the model of training seed 0" in lines[-1]
    assert "wisetune run ft --tuning TUNING" in lines[-1]
    assert ": timing training steps of BitFit, seed 0" in done.error
    again = wisetune(*SHORT, "--tunings", "bitfit", "lora:rank=4", "--json")
    assert ": timing" not in again.error
    told = again.json
    assert [row["method"] for row in told["costs"]] == ["ft", "lp", "bitfit", "lora:rank=4"]
    assert told["rival"] is None
    assert "\n".join(lines[top : top + 5]) in wisetune("show", "out").out
    table = json.loads((world / "out/tables/tables.json").read_text())["costs"]["rows"]
    assert table == told["costs"]


@pytest.mark.usefixtures("world", "undrawn")
def test_the_model_of_a_tuning_is_made_as_it_says_without_training(monkeypatch):
    assert wisetune(*SHORT, "--tunings", "bitfit").code == 0
    monkeypatch.setattr("wisetune.build.builder.tune", lambda *_, **__: pytest.fail("trained again"))
    done = wisetune("run", "ft", "--tuning", "bitfit", *SHORT[1:], "--corruption", "none")
    assert done.code == 0, done.error
    assert "This file is BitFit, the model of training seed 0" in done.out


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("tunings", "says"),
    [
        (["lorra"], "--tunings: there is no tuning 'lorra'. Did you mean 'lora'? There are: adapter, "),
        (["bitfit", "lora:rank=17"], "'lora:rank=17' has rank=17, and blocks.blocks.0.attn.qkv is 16 wide"),
        (["lora:rang=2"], "--tunings: 'lora' has no option 'rang'"),
        (["bitfit+ssf"], "--tunings: 'bitfit+ssf' is 2 tunings in one word. They are told apart by spaces: --tunings bitfit ssf."),
        (
            ["bitfit,lora:rank=4"],
            "'bitfit,lora:rank=4' is 2 tunings in one word. They are told apart by spaces: --tunings bitfit lora:rank=4.",
        ),
        (["bitfit ssf", "dapt"], "'bitfit ssf' is 2 tunings in one word"),
        (["bitfit+nothing"], "--tunings: there is no tuning 'bitfit+nothing'"),
        (["lora,rank=4"], "--tunings: there is no tuning 'lora,rank=4'. Options stand behind a colon: lora:rank=4."),
        ([], "--tunings: there is nothing to compare: give all, or some of adapter, "),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(tunings, says):
    refused(wisetune(*SHORT, "--tunings", *tunings), 2, says)


@pytest.mark.usefixtures("world")
def test_what_this_backbone_refuses_is_left_out_of_all_and_the_page_says_so():
    done = wisetune(*SHORT, "--tunings", "all", "--dry-run")
    assert done.code == 0, done.error
    assert "warning: lora is left out: 'lora' has rank=32, and blocks.blocks.0.attn.qkv is 16 wide" in done.error
