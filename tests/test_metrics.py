import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from hsa.errors import InputError
from hsa.metrics import METRICS, bootstrap, calibration_error, patient_draws, point, reliability_bins


def predictions(cases=60, patients=None, seed=0, digits=1, gap=1.0):
    """Scores of two overlapping classes, rounded so that some are equal."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(cases) % 2)
    score = (1 / (1 + np.exp(-(gap * (label - 0.5) + rng.standard_normal(cases))))).round(digits)
    patient = np.arange(cases) if patients is None else rng.integers(0, patients, cases)
    frame = pd.DataFrame({"case_id": [f"c{i}" for i in range(cases)], "patient_id": [f"p{i}" for i in patient]})
    return frame.assign(fold=0, label=label, score=score, pred=(score > 0.5).astype(int))


def by_scikit_learn(frame):
    label, score, pred = (frame[name].to_numpy() for name in ("label", "score", "pred"))
    one_class = len(set(label)) < 2
    return {
        "weighted_f1": sk.f1_score(label, pred, average="weighted", zero_division=0),
        "roc_auc": np.nan if one_class else sk.roc_auc_score(label, score),
        "macro_precision": np.nan if one_class else sk.precision_score(label, pred, average="macro", zero_division=0),
        "macro_recall": np.nan if one_class else sk.recall_score(label, pred, average="macro"),
        "balanced_accuracy": np.nan if one_class else sk.balanced_accuracy_score(label, pred),
        "average_precision": np.nan if one_class else sk.average_precision_score(label, score),
    }


@pytest.mark.parametrize("seed", range(5))
def test_point_metrics_are_scikit_learns(seed):
    frame = predictions(seed=seed)
    expected = by_scikit_learn(frame)
    assert set(expected) == set(METRICS)
    assert point(frame) == pytest.approx(expected, abs=1e-12)


def test_a_class_never_predicted_has_precision_zero():
    frame = predictions().assign(pred=0)
    assert point(frame) == pytest.approx(by_scikit_learn(frame), abs=1e-12)


def test_bootstrap_is_a_naive_loop_over_the_same_drawn_patients():
    frame = predictions(cases=9, patients=5, seed=6, gap=0.5)
    draws, seed = 200, 5
    weights = np.concatenate(list(patient_draws(frame["patient_id"], draws, seed)))
    samples = pd.DataFrame([by_scikit_learn(frame.loc[np.repeat(frame.index, w.astype(int))]) for w in weights])
    result = bootstrap(frame, draws, seed)
    for name in METRICS:
        kept = samples[name].dropna()
        assert result[name]["low"] == pytest.approx(np.percentile(kept, 2.5), abs=1e-12)
        assert result[name]["high"] == pytest.approx(np.percentile(kept, 97.5), abs=1e-12)
        assert result[name]["skipped"] == draws - len(kept)
    assert result["roc_auc"]["low"] < result["roc_auc"]["value"] < result["roc_auc"]["high"]
    assert result["roc_auc"]["skipped"] > 0  # so few patients: some draws hold one class
    assert result["weighted_f1"]["n"] == 9


def test_patients_are_drawn_whole_with_replacement():
    patients = pd.Series(["a", "b", "a", "c", "c", "c"])
    weights = np.concatenate(list(patient_draws(patients, 3000, seed=0)))
    assert weights.shape == (3000, 6)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights[:, 1].mean() == pytest.approx(1, abs=0.05)


def test_draws_are_the_same_again_and_differ_by_seed():
    frame = predictions()
    assert bootstrap(frame, 50, seed=1) == bootstrap(frame, 50, seed=1)
    assert bootstrap(frame, 50, seed=1) != bootstrap(frame, 50, seed=2)


def test_clustering_by_patient_widens_the_interval_when_cases_repeat():
    frame = predictions(cases=40, digits=3)
    twins = pd.concat([frame, frame.assign(case_id=frame["case_id"] + "b")], ignore_index=True)
    clustered = bootstrap(twins, 500)["roc_auc"]
    naive = bootstrap(twins.assign(patient_id=twins["case_id"]), 500)["roc_auc"]
    assert clustered["value"] == pytest.approx(naive["value"])
    assert clustered["high"] - clustered["low"] > 1.2 * (naive["high"] - naive["low"])


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    truth = point(predictions(cases=40_000, digits=6))
    covered = dict.fromkeys(METRICS, 0)
    for seed in range(300):
        result = bootstrap(predictions(cases=120, seed=seed + 1, digits=6), 300, seed)
        for name in METRICS:
            covered[name] += result[name]["low"] <= truth[name] <= result[name]["high"]
    for name in METRICS:
        assert 0.91 <= covered[name] / 300 <= 0.985, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="pred"), "'pred'"),
        (lambda f: f.assign(score=np.nan), "NaN"),
        (lambda f: f.assign(label=1), "both present"),
        (lambda f: f.assign(case_id="c0"), "there twice"),
    ],
)
def test_frames_that_cannot_be_scored_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        bootstrap(change(predictions()), 10)


def test_reliability_bins_hold_every_case_and_their_means():
    frame = predictions(cases=200, digits=6)
    table = reliability_bins(frame, bins=5)
    assert table["n"].tolist() == [40] * 5
    first = frame.nsmallest(40, "score")
    assert table.loc[0, "predicted"] == pytest.approx(first["score"].mean())
    assert table.loc[0, "observed"] == pytest.approx(first["label"].mean())
    assert ((table["low"] <= table["observed"]) & (table["observed"] <= table["high"])).all()
    assert (table["low"] >= 0).all() and (table["high"] <= 1).all()
    equal = reliability_bins(frame.assign(score=0.3))
    assert equal["n"].tolist() == [200]


def test_wilson_interval_by_hand():
    frame = predictions(cases=10).assign(score=0.3, pred=0, label=[1] + [0] * 9)
    row = reliability_bins(frame).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((0.0179, 0.4042), abs=1e-4)  # Newcombe 1998, method 3


def test_calibration_error_sees_overconfidence():
    rng = np.random.default_rng(0)
    score = rng.random(20_000)
    label = (rng.random(20_000) < score).astype(int)
    frame = predictions(cases=20_000).assign(label=label, score=score, pred=(score > 0.5).astype(int))
    assert calibration_error(frame) < 0.02
    assert calibration_error(frame.assign(score=(score > 0.5) * 1.0)) == pytest.approx(0.25, abs=0.02)
