import numpy as np
import pandas as pd
import pytest

from hsa.reporting import chapter_sentences as told
from hsa.study.settings import Marker

KIND = Marker(negative="low", positive=">= 3+ *strong*")


def number(value, low, high, **more):
    return {"value": value, "low": low, "high": high, "n": 500, **more}


def test_names_of_classes_are_text_and_not_signs():
    assert told.marker("HER2", KIND) == r"**HER2**: classes low, \>= 3+ \*strong\*; positive: \>= 3+ \*strong\*."


def test_patients_that_stand_in_two_parts_are_counted():
    cases = pd.DataFrame({"case_id": list("abcd"), "patient_id": list("ppqr"), "label": [1, 1, 0, -1]})
    folds = pd.DataFrame({"case_id": list("abcd"), "fold": 0, "split": ["train", "train", "test", "val"]})
    said = told.dealt(cases, folds, Marker())
    assert (
        said
        == "4 cases of 3 patients, 2 positive, 1 without a label. No patient stands in more than one part of a fold."
    )
    folds["split"] = ["train", "test", "test", "val"]
    assert "In 1 instances a patient stands in more than one part" in told.dealt(cases, folds, Marker())


def test_whether_the_validation_loss_rises_is_counted_and_not_believed():
    def history(*ends):
        rows = [(f, e, "val", v) for f, end in enumerate(ends) for e, v in enumerate((2.0, 1.0, end))]
        return pd.DataFrame(rows, columns=["fold", "epoch", "split", "total"])

    assert told.turned(history(2.0, 1.5, 0.5)).startswith("In 2 of 3 folds")
    assert "it is 1.50 times as high" in told.turned(history(2.0, 1.5, 0.5))
    assert told.turned(history(0.5, 0.6)).startswith("In 0 of 2 folds")


def test_epochs_kept_are_those_of_each_method():
    said = told.epochs(pd.DataFrame([[3, 24], [0, 5]], index=["Full", "Base"]), 24)
    assert said.startswith("Epochs kept, of 0 to 24: Full: 3 to 24; Base: 0 to 5.")


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (
            number(0.03, 0.01, 0.05),
            "is higher than that of the baseline: the difference is +0.030 [+0.010, +0.050], by one",
        ),
        (number(-0.03, -0.05, -0.01), "is lower than"),
        (number(0.03, -0.01, 0.07), "is not told apart"),
        (number(0.03, 0.01, 0.05, seeds=5, seed_sd=0.05), "is not told apart"),
        (number(0.03, 0.01, 0.05, seeds=5, seed_sd=0.001), "training seeds counted"),
    ],
)
def test_the_verdict_of_a_stain_counts_seeds(gain, says):
    assert says in told.verdict({"difference": {"metrics": {"roc_auc": gain}}})


def test_what_a_threshold_kept_is_said_as_it_came_out():
    values = {"sensitivity": (0.97, 0.96, 0.99), "saved": (0.2, 0.1, 0.3), "npv": (0.9, 0.8, 1.0), "missed": (2, 1, 3)}
    at = pd.DataFrame(values, index=["value", "low", "high"]).T.rename_axis("measure").reset_index()
    said = told.threshold(at, 0.95, 7)
    assert "The interval lies above the 95% that was aimed at" in said and "as few as 7" in said
    assert "Of the unstained, 0.900 [0.800, 1.000] were negative" in said
    at.loc[at["measure"] == "sensitivity", "low"] = 0.9
    at.loc[at["measure"] == "npv", "value"] = np.nan
    said = told.threshold(at, 0.95, 7)
    assert "The interval holds values below the 95%" in said and "unstained" not in said


def test_a_cohort_that_can_show_nothing_says_so():
    found = {
        "cases": {"n": 20, "positive": 3},
        "power": {"detectable": None, "auc": 0.75, "correlation": 0.6, "power": 0.8},
    }
    assert "no difference of two AUCs is seen" in told.power(found, Marker())
    found["power"]["detectable"] = 0.1234
    assert "an AUC of 0.75 is told from one that is higher by 0.123 with a power of 80%" in told.power(found, Marker())


def test_alignment_stands_beside_that_of_the_baseline():
    one = {"alignment": number(0.1, 0.05, 0.15), "recall_1": number(0.3, 0.2, 0.4, chance=0.02)}
    other = {"alignment": number(0.2, 0.15, 0.25), "recall_1": number(0.1, 0.0, 0.2, chance=0.02)}
    found = {"alignment": {"full": one, "base": other}, "difference": {"alignment": {"p": 0.885, "n": 120}}}
    said = told.aligned(found, "full", "base")
    assert "full method: +0.100 [+0.050, +0.150]; of the baseline: +0.200" in said and "p = 0.885, n = 120" in said
    assert "in 30% of cases (chance 2%), with the baseline in 10%" in said
    found["difference"]["alignment"]["p"] = 1e-9
    assert "p < 0.001, n" in told.aligned(found, "full", "base")
