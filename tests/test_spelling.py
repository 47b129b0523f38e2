from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wisetune.errors import UsageError
from wisetune.spelling import apart, quote, split, unquote


@given(st.lists(st.text(st.sampled_from("ab,[]=+ %5BD2"), min_size=1, max_size=8), max_size=3))
@example(["]a[", "a[%5D", " ", "a=b,[c]"])
def test_texts_that_are_quoted_and_joined_come_apart_again(texts):
    assert list(map(unquote, split(",".join(map(quote, texts)), ","))) == texts


@pytest.mark.parametrize(
    ("text", "found", "rest"),
    [
        ("", {}, ""),
        ("epochs=3,lr=1", {}, "epochs=3,lr=1"),
        ("30,lr=1", {}, "30,lr=1"),
        ("-1", {}, "-1"),
        ("official", {"preset": "official"}, ""),
        ("official, lr=1, reading=as_published", {"preset": "official", "reading": "as_published"}, " lr=1"),
        ("lr=1,preset=[a,b]", {"preset": "a,b"}, "lr=1"),
        ("lr=1,official", {}, "lr=1,official"),
    ],
)
def test_options_of_other_names_are_taken_apart(text, found, rest):
    assert apart(text, ("preset", "reading")) == (found, rest)


def test_an_option_taken_apart_is_given_once():
    with pytest.raises(UsageError, match="gives 'reading' twice"):
        apart("reading=a,reading=b", ("preset", "reading"))
