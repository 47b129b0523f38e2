"""Which parameters of each tuning have weight decay."""

from __future__ import annotations

import dataclasses

import cells
import pytest
from cells import OTHERS, TUNINGS_HERE, Cell
from torch import nn

import pico
from my_tunings import Adapter
from tuned_samples import RELEASED, empty
from wisetune.canonical import digest_of
from wisetune.fit.finetune import tune
from wisetune.fit.fit import Fit, parameter_groups
from wisetune.recipe import Tune, digest
from wisetune.tune.full import Full
from wisetune.tune.graft import Graft, Grafting
from wisetune.tune.tunings import TUNINGS
from wisetune.tune.vpt import VPT


def field_s_rule(name, value):
    """That of the released codes, stated once more."""
    return not (value.ndim == 1 or name.endswith(".bias") or "token" in name)


@pytest.mark.parametrize("case", RELEASED)
def test_as_published_it_is_what_the_filter_makes_of_released_names(case):
    model, tuning = empty(RELEASED[case], 15)
    chosen = tuning.freeze(model)
    theirs = {name: (tuning.released(name.removeprefix("backbone.")) or (name.removeprefix("backbone."),))[-1] for name in chosen}
    assert tuning.decaying(model) & chosen.keys() == {name for name, value in chosen.items() if field_s_rule(theirs[name], value)}


def test_as_published_idpt_for_parts_too():
    model, tuning = empty("idpt-parts", 50, preset="shapenetpart")
    chosen = tuning.freeze(model)
    assert "backbone.blocks.idptparts.position" in tuning.decaying(model)
    theirs = {name: (tuning.released(name.removeprefix("backbone.")) or (name,))[-1] for name in chosen}
    assert tuning.decaying(model) & chosen.keys() == {name for name, value in chosen.items() if field_s_rule(theirs[name], value)}


READINGS = [
    dataclasses.replace(tuning, reading=reading) if isinstance(tuning, Grafting) else tuning
    for tuning in [*TUNINGS_HERE, *OTHERS]
    for reading in ("as_intended", "as_published")
]


@pytest.mark.parametrize("family", ["point-mae", "point-m2ae"])
@pytest.mark.parametrize("tuning", dict.fromkeys(READINGS), ids=str)
def test_of_every_tuning_it_is_the_rule_by_names_but_for_prompts(tuning, family):
    """As it was before a tuning could say it: whoever trained with that trains the same weights now."""
    model = cells.grafted(Cell(tuning, family, "classes"))
    chosen = tuning.freeze(model)
    wanted = {name for name, value in chosen.items() if field_s_rule(name, value)}
    prompts = {name for name in chosen if ".vpt." in name}
    kept = prompts if isinstance(tuning, VPT) and tuning.reading == "as_published" else set()
    assert tuning.decaying(model) & chosen.keys() == (wanted - prompts) | kept
    assert bool(prompts) == isinstance(tuning, VPT)


class Named(Graft):
    def __init__(self, token: str) -> None:
        super().__init__()
        self.register_parameter(token, nn.Parameter(cells.CLOUDS[0, :4, :2].clone()))


@dataclasses.dataclass(frozen=True)
class Either(Grafting):
    """The same graft by two names."""

    called: str = "tokens"

    def graft(self, model):
        for stage in model.backbone.anatomy.stages:
            self.put(model, stage.tokens, Named(self.called))


@pytest.mark.parametrize("called", ["tokens", "rows"])
def test_how_a_parameter_of_a_graft_or_its_place_is_called_decides_nothing(called):
    tuning = Either(called=called)
    model = cells.grafted(Cell(tuning, "point-m2ae", "classes"))
    assert {name for name in tuning.decaying(model) if ".either." in name} == {
        f"backbone.h_encoder.token_embed.{level}.either.{called}" for level in range(3)
    }


@dataclasses.dataclass(frozen=True)
class Renamed(Either):
    """A graft whose released name says that it is of tokens, and its own does not."""

    called: str = "rows"

    def released(self, name):
        return ("prompt_tokens",) if name.endswith(f".{self.slot}.{self.called}") else ()


def test_as_published_a_released_name_takes_away_the_decay_that_its_own_name_would_give():
    def decaying(tuning: Renamed) -> list[str]:
        return [name for name in tuning.decaying(cells.grafted(Cell(tuning, "point-mae", "classes"))) if ".renamed." in name]

    assert len(decaying(Renamed())) == 1
    assert decaying(Renamed(reading="as_published")) == []


def test_a_training_has_the_groups_that_its_tuning_says(tmp_path, monkeypatch):
    seen = {}

    def look(model, parameters, fit, *args, **options):
        groups = parameter_groups(parameters, fit, options["decaying"])
        names = {id(value): name for name, value in parameters.items()}
        seen.update({names[id(value)]: group.get("weight_decay") for group in groups for value in group["params"]})
        return tune(model, parameters, fit, *args, **options)

    monkeypatch.setattr("wisetune.build.builder.tune", look)
    data = pico.data()
    fit = Fit(epochs=1, batch=8, augment="none")
    pico.builder(tmp_path).model(Tune(pico.START, VPT(prompts=2), pico.setting().head, data.training_digest, fit))
    prompts = {name: decay for name, decay in seen.items() if ".vpt." in name}
    assert set(prompts.values()) == {0.0}
    assert seen["head.weight"] is None
    assert len(prompts) == 4


def test_who_trains_other_weights_has_another_digest_and_nobody_else():
    assert VPT().canonical()["version"] == 2
    assert all("version" not in TUNINGS.parse(name).canonical() for name in TUNINGS.names() if name != "vpt")
    assert "version" not in Adapter().canonical()
    assert digest_of(Full().canonical()) == digest_of({"spec": "full"})
    tree = Tune(pico.START, VPT(), pico.setting().head, "0" * 16, pico.FIT)
    assert digest(tree) != digest(dataclasses.replace(tree, tuning=VPT(reading="as_published")))
    assert VPT().in_full() == "vpt:class-token=true,reading=as_intended,prompts=10,deep=true", "files are spelled as they were"
