import numpy as np
import pandas as pd
import pytest

from hsa.pipeline.experiment import subgroups
from hsa.study.study import load
from hsa.virtual.recipe import Recipe

CASES = 300


@pytest.fixture(scope="module")
def study():
    return load("diffuse")


@pytest.fixture(scope="module")
def drawn(study):
    recipe = Recipe(study.cohort.slide_px, study.cohort.strength, study.cohort.seed)
    return [recipe.case(index) for index in range(CASES)]


@pytest.fixture(scope="module")
def cases(drawn):
    """Two methods by two seeds: the full one knows the positives that lost P53, and nobody knows more."""
    rng, rows = np.random.default_rng(0), []
    for seed in (10, 11):
        for index, case in enumerate(drawn):
            fraction = case.fractions["P53"]
            label = int(fraction > 0.6 or fraction == 0)
            row = {"marker": "P53", "seed": seed, "case_id": f"C{index:04}", "patient_id": f"P{index:04}"}
            row |= {"fold": index % 2, "label": label, "chance": 0.5}
            for method, known in (("no_contrast", 0.0), ("full", 4.0 * (fraction == 0))):
                rows.append(row | {"method": method, "score_validated": known + rng.normal()})
    return pd.DataFrame(rows)


def test_a_contrast_is_found_where_it_lies(study, drawn, cases):
    found = {row["subgroup"]: row for row in subgroups.rows(study, cases)}
    assert set(found) == {
        "least tumour, a third",
        "more tumour, two thirds",
        "positive by loss, all negative",
        "positive by excess, all negative",
    }
    assert found["positive by loss, all negative"]["low"] > 0.2
    excess = found["positive by excess, all negative"]
    assert excess["low"] < 0 < excess["high"]
    lost = sum(case.fractions["P53"] == 0 for case in drawn)
    assert found["positive by excess, all negative"]["n"] == CASES - lost
    assert found["least tumour, a third"]["n"] + found["more tumour, two thirds"]["n"] == CASES
    little = sorted(case.latents["tumour_share"] for case in drawn)[: found["least tumour, a third"]["n"]]
    assert len(little) == pytest.approx(CASES / 3, abs=1)


def test_a_subgroup_of_one_class_has_no_number_and_is_not_left_out(study, cases):
    one = cases[(cases["label"] == 1) | (cases["fold"] == 0)]
    assert all(row["value"] is None and row["n"] for row in subgroups.rows(study, one))


def test_a_cohort_of_tiles_has_no_subgroups(cases):
    assert subgroups.rows(load("focal"), cases) == []
