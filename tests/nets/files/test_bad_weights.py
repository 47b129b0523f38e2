"""What can be wrong with a released file, tried on every family: one error of one type, and a model that is as it was."""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Iterator

import pytest
import safetensors.torch
import torch

from weight_faults import Call, patched_size, saved
from wisetune.errors import BadFile, WeightsError
from wisetune.nets.create import BACKBONES, create
from wisetune.nets.files.official import load_official
from wisetune.nets.model import Model

FAMILIES = BACKBONES.names()
SAME_NAMES = [{"act", "point-mae"}, {"maskpoint", "point-bert"}]
"""Classifiers of these cannot be told apart by names and shapes: they are one architecture."""
STRANGERS = [(one, other) for one in FAMILIES for other in FAMILIES if one != other and {one, other} not in SAME_NAMES]


def model(family: str, classes: int = 3, seed: int = 0) -> Model:
    return copy.deepcopy(_made(family, classes, seed))


@functools.cache
def _made(family: str, classes: int, seed: int) -> Model:
    return create(f"{family}-mini", classes=classes, head="mlp3", seed=seed, **({"class_token": True} if family == "point-mae" else {}))


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def released(family) -> dict[str, torch.Tensor]:
    """A classifier's state dict of this family."""
    return model(family, seed=9).state_dict()


@pytest.fixture
def refusing(family, tmp_path) -> Iterator[tuple[Model, object]]:
    """A model that has to stay as it is, and where to write the file."""
    mine = model(family)
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    yield mine, tmp_path / "w.pth"
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())


@pytest.mark.parametrize(("family", "other"), STRANGERS, indirect=["family"])
def test_another_model_s_checkpoint_is_named(family, refusing, other):
    mine, path = refusing
    torch.save({"base_model": model(other).state_dict()}, path)
    with pytest.raises(
        WeightsError, match=rf"^w\.pth does not fit this {family}: .* It looks like (.* or )?{other} .*Nothing was loaded\.$"
    ):
        load_official(mine, path)


def test_another_class_count_leaves_the_head_fresh_and_says_so(family, tmp_path):
    mine, theirs = model(family), model(family, classes=5, seed=9).state_dict()
    torch.save({"base_model": theirs}, tmp_path / "w.pth")
    head = {name: value.clone() for name, value in mine.state_dict().items() if name.startswith(mine.head_prefixes)}
    report = load_official(mine, tmp_path / "w.pth")
    assert set(report.fresh) == set(report.ignored) == set(head)
    assert f"other size       {mine.head_prefixes[0]}8.weight: 5x256 in the file, 3x256 here" in str(report)
    state = mine.state_dict()
    assert all(torch.equal(state[name], head.get(name, theirs[name])) for name in state)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(refusing, released, kind, share):
    data = (
        safetensors.torch.save({name: value.contiguous() for name, value in released.items()})
        if kind == "safetensors"
        else saved({"base_model": released}, _use_new_zipfile_serialization=kind == "zip")
    )
    mine, path = refusing
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadFile, match=rf"^{re.escape(str(path))}: .*(cut off|damaged|cannot read)"):
        load_official(mine, path)


@pytest.mark.parametrize("place", ["beside", "among"])
def test_objects_are_never_executed(refusing, released, tmp_path, place):
    mine, path = refusing
    call = Call(os.system, f"touch {tmp_path / 'canary'}")
    path.write_bytes(saved({"base_model": released, "x": call} if place == "beside" else {"base_model": {**released, "x": call}}))
    with pytest.raises(BadFile, match=r"would run '(posix|nt)\.system'"):
        load_official(mine, path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(refusing, released, value):
    mine, path = refusing
    name = next(name for name in released if name.endswith("attn.qkv.weight"))
    released[name][1, 2] = value
    torch.save({"base_model": released}, path)
    with pytest.raises(WeightsError, match=rf"^w\.pth has values that are not finite, in '{re.escape(name)}'"):
        load_official(mine, path)


def test_a_file_that_declares_more_than_it_is(refusing, released):
    mine, path = refusing
    path.write_bytes(patched_size(saved({"base_model": released})))
    with pytest.raises(BadFile, match=r"declares \d+ bytes inside a file of|cannot be read"):
        load_official(mine, path)


@pytest.mark.parametrize(
    ("content", "error"), [({"base_model": {}}, BadFile), ({"base_model": {"x": torch.ones(1)}}, WeightsError), ({}, BadFile)]
)
def test_a_load_of_nothing(refusing, content, error):
    mine, path = refusing
    torch.save(content, path)
    with pytest.raises(error, match=r"no weights|none of its 1 tensors has a place"):
        load_official(mine, path, min_coverage=0)


@pytest.mark.parametrize("prefix", ["module.", "module.module."])
def test_a_prefix_of_data_parallel_changes_nothing(family, released, tmp_path, prefix):
    reports = []
    for name, before in (("plain", ""), ("prefixed", prefix)):
        torch.save({"base_model": {before + key: value for key, value in released.items()}}, tmp_path / f"{name}.pth")
        mine = model(family)
        reports.append(load_official(mine, tmp_path / f"{name}.pth"))
        assert all(torch.equal(value, released[key]) for key, value in mine.state_dict().items())
    plain, prefixed = reports
    assert (plain.prefix, prefixed.prefix) == ("", "module.")
    assert (plain.loaded, plain.fresh, plain.ignored) == (prefixed.loaded, prefixed.fresh, prefixed.ignored)
