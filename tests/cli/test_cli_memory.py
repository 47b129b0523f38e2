"""The memory of a training, asked before there is a machine for it."""

from __future__ import annotations

import pytest
from terminal import refused, wisetune


def test_a_table_beside_full_fine_tuning():
    done = wisetune("memory", "linear", "--backbone", "point-mae-scanobjectnn")
    assert (done.code, done.error) == (0, "")
    about, how, header, *rows = done.out.splitlines()
    assert about.startswith("point-mae:points=2048,groups=128 with head mlp3 for 15 classes: one step on 512 clouds of 2048 points")
    assert "fused attention" in how
    assert header.split()[:3] == ["tuning", "trainable", "peak"]
    assert [row.split()[:2] for row in rows] == [["full", "22,093,327"], ["linear", "267,535"]]
    assert [row.split()[3] for row in rows] == ["GiB", "GiB"]
    assert rows[0].split()[4] == "-"
    assert -97 < int(rows[1].split()[4]) < -92
    assert {len(row) for row in (header, *rows)} == {len(header)}


def test_as_json_with_options():
    words = ("memory", "linear", "lora:rank=4", "--backbone", "point-mae-mini", "--batch", 4, "--classes", 3, "--head", "linear", "--json")
    kept, again, math = (wisetune(*words, *more).json for more in ((), ("--recompute",), ("--attention", "math")))
    assert (kept["batch"], kept["classes"], kept["head"]) == (4, 3, "linear")
    assert {"full", "linear"} <= {row["tuning"] for row in kept["tunings"]}
    assert again["tunings"][0]["held"] < kept["tunings"][0]["held"] < math["tunings"][0]["held"]
    assert "blocks recomputed" in wisetune(*words[:-1], "--recompute").out


@pytest.fixture
def once(monkeypatch):
    """Of all that are asked for the first is counted, and stands for the others."""
    from wisetune.build import memory

    count, found = memory.memory_of, []

    def first(*given, **options):
        found.append(found[0] if found else count(*given, **options))
        return found[0]

    monkeypatch.setattr(memory, "memory_of", first)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_part_segmentation(every, request):
    if not every:
        request.getfixturevalue("once")
    done = wisetune("memory", "all", "--backbone", "point-mae-shapenetpart", "--batch", 2)
    assert (done.code, done.error) == (0, "")
    about, _, _, *rows = done.out.splitlines()
    assert "with head parts for 50 parts: one step on 2 clouds of 2048 points" in about
    assert {"full", "idpt-parts", "linear"} <= {row.split()[0] for row in rows}


@pytest.mark.usefixtures("once")
def test_what_a_backbone_refuses_is_told_below_the_table(monkeypatch):
    from wisetune.build import memory
    from wisetune.tune.linear import Linear

    monkeypatch.setattr(memory, "refusal", lambda tuning, *_: "it needs a class token" if tuning == Linear() else "")
    done = wisetune("memory", "all", "--backbone", "point-mae-mini", "--batch", 4)
    assert done.code == 0
    assert "left out: linear: it needs a class token" in done.out.splitlines()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lineer", "--backbone", "point-mae"], "Did you mean 'linear'?"),
        (["--backbone", "point-mae"], "no METHOD was given"),
        (["linear", "--backbone", "point-may"], "--backbone: there is no backbone 'point-may'. Did you mean 'point-mae'?"),
        (["linear", "--backbone", "point-mae", "--batch", "0"], "--batch is 0"),
        (["linear", "--backbone", "point-mae", "--batch", "many"], "--batch"),
        (["linear", "--backbone", "point-mae", "--attention", "flash"], '"fused", "math"'),
        (["linear"], "--backbone requires an argument"),
    ],
)
def test_what_does_not_fit(words, says):
    refused(wisetune("memory", *words), 2, says)
