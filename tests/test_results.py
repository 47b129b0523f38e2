from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wisetune.records import Record
from wisetune.results import FORMAT, Chosen, Cloud, DataSet, Recommended, Results, Row, Study

words = st.text(max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.dictionaries(words, numbers | words | st.lists(st.integers(), max_size=3), max_size=3)
records = st.builds(Record, words, words, words, words, words, words, numbers, st.integers(0), numbers, numbers, plain)
sets = st.builds(DataSet, words, words, st.lists(words), st.dictionaries(words, st.dictionaries(words, st.integers())), plain, words)
studies = st.builds(
    Study,
    sweeps=st.lists(words, max_size=2),
    task=sets,
    probes=st.lists(sets, max_size=2),
    seeds=st.lists(st.integers(), max_size=2),
    recommended=st.none() | st.builds(Recommended, words, st.none() | numbers),
    warnings=st.lists(words, max_size=2),
    reproduce=st.lists(words, max_size=2),
)
results = st.builds(
    Results,
    study=studies,
    stamp=plain,
    rows=st.lists(st.builds(Row, words, st.none() | numbers, st.integers(), records), max_size=3),
    chosen=st.lists(st.builds(Chosen, words, words, st.integers(), numbers, words, words, st.lists(plain, max_size=2)), max_size=2),
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
    assert Row.from_json(row.to_json()) == row


@given(results)
def test_the_file_says_its_format_and_another_is_refused(found):
    written = found.to_json()
    assert written["format"] == FORMAT
    for other in ({**written, "format": FORMAT + 1}, {key: value for key, value in written.items() if key != "format"}):
        with pytest.raises(ValueError, match=rf"they are of format .*, and this version reads {FORMAT}"):
            Results.from_json(other)
