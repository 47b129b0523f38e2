"""Published settings of tunings, by name."""

from __future__ import annotations

import dataclasses

import pytest

from tuned_samples import empty
from wisetune.errors import UsageError
from wisetune.tune.adapter import Adapter
from wisetune.tune.dapt import DAPT
from wisetune.tune.idpt import IDPT
from wisetune.tune.lora import Lora
from wisetune.tune.pointgst import PointGST
from wisetune.tune.pointlora import PointLoRA
from wisetune.tune.ppt import PPT
from wisetune.tune.tunings import TUNINGS
from wisetune.tune.vpt import VPT

EVERY = [(name, preset) for name in TUNINGS.names() for preset in TUNINGS.entry(name).presets()]


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_preset_is_its_options_and_says_where_it_is_from(name, preset):
    kind = TUNINGS.entry(name)
    published = kind.presets()[preset]
    assert TUNINGS.parse(f"{name}:preset={preset}") == kind(**published.options)
    assert "reading" not in published.options  # that is the user's to say
    assert published.source
    if any("training mode" in differs for differs in published.differs):
        assert "reading" in {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("name", [name for name in TUNINGS.names() if not TUNINGS.entry(name).of_parts])
def test_figures_are_of_the_size_that_a_tuning_has_by_itself(name):
    figures = TUNINGS.entry(name).figures
    assert figures is not None
    assert 50 < figures.accuracy < 100
    assert figures.source
    if figures.trainable is None:
        return
    model, tuning = empty(name, 15)
    count = sum(value.numel() for value in tuning.freeze(model).values())
    places = len(str(figures.trainable).partition(".")[2])
    assert f"{count / 1e6:.{places}f}" == str(figures.trainable)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("dapt:preset=scan-hardest", DAPT(rank=64, dropout=0.2, readout="all")),
        ("dapt:preset=scan-objbg", DAPT(rank=64, dropout=0.5, readout="all")),
        ("dapt:preset=scan-objonly", DAPT(rank=64, dropout=0.0, readout="prompts")),
        ("dapt:preset=modelnet40", DAPT(rank=72, dropout=0.0, readout="tokens")),
        ("dapt:modelnet40", DAPT(rank=72, dropout=0.0, readout="tokens")),
        ("dapt:preset=modelnet40,rank=8", DAPT(rank=8, dropout=0.0, readout="tokens")),
        ("dapt:rank=8,preset=modelnet40,reading=as_published", DAPT(reading="as_published", rank=8, dropout=0.0, readout="tokens")),
        ("idpt:preset=scan-objonly", IDPT(layer=6)),
        ("idpt:preset=scan-objbg", IDPT(readout="prompt")),
        ("vpt:preset=few-shot", VPT(prompts=20, deep=True)),
        ("ppt:preset=modelnet40", PPT(rank=256, groups=64, group_size=32)),
        ("pointgst:preset=modelnet40", PointGST(rank=36, local=32)),
        ("pointlora:preset=scan-hardest", PointLoRA(rank=8, hidden=32, selected=(32, 8), groups=(128, 64), group_sizes=(32, 64))),
        ("lora:preset=imagenet-rib", Lora(rank=8, alpha=1.0, at=("q", "v"))),
        ("adapter:preset=dapt-table-one", Adapter(rank=64, after=("mlp",))),
    ],
)
def test_what_is_given_changes_the_preset_alone(text, means):
    found = TUNINGS.parse(text)
    assert found == means
    assert "preset" not in str(found)
    assert TUNINGS.parse(str(found)) == found


def test_a_preset_comes_before_what_is_there_otherwise():
    otherwise = {"rank": 3, "reading": "as_published"}
    assert TUNINGS.parse("dapt:preset=scan-hardest", otherwise) == DAPT(reading="as_published", rank=64)
    assert TUNINGS.parse("dapt", otherwise) == DAPT(reading="as_published", rank=3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dapt:preset=scan-hardes", "'dapt' has no preset 'scan-hardes'. Did you mean 'scan-hardest'. There are: scan-hardest, scan-objbg"),
        ("dapt:preset=scan-objbg,preset=scan-hardest", "gives 'preset' twice"),
        ("dapt:preset=scan-objbg,rnk=3", "'dapt' has no option 'rnk'"),
        ("full:preset=scan-objbg", "'full' has no option 'preset'"),
    ],
)
def test_mistakes_are_named(text, says):
    with pytest.raises(UsageError, match=says):
        TUNINGS.parse(text)


def test_a_file_names_no_preset():
    with pytest.raises(UsageError, match="'dapt' has no option 'preset'"):
        TUNINGS.parse_imported("dapt:preset=modelnet40")
