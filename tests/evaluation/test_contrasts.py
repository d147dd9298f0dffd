import numpy as np
import pandas as pd
import pytest

from hsa.errors import InputError
from hsa.evaluation.comparison import holm
from hsa.evaluation.contrasts import compare, levels, predictions_of
from hsa.evaluation.within import contrast
from hsa.study.settings import Contrast

ASKED = {
    "better": Contrast(of="good", minus="plain", asks="Is good better?"),
    "worse": Contrast(of="bad", minus="plain", asks="Is bad better?"),
    "absent": Contrast(of="other", minus="plain", asks="Is what nobody ran better?"),
}


@pytest.fixture
def cases():
    """Kept cases of two markers, three methods and two seeds; one case has no label, one no pair."""
    rng, frames = np.random.default_rng(0), []
    for marker in ("P53", "Ki-67"):
        label = np.arange(200) % 3 == 0
        shared = rng.standard_normal(200)
        for method, gap in (("plain", 1.0), ("good", 2.5), ("bad", 0.0)):
            for seed in (0, 1):
                score = gap * label + shared + 0.3 * rng.standard_normal(200)
                case = [f"c{i:03}" for i in range(200)]
                frame = pd.DataFrame({"case_id": case, "patient_id": case, "fold": np.arange(200) // 3 % 5})
                frame = frame.assign(label=label.astype(int), marker=marker, method=method, seed=seed)
                frame["chance"] = 1 / (1 + np.exp(1 - score))
                frame = frame.assign(paired=0.5, shuffled=0.25, hit=(np.arange(200) % 4 == 0).astype(float))
                for rule, sign in (("validated", 1), ("last", 1), ("published", -1)):
                    frame[f"score_{rule}"] = sign * score
                blank = [name for name in frame if name.startswith(("score", "chance"))]
                frame.loc[7, ["label"]] = -1
                frame.loc[7, blank] = np.nan
                frame.loc[9, ["paired", "shuffled", "hit"]] = np.nan
                frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def test_a_contrast_is_of_two_methods_and_corrected_with_all_that_is_tested(cases):
    found = compare(cases, ASKED)
    assert found[["contrast", "marker"]].apply(tuple, axis=1).tolist() == [
        ("better", "P53"), ("worse", "P53"), ("better", "Ki-67"), ("worse", "Ki-67")
    ]  # fmt: skip
    assert found["verdict"].tolist() == ["higher", "lower"] * 2
    known = contrast(predictions_of(cases, "P53", "plain"), predictions_of(cases, "P53", "good"))
    assert found.loc[0, "value"] == pytest.approx(known["value"])
    assert found["p_holm"].tolist() == pytest.approx(list(holm(dict(enumerate(map(float, found["p"])))).values()))
    assert (found["n"] == 199).all()


def test_another_rule_can_give_another_answer(cases):
    assert compare(cases, ASKED, "published")["verdict"].tolist() == ["lower", "higher"] * 2


def test_seeds_that_one_method_lacks_are_left_out(cases):
    fewer = cases[(cases["method"] != "good") | (cases["seed"] == 0)]
    assert compare(fewer, ASKED)["seeds"].tolist() == [1, 2, 1, 2]


def test_levels_say_what_each_method_reached_and_how_it_aligns(cases):
    folds = pd.DataFrame(
        {"marker": marker, "method": method, "fold": k, "pairs": 40, "cosine_he": 0.9, "validated": 10 + k}
        for marker in ("P53", "Ki-67")
        for method in ("plain", "good", "bad")
        for k in range(5)
    )
    found = levels(cases, folds).set_index(["marker", "method"])
    row = found.loc[("P53", "good")]
    assert row["low"] < row["auc"] < row["high"]
    assert row["auc"] > found.loc[("P53", "plain"), "auc"] > found.loc[("P53", "bad"), "auc"]
    assert row["chance_1"] == pytest.approx(1 / 40)
    assert row["recall_1"] == pytest.approx(50 / 199)
    assert (row["alignment"], row["cosine_he"], row["epoch"]) == pytest.approx((0.25, 0.9, 12))
    assert (row["n"], row["seeds"]) == (199, 2)


def test_a_method_that_is_not_kept_is_told(cases):
    with pytest.raises(InputError, match=r"P53: nothing is kept of method 'other'; run `hsa experiment`"):
        predictions_of(cases, "P53", "other")
