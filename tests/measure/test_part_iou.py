from __future__ import annotations

import numpy as np
import pytest
import torch

from wisetune.errors import DataError
from wisetune.measure.part_iou import part_iou

PARTS = {"cap": range(2), "mug": range(2, 5), "bag": range(5, 6)}
TRUTH = [[0, 0, 0, 1], [2, 2, 3, 3], [0, 0, 0, 0]]
ANSWERS = [[0, 0, 1, 1], [2, 2, 2, 3], [0, 0, 0, 0]]
OF = ["cap", "mug", "cap"]
CAP, MUG = (2 / 3 + 1 / 2) / 2, (2 / 3 + 1 / 2 + 1) / 3  # nothing of the mug's third part in either: it counts 1


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_by_hand(form):
    found = part_iou(form(ANSWERS), form(TRUTH), OF, PARTS)
    assert found.categories == pytest.approx({"cap": (CAP + 1) / 2, "mug": MUG})
    assert found.instance == pytest.approx((CAP + MUG + 1) / 3)
    assert found.category == pytest.approx(((CAP + 1) / 2 + MUG) / 2), "a category without shapes has no say"


def test_clouds_may_have_other_numbers_of_points_and_answers_be_of_another_category():
    found = part_iou([np.array([5, 0]), np.array([1])], [np.array([0, 0]), np.array([1])], ["cap", "cap"], PARTS)
    assert found.instance == pytest.approx(((1 / 2 + 1) / 2 + 1) / 2)


@pytest.mark.parametrize(
    ("answers", "truth", "of", "says"),
    [
        (ANSWERS[:2], TRUTH, OF, "answers for 2 shapes, the truth of 3 and the category of 3"),
        ([], [], [], "there has to be one"),
        (ANSWERS, TRUTH, ["cap", "jar", "cap"], "shape 1 is of the category 'jar', which parts= does not name. There are: cap, mug, bag"),
        ([[0, 0], *ANSWERS[1:]], TRUTH, OF, r"shape 0 has answers \[2\] and truth \[4\]"),
        (ANSWERS, [TRUTH[0], [2, 2, 5, 3], TRUTH[2]], OF, r"shape 1 is of the category 'mug' and has points of the part 5"),
    ],
)
def test_what_does_not_fit_is_refused(answers, truth, of, says):
    with pytest.raises(DataError, match=says):
        part_iou(answers, truth, of, PARTS)
