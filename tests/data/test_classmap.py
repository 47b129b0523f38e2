from __future__ import annotations

import pytest

from wisetune.data.classmap import match
from wisetune.errors import DataError, UsageError

LEFT = ("bathtub", "Night Stand", "chair", "sofa")


def test_names_match_whatever_their_case_spaces_and_dashes():
    found = match(LEFT, ("night_stand", "CHAIR", "bath-tub"))
    assert found.pairs == (("bathtub", "bath-tub"), ("Night Stand", "night_stand"), ("chair", "CHAIR"))
    assert found.shared == ("bathtub", "Night Stand", "chair")
    assert found.only_left == ("sofa",)
    assert found.only_right == ()
    assert found.rows.tolist() == [1, 2, 0]


def test_never_by_position():
    assert match(("a", "b"), ("b", "a")).rows.tolist() == [1, 0]


def test_what_has_no_partner_is_refused_with_the_map_and_a_hint():
    with pytest.raises(DataError, match=r"2 classes have no partner: chairs \(like 'chair'\?\), lamp[.](.|\n)*map=shared(.|\n)*sofa +="):
        match(LEFT, ("sofa", "chairs", "lamp"))


def test_shared_leaves_the_rest_out():
    found = match(LEFT, ("sofa", "lamp"), "shared")
    assert (found.shared, found.only_right, found.rows.tolist()) == (("sofa",), ("lamp",), [3, -1])


def test_pairs_may_send_several_to_one():
    found = match(LEFT, ("armchair", "stool", "sofa"), "chair=armchair, chair=stool")
    assert found.rows.tolist() == [2, 2, 3]
    assert found.shared == ("chair", "sofa")


def test_pairs_and_shared():
    assert match(LEFT, ("armchair", "lamp"), "chair=armchair,shared").only_right == ("lamp",)


def test_a_pair_overrides_the_name():
    assert match(("sofa", "couch"), ("sofa", "couch"), "sofa=couch,couch=sofa").rows.tolist() == [1, 0]


def test_nothing_shared():
    with pytest.raises(DataError, match=r"share no name\. Left: chair\. Right: stool"):
        match(("chair",), ("stool",), "shared")


@pytest.mark.parametrize(
    ("left", "right"), [(("0", "1"), ("0", "1")), (("class_0", "class_1"), ("class 1",)), (("chair", "7"), ("chair", "7"))]
)
def test_numbers_are_not_matched_silently(left, right):
    with pytest.raises(DataError, match="are numbers"):
        match(left, right)


def test_numbers_are_matched_when_said():
    assert match(("0", "1"), ("1", "0"), "0=0,1=1").rows.tolist() == [1, 0]


def test_names_with_numbers_in_them_are_names():
    assert match(("f16", "boeing747"), ("F16", "boeing 747")).rows.tolist() == [0, 1]


def test_ambiguous_names():
    with pytest.raises(DataError, match=r"class 'CHAIR' fits more than one name \(Chair, chair\)"):
        match(("Chair", "chair"), ("CHAIR",))
    with pytest.raises(DataError, match="fits more than one"):
        match(("CHAIR",), ("Chair", "chair"))
    assert match(("Chair", "chair"), ("chair", "Chair")).rows.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("chair", "takes left=right pairs"),
        ("stool=sofa", r"first data set has no class 'stool'"),
        ("chiar=sofa", r"Did you mean 'chair'\?"),
        ("chair=lamp", "second data set has no class 'lamp'"),
        ("chair=sofa,sofa=sofa", "pairs 'sofa' twice"),
    ],
)
def test_a_wrong_map_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        match(LEFT, ("sofa",), given)


def test_table():
    assert match(LEFT, ("chair", "lamp"), "shared").table().splitlines() == [
        "chair       = chair",
        "bathtub     =",
        "Night Stand =",
        "sofa        =",
        "            = lamp",
    ]
