import numpy as np
import pandas as pd
import pytest

from hsa.cohorts.pairing import pair
from hsa.errors import InputError


@pytest.fixture
def folds():
    """120 cases of eighty patients in two folds; every fifth case has no IHC slide, every seventh no label."""
    number = np.arange(120)
    case = [f"C{i:03}" for i in number]
    cases = pd.DataFrame({"case_id": case, "patient_id": [f"P{i % 80:03}" for i in number]})
    cases["ihc"] = np.where(number % 5 == 0, "", cases["case_id"] + "-P53")
    cases["label"] = np.where(number % 7 == 0, -1, number % 80 % 3 == 0)
    tables = []
    for fold in range(2):
        part = (number % 80 + 2 * fold) % 4
        split = np.select([part == 0, part == 1, cases["label"] < 0], ["test", "val", "pairs"], "train")
        tables.append(cases.assign(fold=fold, split=split))
    return pd.concat(tables, ignore_index=True)


def partners(before, after):
    """Case, patient, label and side of each case and of the case whose IHC slide it was given."""
    owner = before[before["ihc"] != ""].set_index(["fold", "ihc"])
    given = after[after["ihc"] != ""]
    other = owner.loc[list(zip(given["fold"], given["ihc"], strict=True))].reset_index()
    return given.reset_index(drop=True).join(other.add_suffix("_other"))


def side(split):
    return split.replace("pairs", "train")


@pytest.mark.parametrize("pairs", ["shuffled", "same-label"])
def test_training_and_validation_cases_meet_another_patient_of_their_side(folds, pairs):
    both = partners(folds, pair(folds, pairs, seed=0))
    trained = both[both["split"] != "test"]
    assert (trained["patient_id"] != trained["patient_id_other"]).all()
    assert (side(trained["split"]) == side(trained["split_other"])).all()
    assert len(trained) == ((folds["ihc"] != "") & (folds["split"] != "test")).sum()


@pytest.mark.parametrize("pairs", ["shuffled", "same-label"])
def test_test_cases_keep_their_own_pair_and_each_slide_is_used_as_often(folds, pairs):
    after = pair(folds, pairs, seed=0)
    test = folds["split"] == "test"
    pd.testing.assert_series_equal(after.loc[test, "ihc"], folds.loc[test, "ihc"])
    pd.testing.assert_frame_equal(after.drop(columns="ihc"), folds.drop(columns="ihc"))
    for _, here in folds.assign(side=side(folds["split"])).groupby(["fold", "side"]):
        assert sorted(after.loc[here.index, "ihc"]) == sorted(here["ihc"])


def test_a_partner_of_the_same_label_has_it_and_a_label_that_is_hidden_is_not_used(folds):
    both = partners(folds, pair(folds, "same-label", seed=0))
    trained = both[both["split"].isin(["train", "val"])]
    assert (trained["label"] == trained["label_other"]).all()
    hidden = folds.assign(split=folds["split"].where((folds.index % 2 == 0) | (folds["split"] != "train"), "pairs"))
    both = partners(hidden, pair(hidden, "same-label", seed=0)).query("split == 'pairs'")
    assert (both["split_other"] == "pairs").all()
    assert both["label"].nunique() > 1  # they are exchanged among themselves, whatever they are
    assert (both["label"] != both["label_other"]).any()


def test_shuffled_pairs_take_no_notice_of_labels(folds):
    both = partners(folds, pair(folds, "shuffled", seed=0)).query("split == 'train'")
    assert 0.1 < (both["label"] == both["label_other"]).mean() < 0.9


def test_the_draw_follows_its_seed_and_own_pairs_are_left_alone(folds):
    assert pair(folds, "own", seed=0) is folds
    pd.testing.assert_frame_equal(pair(folds, "shuffled", seed=1), pair(folds, "shuffled", seed=1))
    assert (pair(folds, "shuffled", seed=1)["ihc"] != pair(folds, "shuffled", seed=2)["ihc"]).any()


def test_cases_that_find_no_partner_are_told(folds):
    alone = folds["patient_id"].where(folds["split"] != "val", "P000")
    with pytest.raises(InputError, match=r"fold 0 has \d+ val cases with an IHC slide, \d+ of one patient"):
        pair(folds.assign(patient_id=alone), "shuffled", seed=0)
