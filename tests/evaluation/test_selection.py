import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from hsa.evaluation.selection import best_epoch, choose, held_out, read_out, recalibrate

STRENGTHS = np.array([0.01, 1.0])


@pytest.fixture
def fold():
    """A fold of 90 cases, some without a label, and vectors that tell the label."""
    rng = np.random.default_rng(0)
    label = rng.integers(-1, 2, 90)
    split = np.array(["train", "train", "val", "test", "pairs", "train"])[np.arange(90) % 6]
    vectors = rng.standard_normal((90, 8)) * 3 + 5 + label[:, None]
    return vectors.astype(np.float32), pd.DataFrame({"label": label, "split": split, "fold": 0})


def test_a_probe_is_fitted_on_labelled_training_cases_and_reads_the_others(fold):
    vectors, cases = fold
    found = read_out(vectors, cases, STRENGTHS)
    train = ((cases["split"] == "train") & (cases["label"] >= 0)).to_numpy()
    read = held_out(cases).to_numpy()
    scaler = StandardScaler().fit(vectors[train].astype(float))
    for k, c in enumerate(STRENGTHS):
        exact = LogisticRegression(C=c, class_weight="balanced", tol=1e-8, max_iter=10_000)
        exact.fit(scaler.transform(vectors[train].astype(float)), cases.loc[train, "label"])
        np.testing.assert_allclose(
            found.score[:, k], exact.decision_function(scaler.transform(vectors[read])), atol=1e-3
        )
        val = (cases.loc[read, "split"] == "val").to_numpy()
        assert found.auc[k] == pytest.approx(roc_auc_score(cases.loc[read, "label"][val], found.score[val, k]))


@pytest.mark.parametrize("split", ["val", "test", "pairs"])
def test_labels_of_other_splits_leave_the_probe_alone(fold, split):
    vectors, cases = fold
    other = cases.copy()
    rows = (other["split"] == split) & (other["label"] >= 0)
    other.loc[rows, "label"] = 1 - other.loc[rows, "label"]
    before, after = read_out(vectors, cases, STRENGTHS), read_out(vectors, other, STRENGTHS)
    np.testing.assert_array_equal(before.score, after.score)
    assert (before.auc == after.auc).all() == (split != "val")


def test_validation_cases_of_one_class_tell_nothing(fold):
    vectors, cases = fold
    cases.loc[cases["split"] == "val", "label"] = 1
    assert read_out(vectors, cases, STRENGTHS).auc.tolist() == [0.5, 0.5]


def test_the_choice_is_made_over_all_folds_together_each_at_its_best_epoch():
    validated = np.full((2, 3, 2, 2), 0.5)  # settings, folds, epochs, strengths
    validated[0, 0, 0, 0] = 1.0  # superb in one fold
    validated[1, :, 1, 1] = [0.7, 0.7, 0.7]  # good in all
    assert choose(validated) == (1, 1)
    validated[1, :, 1, 1] = 0.6
    assert choose(validated) == (0, 0)


def test_of_equals_the_first_wins():
    assert choose(np.full((2, 3, 2, 4), 0.6)) == (0, 0)
    assert best_epoch({10: 0.7, 5: 0.7 + 1e-12, 15: 0.6}) == 5
    assert best_epoch({5: 0.5, 10: 0.8}) == 10


def test_chances_are_set_by_validation_cases_fold_by_fold():
    rng, frames = np.random.default_rng(0), []
    for fold, (scale, shift) in enumerate([(1, 0), (5, 3)]):
        label = (rng.random(4000) < 0.2).astype(int)
        score = rng.standard_normal(4000) + 1.5 * label
        frame = pd.DataFrame({"fold": fold, "label": label, "score": scale * score + shift})
        frames.append(frame.assign(split=np.where(np.arange(4000) % 2, "val", "test")))
    rows = pd.concat(frames, ignore_index=True)
    chance = recalibrate(rows)
    for _, fold in rows.assign(chance=chance).groupby("fold"):
        test = fold[fold["split"] == "test"]
        assert test["chance"].mean() == pytest.approx(test["label"].mean(), abs=0.02)
        sure = test[test["chance"] > 0.5]
        assert sure["chance"].mean() == pytest.approx(sure["label"].mean(), abs=0.06)
    changed = rows.assign(label=np.where(rows["split"] == "test", 1 - rows["label"], rows["label"]))
    pd.testing.assert_series_equal(recalibrate(changed), chance)


def test_chances_without_both_classes_or_any_spread_are_those_of_the_validation_cases():
    rows = pd.DataFrame({"fold": 0, "split": ["val"] * 8 + ["test"] * 2, "label": [0] * 10, "score": np.arange(10.0)})
    assert recalibrate(rows).tolist() == [0.1] * 10
    flat = rows.assign(label=[0, 1] * 5, score=1.0)
    np.testing.assert_allclose(recalibrate(flat), 0.5, atol=1e-3)
