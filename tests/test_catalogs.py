"""Every entry of every catalog keeps the contract of entries; a new one is tested by being there."""

from __future__ import annotations

import dataclasses
import itertools
import typing
from typing import Any

import pytest

from wisetune.build.job import Job
from wisetune.canonical import digest_of
from wisetune.catalog import Catalog
from wisetune.data.tasks import TASKS
from wisetune.errors import UsageError
from wisetune.fit.fit import Fit
from wisetune.fit.pretrain import Pretrain
from wisetune.keep.penalties import PENALTIES
from wisetune.measure.measures import MEASURES
from wisetune.nets.create import BACKBONES
from wisetune.nets.heads import HEADS
from wisetune.spec import Spec
from wisetune.stories.stories import STORIES
from wisetune.tune.tunings import TUNINGS
from wisetune.weights.merges import MERGES

CATALOGS: dict[str, Catalog[Any]] = {
    "story": STORIES,
    "tuning": TUNINGS,
    "measure": MEASURES,
    "merge": MERGES,
    "penalty": PENALTIES,
    "task": TASKS,
    "backbone": BACKBONES,
}
IN_CATALOGS = {f"{noun} {name}": (catalog, name) for noun, catalog in CATALOGS.items() for name in catalog.names()}
OTHERS = {f"{kind.__mro__[1].__name__.lower()} {kind.name}": kind for kind in (*HEADS.values(), Fit, Pretrain)}
ALL = [*IN_CATALOGS, *OTHERS]
REQUIRED = {"on": "[folder:a b,seed=3]", "path": "scans/train", "file": "scans.npz", "weight": "10"}
"""Values of options that have no default."""


def kind_of(entry: str) -> type[Spec]:
    if entry in OTHERS:
        return OTHERS[entry]
    catalog, name = IN_CATALOGS[entry]
    return catalog.entry(name)


def needed(kind: type[Spec]) -> list[str]:
    fields = dataclasses.fields(kind)
    return [field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING]


def plain(kind: type[Spec]) -> Spec:
    """The entry with nothing given but what must be."""
    return kind.from_options(",".join(f"{name}={REQUIRED[name]}" for name in needed(kind)))


def test_the_entries_are_these():
    assert {noun: catalog.names() for noun, catalog in CATALOGS.items()} == {
        "story": ["compare", "ft", "lp", "lp-ft", "wise-ft", "wise-ft-lp"],
        "tuning": [
            "adapter",
            "adaptformer",
            "bitfit",
            "dapt",
            "full",
            "idpt",
            "idpt-parts",
            "linear",
            "lora",
            "pointgst",
            "pointlora",
            "ppt",
            "prefix",
            "ssf",
            "vpt",
        ],
        "measure": ["accuracy", "corruption", "svm", "transfer", "voting"],
        "merge": ["uniform", "wise"],
        "penalty": ["ewc", "l2-sp", "lwf"],
        "task": ["demo", "few-shot", "folder", "npz"],
        "backbone": ["act", "maskpoint", "point-bert", "point-m2ae", "point-mae", "recon"],
    }
    assert all(catalog.noun == noun for noun, catalog in CATALOGS.items())


@pytest.mark.parametrize("noun", CATALOGS)
def test_machinery_is_there_and_is_no_entry(noun):
    """A word in the list that names no module would let a module of that name hide."""
    import importlib
    import pkgutil

    catalog = CATALOGS[noun]
    modules = {module.name for module in pkgutil.iter_modules(importlib.import_module(catalog.package).__path__)}
    folders = {"formats", "weights", "bundled"}
    assert set(catalog.machinery) <= modules | folders
    for name in catalog.machinery:
        with pytest.raises(UsageError, match=f"there is no {noun}"):
            catalog.parse(name)


@pytest.mark.parametrize("entry", ALL)
def test_an_entry_is_a_frozen_spec_of_its_name_with_a_docstring_of_its_own(entry):
    kind = kind_of(entry)
    assert kind.name == entry.split()[1]
    assert issubclass(kind, Spec)
    assert dataclasses.is_dataclass(kind)
    assert "__doc__" in vars(kind)
    assert len(kind.__doc__ or "") > 10
    assert not (kind.__doc__ or "").startswith(f"{kind.__name__}(")  # what dataclass writes when nobody did
    with pytest.raises(dataclasses.FrozenInstanceError):
        plain(kind).name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("entry", ALL)
def test_an_entry_reads_back_from_its_spelling(entry):
    spec = plain(kind_of(entry))
    for text in (str(spec), spec.in_full()):
        name, _, options = text.partition(":")
        assert name == kind_of(entry).name
        assert kind_of(entry).from_options(options) == spec
    if entry in IN_CATALOGS:
        assert IN_CATALOGS[entry][0].parse(str(spec)) == spec


@pytest.mark.parametrize("entry", ALL)
def test_an_entry_says_what_it_needs(entry):
    kind = kind_of(entry)
    if needed(kind):
        with pytest.raises(UsageError, match=rf"'{kind.name}' needs {', '.join(needed(kind))}; for example"):
            kind.from_options("")
    else:
        assert kind.from_options("") == kind()


