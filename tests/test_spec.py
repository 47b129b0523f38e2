from __future__ import annotations

import dataclasses
import math
import re
from typing import ClassVar, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wisetune.catalog import Catalog
from wisetune.errors import UsageError
from wisetune.spec import Spec, option, options_of


@dataclasses.dataclass(frozen=True)
class Probe(Spec):
    name: ClassVar[str] = "probe"

    on: str = "here"
    c: float = 0.1
    folds: int = 3
    best_of: bool = False
    rate: float | None = None
    alphas: tuple[float, ...] = (0.0, 0.5)
    rule: Literal["greedy", "interval"] = "interval"


@dataclasses.dataclass(frozen=True)
class Needy(Spec):
    name: ClassVar[str] = "needy"

    first: str
    second: int
    third: int = 3


@dataclasses.dataclass(frozen=True)
class Bounded(Spec):
    share: float = option(0.5, above=0, most=1)
    count: int | None = option(None, least=2)
    offset: float = option(0.0, below=3)
    sizes: tuple[int, ...] = option((1, 2), least=1, most=1 << 20)
    shares: tuple[float, ...] | None = option(None, least=0, most=1)
    free: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Several(Spec):
    parts: tuple[Literal["a", "b"], ...] = ("a",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("parts=", "is empty; it takes at least one of a, b, each once."),
        ("parts=a+a", "is a+a; it takes at least one of a, b, each once."),
        ("parts=b+a+b", "is b+a+b; it takes at least one of a, b, each once."),
        ("parts=a+c", "is 'c'; it can be a, b."),
    ],
)
def test_of_several_words_there_is_at_least_one_and_none_twice(text, says):
    with pytest.raises(UsageError, match=re.escape(f"option 'parts' of 'test_spec:Several' {says}")):
        Several.from_options(text)
    words = tuple(word for word in text.removeprefix("parts=").split("+") if word)
    with pytest.raises(UsageError, match=re.escape(says)):
        Several(words)
    assert Several.from_options("parts=b+a") == Several(("b", "a"))
    assert options_of(Several)[0].takes == "at least one, and joined by + each once, of a, b"


@dataclasses.dataclass(frozen=True)
class Grown(Spec):
    rank: int
    scale: float = option(2.0, absent=1.0)


def reads_back(spec: Spec, text: str | None = None) -> bool:
    name, _, options = (text or str(spec)).partition(":")
    return name == spec.name and type(spec).from_options(options) == spec


def test_a_spec_of_defaults_is_spelled_by_its_name_alone():
    assert str(Probe()) == "probe"
    assert reads_back(Probe())


def test_an_option_that_a_file_does_not_name_means_what_was_before_it():
    """A command line means the default of today."""
    assert Grown.from_options("rank=4") == Grown(4, 2.0)
    assert Grown.from_options("rank=4", filed=True) == Grown(4, 1.0)
    assert Grown.from_options("rank=4,scale=3", filed=True) == Grown(4, 3.0)
    catalog = Catalog("thing", "wisetune.tune", Spec)
    assert catalog.parse(f"{__name__}:Grown:rank=4").scale == 2.0
    assert catalog.parse_imported(f"{__name__}:Grown:rank=4").scale == 1.0


def test_only_what_differs_from_the_defaults_is_spelled_in_the_order_of_the_fields():
    assert str(Probe(best_of=True, on="there", alphas=(0.0, 1.0))) == "probe:on=there,best-of=true,alphas=0.0+1.0"
    assert Probe(best_of=True).in_full() == "probe:on=here,c=0.1,folds=3,best-of=true,rate=none,alphas=0.0+0.5,rule=interval"


@given(
    on=st.text(st.sampled_from("ab/=,[]%25BD: +-_.é\t\\") | st.characters(codec="utf-8"), max_size=12),
    c=st.floats(allow_nan=False),
    folds=st.integers(),
    best_of=st.booleans(),
    rate=st.none() | st.floats(allow_nan=False),
    alphas=st.lists(st.floats(allow_nan=False, min_value=0), max_size=4).map(tuple),
    rule=st.sampled_from(["greedy", "interval"]),
)
@example("", 0.1, 3, False, None, (), "greedy")
@example("]a[", 0.1, 3, False, None, (), "greedy")
@example("scans[1", 0.1, 3, False, None, (), "greedy")
@example("%5B", 0.1, 3, False, None, (), "greedy")
@example("[a]", 0.1, 3, False, None, (), "greedy")
@example(" a=b,[c d],e ", math.inf, 3, False, -0.0, (5e-324,), "greedy")
def test_every_spec_reads_back_from_its_spelling(on, c, folds, best_of, rate, alphas, rule):
    spec = Probe(on, c, folds, best_of, rate, alphas, rule)
    assert reads_back(spec)
    assert reads_back(spec, spec.in_full())


@given(st.text(st.sampled_from("ab,[]=+ %5BD2"), max_size=8))
@example("a[%5D")
def test_a_spec_inside_a_spec_keeps_whole(text):
    inner = Probe(text, 0.5)
    outer = Probe(str(inner))
    assert reads_back(outer)
    name, _, options = Probe.from_options(str(outer).partition(":")[2]).on.partition(":")
    assert (name, Probe.from_options(options)) == ("probe", inner)


def test_the_first_option_may_be_given_without_its_name():
    assert Probe.from_options("scans/train,folds=5") == Probe("scans/train", folds=5)
    assert Probe.from_options("[folder:a b,seed=3],c=1") == Probe("folder:a b,seed=3", 1.0)


