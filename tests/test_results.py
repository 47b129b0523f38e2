from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from wisetune.records import Record
from wisetune.results import FORMAT, Chosen, Cloud, Results, Row

words = st.text(max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.dictionaries(words, numbers | words | st.lists(st.integers(), max_size=3), max_size=3)
records = st.builds(Record, words, words, words, words, words, words, numbers, st.integers(0), numbers, numbers, plain)
results = st.builds(
    Results,
    study=plain,
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


def test_the_file_says_its_format():
    assert Results({}, {}, [], [], [], {}, {}).to_json()["format"] == FORMAT == 1
