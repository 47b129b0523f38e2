from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisetune.errors import BadFile
from wisetune.plain import from_plain
from wisetune.records import Record
from wisetune.results import FORMAT, Chosen, Cloud, DataSet, Results, Row, Step, Study, Variant, Words

words = st.text(max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
# What may be named freely is named unlike anything that pages look for.
plain = st.dictionaries(words.map("own {}".format), numbers | words | st.lists(st.integers(), max_size=3), max_size=3)
records = st.builds(Record, words, words, words, words, words, words, numbers, st.integers(0), numbers, numbers, plain)
sets = st.builds(DataSet, words, words, st.lists(words), st.dictionaries(words, st.dictionaries(words, st.integers())), plain, words)
studies = st.builds(
    Study,
    sweeps=st.lists(words, max_size=2),
    task=sets,
    probes=st.lists(sets, max_size=2),
    seeds=st.lists(st.integers(), max_size=2),
    recommended=st.none() | st.builds(Variant, words, st.none() | numbers),
    warnings=st.lists(words, max_size=2),
    reproduce=st.lists(words, max_size=2),
    methods=st.dictionaries(words, st.builds(Words, words, words, words), max_size=2),
)
steps = st.builds(Step, *[numbers] * 5, st.booleans(), words, st.none() | numbers, st.none() | numbers)
results = st.builds(
    Results,
    study=studies,
    stamp=plain,
    rows=st.lists(st.builds(Row, words, st.none() | numbers, st.integers(), records), max_size=3),
    chosen=st.lists(st.builds(Chosen, words, words, st.integers(), numbers, words, words, st.lists(steps, max_size=2)), max_size=2),
    clouds=st.lists(st.builds(Cloud, words, words, words, numbers, numbers, st.lists(st.integers(), max_size=6)), max_size=2),
    audits=st.dictionaries(words, st.lists(plain, max_size=2), max_size=2),
    log=st.dictionaries(words, st.lists(st.dictionaries(words, numbers, max_size=2), max_size=2), max_size=2),
)


@given(results)
def test_results_survive_their_file(found):
    written = json.dumps(found.to_json())
    back = Results.from_json(json.loads(written))
    assert back == found
    assert json.dumps(back.to_json()) == written


def test_a_row_is_its_record_with_a_place():
    record = Record("w", "accuracy", "scans", "d", "val", "accuracy", 0.5, 10, 0.2, 0.8, {"right": "1"})
    row = Row("wise-ft", 0.5, 3, record)
    assert row.to_json() == {"method": "wise-ft", "alpha": 0.5, "seed": 3, **record.to_json()}
    assert from_plain(Row, row.to_json()) == row


def test_the_file_says_its_format_and_another_is_refused():
    written = whole()
    assert written["format"] == FORMAT
    for other in ({**written, "format": FORMAT + 1}, {key: value for key, value in written.items() if key != "format"}):
        with pytest.raises(ValueError, match=rf"they are of format .*, and this version reads format {FORMAT}"):
            Results.from_json(other)


def whole() -> dict[str, Any]:
    """The values of a file in which nearly nothing is empty."""
    task = DataSet("scans", "d", ["a"], {"test": {"a": 1}}, {}, "svm")
    record = Record("w", "m", "scans", "d", "test", "accuracy", 0.5, 2, 0.1, 0.9, {"confusion": [[1]], "right": "10"}, role="accuracy")
    values = dict.fromkeys(("story", "headline", "reference", "start", "architecture", "start_weights", "head", "fit", "gentle_fit"), "x")
    values |= dict.fromkeys(("head_fit", "rule", "corruption", "selection"), "x")
    said = Study(
        **values,
        sweeps=["ft"],
        task=task,
        probes=[task],
        seeds=[0],
        recommended=Variant("ft", 0.5),
        warnings=["w"],
        methods={"ft": Words("f", "t", "h")},
    )
    chosen = Chosen("ft", "greedy", 0, 0.5, "accuracy", "why", [Step(0.5, 0.9, 0.8, 0.0, 1.0, True, "so", -1.0, 1.0)])
    cloud = Cloud("0.ply", "a", "b", 0.5, 0.1, [1, 2, 3])
    return Results(said, {}, [Row("ft", 0.5, 0, record)], [chosen], [cloud], {"a": [{"ok": True}]}, {"ft": [{"loss": 0.5}]}).to_json()


def places(value: object, under: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*under, key)
        yield from places(inner, (*under, key))


def spelled(place: tuple[Any, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)[1:]


NAMED = {"counts", "stamp", "protocol", "detail", "audits", "log", "methods"}
"""What holds names of somebody's choice, any of which may be missing."""
DEFAULTS = {"detail", "objects", "role", "spec", "change_low", "change_high", "recommended", "warnings", "command", "reproduce", "methods"}
DEFAULTS |= {"seconds", "trainings", "found", "decided", "keep", "tuning", "costs", "noted"}
"""What has a default, which stands for it where it is missing."""
PLACES = list(places(whole()))


def without(place: tuple[Any, ...]) -> dict[str, Any]:
    values = inside = whole()
    for key in place[:-1]:
        inside = inside[key]
    del inside[place[-1]]
    return values


OURS = [place for place in PLACES if isinstance(place[-1], str) and not NAMED & {*place[:-1]}]


@pytest.mark.parametrize("place", [place for place in OURS if place[-1] in DEFAULTS], ids=spelled)
def test_a_file_from_before_there_was_a_field_is_read_with_its_default(place):
    found = Results.from_json(without(place)).to_json()
    for key in place:
        found = found[key]
    assert found in (None, "", 0, [], {}, "full")


@pytest.mark.parametrize("place", [place for place in OURS if place[-1] not in DEFAULTS], ids=spelled)
def test_every_other_part_of_the_file_must_be_there(place):
    values, name = without(place), place[-1]
    with pytest.raises(ValueError, match=rf"has no '{name}'" if place != ("format",) else "of format None"):
        Results.from_json(values)


@pytest.mark.parametrize("place", [place for place in PLACES if place[:-1] != ("audits", "a", 0) and place != ("format",)], ids=spelled)
def test_every_part_of_the_file_is_of_its_type(place):
    values = whole()
    *way, name = place
    inside = values
    for key in way:
        inside = inside[key]
    inside[name] = {"of": "no such type"} if not isinstance(inside[name], dict) else []
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        Results.from_json(values)
    assert str(caught.value).startswith(f"{spelled(place)} is ")


@pytest.mark.parametrize("text", ["[" * 100_000, "\udcff", "3", f'{{"format": {FORMAT}}}', "{"])
def test_a_file_that_holds_no_results_is_a_bad_file(text, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(text, errors="surrogateescape")
    with pytest.raises(BadFile, match=r"results\.json: cannot be read as results \(.*\) \(run the run's command again"):
        Results.read(file)


def test_a_file_says_where_it_is_wrong(tmp_path):
    file, values = tmp_path / "results.json", whole()
    values["rows"][0]["value"] = "high"
    file.write_text(json.dumps(values))
    with pytest.raises(BadFile, match=r'results\.json: cannot be read as results \(rows\[0\]\.value is "high", and must be a number\)'):
        Results.read(file)


def test_a_file_of_another_format_says_which_and_what_to_do(tmp_path):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(whole() | {"format": 1}))
    with pytest.raises(
        BadFile, match=rf"of format 1, and this version reads format {FORMAT}\) \(run the run's command again, .*that wrote it\)"
    ):
        Results.read(file)