def test_a_bracket_without_its_other_half_has_a_spelling_of_its_own():
    assert str(Probe("scans[1")) == "probe:on=scans%5B1"
    assert Probe.from_options("on=scans%5B1,c=1") == Probe("scans[1", 1.0)
    assert str(Probe("100 % [sure]")) == "probe:on=[100 % [sure]]"


def test_options_take_dashes_or_underscores_and_spaces_around():
    assert Probe.from_options(" best-of = yes ,c= 1") == Probe.from_options("best_of=true,c=1") == Probe(best_of=True, c=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("fold=5", r"'probe' has no option 'fold'\. Did you mean 'folds'\? Options: on, c, folds, best-of, rate, alphas, rule\."),
        ("zzz=5", r"'probe' has no option 'zzz'\. Options: on, "),
        ("c=1,c=2", r"'probe' was given 'c' twice"),
        ("a,b", r"'probe' was given 'b', but an option is spelled key=value"),
        ("alphas=0.5, 0.7,1,c=1,2", r"Join the values of 'alphas' by \+: alphas=0\.5\+0\.7\+1\."),
        ("folds=2.5", r"option 'folds' of 'probe' is '2\.5'; it must be a whole number"),
        ("c=much", r"option 'c' of 'probe' is 'much'; it must be a number"),
        ("best-of=maybe", r"option 'best-of' of 'probe' is 'maybe'; it can be true or false"),
        ("rule=random", r"option 'rule' of 'probe' is 'random'; it can be greedy, interval"),
        ("alphas=0+x", r"option 'alphas' of 'probe' is 'x'; it must be a number"),
        ("on=[a", r"opens and closes brackets unevenly\. .* write \[ as %5B"),
        ("on=]a[", r"opens and closes brackets unevenly"),
    ],
)
def test_a_slip_is_refused_with_what_there_is(options, message):
    with pytest.raises(UsageError, match=message):
        Probe.from_options(options)


def test_what_is_required_and_missing_is_named():
    with pytest.raises(UsageError, match=r"'needy' needs second; for example 'needy:second=\.\.\.'"):
        Needy.from_options("here")
    assert reads_back(Needy("here", 2))


def test_none_is_a_word_only_where_none_is_a_value():
    assert Probe.from_options("rate=none").rate is None
    assert Probe.from_options("rate=0.5").rate == 0.5
    assert Probe.from_options("on=none").on == "none"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, "option 'share' of 'test_spec:Bounded' is 0; it must be a number, above 0 and at most 1."),
        ({"share": 1.01}, "is 1.01; it must be a number, above 0 and at most 1."),
        ({"share": math.nan}, "is nan; it must"),
        ({"offset": -math.inf}, "is -inf; it must be a number, below 3"),
        ({"share": "half"}, "is half; it must"),
        ({"share": None}, "is none; it must"),
        ({"count": 2.5}, "is 2.5; it must be a whole number, at least 2."),
        ({"count": 1}, "option 'count' of 'test_spec:Bounded' is 1; it must be a whole number, at least 2."),
        ({"count": True}, "is true; it must be a whole number, at least 2."),
        ({"count": 10**400}, "it must be a whole number, at least 2."),
        ({"count": (2, 3)}, "is 2+3; it must be a whole number, at least 2."),
        (
            {"sizes": (1, 0)},
            "option 'sizes' of 'test_spec:Bounded' is 1+0; each must be a whole number, at least 1 and at most 1048576.",
        ),
        ({"sizes": (1, 2.0)}, "is 1+2.0; each must"),
        ({"sizes": None}, "is None; it must be a tuple, such as"),
        ({"shares": (0.5, 2.0)}, "is 0.5+2.0; each must be a number, at least 0 and at most 1."),
    ],
)
def test_numbers_out_of_the_bounds_of_a_field_are_refused_where_the_spec_is_made(options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        Bounded(**options)
    with pytest.raises(UsageError, match="must be"):
        Bounded.from_options(",".join(f"{name}={value}" for name, value in options.items()))


def test_the_bounds_of_a_tuple_are_those_of_its_items_as_they_are_spelled_too():
    assert Bounded.from_options("sizes=1048576+1") == Bounded(sizes=(1 << 20, 1))
    with pytest.raises(UsageError, match="is 1048577; each must be a whole number, at least 1 and at most 1048576"):
        Bounded.from_options("sizes=1048577")


def test_a_tuple_that_may_be_none_has_its_bounds():
    assert Bounded(shares=(0.5, 1.0)).shares == (0.5, 1.0)
    assert Bounded.from_options("shares=0.5+1.0") == Bounded(shares=(0.5, 1.0))
    assert Bounded(shares=None).shares is None


@pytest.mark.parametrize("name", ["sizes", "shares", "free"])
@pytest.mark.parametrize("value", [3, [1, 2], "1+2"])
def test_what_is_no_tuple_is_refused_where_one_is_declared(name, value):
    with pytest.raises(UsageError, match=re.escape(f"option '{name}' of 'test_spec:Bounded' is {value!r}; it must be a tuple, such as")):
        Bounded(**{name: value})


def test_bounds_themselves_and_none_where_the_field_takes_it_are_accepted():
    assert Bounded(1, None, -1e9).share == 1
    assert Bounded(count=2).count == 2
