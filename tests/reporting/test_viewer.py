import re

import numpy as np
import pandas as pd
import pytest

from hsa.reporting import viewer


def predictions(scores, labels):
    rows = {"case_id": [f"C{n:04}" for n in range(len(scores))], "score": scores, "label": labels}
    test = pd.DataFrame(rows).assign(split="test", fold=0)
    return pd.concat([test, test.assign(split="val", score=1 - test["score"])], ignore_index=True)


def test_the_surest_right_case_and_the_worst_wrong_one_are_shown():
    found = viewer.picked(predictions([0.9, 0.1, 0.95, 0.4, 0.2], [1, 0, 0, 0, 1]))
    assert [row["case_id"] for row in found] == ["C0000", "C0002"]
    assert [row["split"] for row in found] == ["test", "test"]


@pytest.mark.parametrize(("labels", "name"), [([1, 1], "C0000"), ([0, 0], "C0000")])
def test_where_all_are_right_or_wrong_one_case_is_shown(labels, name):
    assert [row["case_id"] for row in viewer.picked(predictions([0.9, 0.6], labels))] == [name]


def test_a_score_at_the_threshold_is_said_to_be_positive_and_so_wrong_for_a_negative_case():
    (row,) = viewer.picked(predictions([0.5], [0]))
    assert row["case_id"] == "C0000"


def test_the_outline_of_a_mask_encloses_it_in_pixels_of_the_slide():
    mask = np.zeros((10, 20), bool)
    mask[2:5, 3:9] = True
    path = viewer.outline(mask, 16)
    places = np.array([[int(n) for n in pair.split()] for pair in re.findall(r"\d+ \d+", path)])
    assert path.startswith("M") and path.endswith("Z")
    assert places.min(0).tolist() == [3 * 16, 2 * 16] and places.max(0).tolist() == [9 * 16, 5 * 16]


def test_a_mask_that_fills_the_slide_has_an_outline_and_two_parts_have_two():
    assert viewer.outline(np.ones((4, 4), bool), 8).count("Z") == 1
    apart = np.zeros((9, 9), bool)
    apart[1:3, 1:3] = apart[6:8, 6:8] = True
    assert viewer.outline(apart, 8).count("M") == 2
    assert viewer.outline(np.zeros((4, 4), bool), 8) == ""


def test_tiles_and_cells_are_drawn_where_they_lie():
    assert viewer.squares(np.array([[0, 256], [512, 0]]), 256) == "M0 256h256v256h-256ZM512 0h256v256h-256Z"
    assert viewer.dots(np.array([[1.4, 2.6]])) == "M1 3h0"
