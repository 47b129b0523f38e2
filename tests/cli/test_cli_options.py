from __future__ import annotations

import dataclasses

import pytest
from terminal import refused, wisetune

from wisetune.build.request import Request
from wisetune.fit.finetune import Fit
from wisetune.spec import dashed


def test_every_option_with_its_default_and_bounds():
    done = wisetune("options", "fit")
    assert (done.code, done.error) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.out.splitlines() if line.startswith("  ")}
    assert list(rows) == [dashed(field.name) for field in dataclasses.fields(Fit)]
    assert rows["lr"] == ["0.0005", "a number, above 0"]
    assert rows["select"] == ["last", "last, best, best-on-test"]
    assert rows["drop-path"] == ["none", "a number, at least 0 and below 1 or none"]
    assert Request.fit in done.out


def test_of_pre_training_what_each_backbone_decides():
    told = wisetune("options", "pretrain").out
    assert "point-m2ae mask=0.8,decoder-depth=1; point-mae mask=0.6,decoder-depth=2." in told


def test_without_a_name_all_that_have_options():
    listed = wisetune("options").out
    names = [name.strip() for line in listed.splitlines()[:-1] for name in line.split(maxsplit=1)[1].split(",")]
    assert {"fit", "pretrain", "wise-ft-lp", "folder", "corruption", "point-mae"} <= set(names)
    for name in names:
        done = wisetune("options", name)
        assert (done.code, done.error) == (0, ""), name
        assert "ptions" in done.out, name


@pytest.mark.parametrize(("name", "said"), [("fitt", "Did you mean 'fit'?"), ("x", "There are: fit, pretrain, ft")])
def test_what_there_is_not(name, said):
    refused(wisetune("options", name), 2, f"nothing with options is called '{name}'.", said)


def test_the_options_of_fit_say_how_an_official_training_is_asked_for():
    said = wisetune("options", "fit").out
    assert "--fit official" in said
    assert "reading=as_published" in said
    assert "wisetune show point-mae-scanobjectnn" in said
