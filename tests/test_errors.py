from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from wisetune import errors
from wisetune.errors import BadFile, DataError, MissingExtra, WisetuneError, an, as_typed, counted, did_you_mean, first_of, part_of, spelled

ALL = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, WisetuneError)]


def made(kind: type[WisetuneError]) -> WisetuneError:
    return kind("scans/a.ply", "it is empty", "leave it out") if kind is BadFile else kind("what was asked, what is there, what to do")


def test_the_codes_are_those_of_the_tree_in_the_modules_docstring():
    tree = {name: int(code) for name, code in re.findall(r"── (\w+) +(\d+) ", errors.__doc__ or "")}
    assert tree == {kind.__name__: kind.exit_code for kind in ALL if kind is not WisetuneError}
    assert WisetuneError.exit_code == 1


def test_the_codes_are_those_that_scripts_rely_on():
    by_name = {kind.__name__: kind.exit_code for kind in ALL}
    assert by_name == {
        "WisetuneError": 1,
        "UsageError": 2,
        "DataError": 65,
        "BadFile": 65,
        "WeightsError": 65,
        "MissingExtra": 69,
        "TrainingError": 70,
        "StorageError": 73,
        "Busy": 75,
    }


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
def test_every_error_survives_the_way_between_processes(kind, copied):
    error = made(kind)
    back = copied(error)
    assert (type(back), str(back), back.args, vars(back)) == (kind, str(error), error.args, vars(error))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_says_when_it_is_raised(kind):
    assert kind.__doc__


def test_a_bad_file_says_which_what_and_what_to_do():
    error = BadFile("scans/a.ply", "it is empty", "leave it out")
    assert str(error) == "scans/a.ply: it is empty (leave it out)"
    assert (error.path, error.wrong, error.do) == ("scans/a.ply", "it is empty", "leave it out")
    assert isinstance(error, DataError)
    assert str(BadFile("a.ply", "it is empty")) == "a.ply: it is empty"


def test_a_missing_library_comes_with_the_command_that_installs_it():
    assert str(MissingExtra.of("laspy", "las", "reading scan.las")) == (
        "reading scan.las needs the library 'laspy', which is not installed. Install it with: pip install 'wisetune[las]'"
    )


def test_the_nearest_word_is_asked_for_where_one_is_near():
    words = {"chair": 0, "table": 1, "chairs": 2}
    assert did_you_mean("chiar", words) == " Did you mean 'chair'?"
    assert did_you_mean("chiar", iter(words)) == " Did you mean 'chair'?"
    assert [did_you_mean("sofa", words), did_you_mean("sofa", ())] == ["", ""]


def test_counts_have_their_noun_and_verb():
    assert [counted(n, "file", "is", "are") for n in (0, 1, 3)] == ["0 files are", "1 file is", "3 files are"]
    assert [counted(n, noun) for n in (1, 1200) for noun in ("class", "mix", "seed")] == [
        "1 class", "1 mix", "1 seed", "1,200 classes", "1,200 mixes", "1,200 seeds"
    ]  # fmt: skip
    said = [part_of(n, total, "epoch", "was", "were") for n, total in ((0, 1), (1, 4), (3, 4))]
    assert said == ["0 of 1 epoch was", "1 of 4 epochs was", "3 of 4 epochs were"]


def test_many_are_named_by_the_first_and_their_number():
    assert first_of(["a", "b", "c", "d"]) == "a, b, c, d"
    assert first_of(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d and 2 more"
    assert first_of(range(3), 2) == "0, 1 and 1 more"
    assert first_of([]) == ""


@pytest.mark.parametrize(
    ("word", "meant"), [("Point-MAE", "point-mae"), ("point_mae", "point-mae"), ("scan", "scanobjectnn"), ("zebra", "")]
)
def test_capitals_underscores_and_beginnings_are_near(word, meant):
    among = ["point-mae", "scanobjectnn-linear", "scanobjectnn"]
    assert did_you_mean(word, among) == (f" Did you mean '{meant}'?" if meant else "")


def test_options_are_spelled_as_whoever_asked_would():
    assert (spelled("family", "act"), spelled("head_fit")) == ("family='act'", "head_fit=")
    with as_typed():
        assert (spelled("family", "act"), spelled("head_fit")) == ("--family act", "--head-fit")
    assert spelled("family", "act") == "family='act'"


def test_a_noun_has_its_article():
    assert [an(noun) for noun in ("act", "recon", "point-mae")] == ["an act", "a recon", "a point-mae"]