@pytest.mark.parametrize("entry", ALL)
def test_an_unknown_option_is_refused_by_name(entry):
    kind = kind_of(entry)
    with pytest.raises(UsageError, match=rf"'{kind.name}' has no option 'no-such-option'\. Options: "):
        kind.from_options("no-such-option=1")


def others(value: Any, hint: Any) -> list[Any]:
    """Values of the kind that the field declares, near its own."""
    arguments = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        return [word for word in arguments if word != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int) or (value is None and int in arguments):
        value = value or 0
        return [value + 1, 2 * value, value // 2]
    if isinstance(value, float) or value is None:
        return [0.25, 0.5, 2.0, (value or 0.0) + 1]
    if isinstance(value, tuple):
        if not value:
            return [(3, 4) if int in arguments else ("head.",)]
        if isinstance(value[0], str):
            return [value[:1], value[1:], ("vpt",)]
        doubled = tuple(2 * item for item in value)
        return [tuple(item + 1 for item in value), tuple(item / 2 for item in value), doubled, (0.25, 1.0), value[:1]]
    return [value + "x", "max+mean", "jitter", "0.01", "shared", "sphere", "y"]


BESIDE: dict[str, dict[str, Any]] = {
    "class_token": {"readout": "max+mean"},  # the one by default needs it
    "group_lr": {"group": ("head.",)},
    "group_decay": {"group": ("head.",)},
    "pool_of": {"pool": 1},
    "fisher_batch": {"fisher": "batch"},
}
"""What an option cannot be changed without."""
OPTIONS = [(entry, field.name) for entry in ALL for field in dataclasses.fields(kind_of(entry))]


@pytest.mark.parametrize(("entry", "option"), OPTIONS)
def test_every_option_enters_the_digest_and_the_spelling(entry, option):
    spec = plain(kind_of(entry))
    beside = {name: value for name, value in BESIDE.get(option, {}).items() if not entry.startswith("tuning ")}
    spec = dataclasses.replace(spec, **beside)
    hint = typing.get_type_hints(type(spec))[option]
    changed = None
    for value in others(getattr(spec, option), hint):
        try:
            changed = dataclasses.replace(spec, **{option: value})
        except UsageError:
            continue
        if changed != spec:
            break
    assert changed is not None, "no other value was accepted; add one to others()"
    assert digest_of(changed) != digest_of(spec)
    assert f"{option.replace('_', '-')}=" in str(changed)
    assert type(spec).from_options(str(changed).partition(":")[2]) == changed


def words(entry: str) -> dict[str, tuple[str, ...]]:
    hints = typing.get_type_hints(kind_of(entry))
    return {name: typing.get_args(hint) for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal}


@pytest.mark.parametrize(("entry", "option"), [(entry, option) for entry in ALL for option in words(entry)])
def test_a_wrong_word_is_refused_with_those_that_there_are(entry, option):
    with pytest.raises(UsageError, match=rf"'no such word'.* {', '.join(words(entry)[option])}"):
        dataclasses.replace(plain(kind_of(entry)), **{option: "no such word"})


@pytest.mark.parametrize("entry", [entry for entry in ALL if len(plain(kind_of(entry)).canonical()) > 1])
def test_entries_and_their_options_are_told_apart(entry):
    specs = [plain(kind_of(other)) for other in ALL]
    mine = plain(kind_of(entry))
    assert [spec for spec in specs if digest_of(spec) == digest_of(mine)] == [mine]


@pytest.mark.parametrize("name", MEASURES.names())
def test_a_measure_says_what_it_needs_by_spelling(name):
    measure = plain(MEASURES.entry(name))
    assert all(isinstance(text, str) for text in measure.needs)
    assert set(measure.needs) == ({measure.on} if hasattr(measure, "on") else set())
    assert isinstance(measure.of_backbone, bool)


@pytest.mark.parametrize("name", TUNINGS.names())
def test_a_tuning_trains_something_and_keeps_features_only_with_the_backbone(name):
    import pico
    from wisetune.nets.heads import LinearHead
    from wisetune.nets.model import Model

    tuning = pico.tuning(name)
    model = Model(pico.backbone(), LinearHead().build(32, 4))
    tuning.graft_into(model)
    chosen = tuning.freeze(model)
    assert chosen
    assert set(tuning.trained(model)) == set(chosen)
    assert {id(value) for value in chosen.values()} == {id(value) for value in model.parameters() if value.requires_grad}
    assert all(dict(model.named_parameters())[key] is value for key, value in chosen.items())
    assert tuning.moves_features == any(key.startswith("backbone.") for key in chosen)
    # Chosen anew: what another tuning froze trains again.
    TUNINGS.parse("linear").freeze(model)
    assert set(tuning.freeze(model)) == set(chosen)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_a_backbone_is_what_its_spec_says(name):
    kind = BACKBONES.entry(name)
    assert kind.presets()
    for preset in kind.presets().values():
        assert kind.from_options(str(preset.backbone).partition(":")[2]) == preset.backbone


def test_the_words_of_rules_and_defaults_of_a_job_are_values_that_exist():
    defaults = {field.name: field.default for field in dataclasses.fields(Job) if field.default is not dataclasses.MISSING}
    assert defaults["rule"] in ("interval", "greedy")
    assert list(itertools.islice(defaults["seeds"], 1)) == [0]
