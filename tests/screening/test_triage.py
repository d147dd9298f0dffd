import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from hsa.errors import InputError
from hsa.evaluation.calibration import calibration_error, reliability_bins
from hsa.reporting import figures
from hsa.screening import decision, triage

FOLDS = 5


def predictions(cases=100, prevalence=0.3, gap=1.5, seeds=1, seed=0):
    """Val and test rows as predictions.csv holds them; folds hold equally many positives."""
    rng = np.random.default_rng(seed)
    label = (rng.permutation(cases) < prevalence * cases).astype(int)
    fold = np.argsort(np.argsort(label, kind="stable")) % FOLDS
    parts = []
    for s in range(seeds):
        for k in range(FOLDS):
            for split, part in (("val", (k + 1) % FOLDS), ("test", k)):
                i = np.flatnonzero(fold == part)
                score = 1 / (1 + np.exp(-(gap * (2 * label[i] - 1) + rng.standard_normal(len(i)))))
                names = {"case_id": [f"C{j:04}" for j in i], "patient_id": [f"P{j:04}" for j in i]}
                parts.append(
                    pd.DataFrame({"seed": s, **names, "fold": k, "split": split, "label": label[i], "score": score})
                )
    return pd.concat(parts, ignore_index=True).assign(pred=lambda f: (f["score"] > 0.5).astype(int))


def one_fold(val, test):
    """Predictions of two folds that hold the same (label, score) pairs."""
    rows = []
    for fold in (0, 1):
        for split, part, pairs in (("val", 1 - fold, val), ("test", fold, test)):
            for i, (label, score) in enumerate(pairs):
                case = f"part{part}_{i}"
                rows.append(
                    {"case_id": case, "patient_id": case, "fold": fold, "split": split, "label": label, "score": score}
                )
    return pd.DataFrame(rows)


def wide(table):
    return table.pivot(index="target", columns="measure", values="value")


HAND = [(1, 0.9), (1, 0.7), (1, 0.4), (1, 0.2), (0, 0.8), (0, 0.5), (0, 0.3), (0, 0.1)]


def test_the_threshold_is_the_highest_that_finds_enough_validation_positives():
    found = triage.thresholds(one_fold(HAND, HAND), [0.5, 0.75, 0.76, 1.0])
    assert found.groupby("target")["threshold"].first().tolist() == [0.7, 0.4, 0.2, 0.2]
    assert found.groupby("target")["reached"].first().tolist() == [0.5, 0.75, 1, 1]
    assert found.groupby("target")["expected"].first().tolist() == [2 / 5, 3 / 5, 4 / 5, 4 / 5]
    assert set(found["positives"]) == {4}


def test_triage_counts_what_hand_counting_does():
    test = [(1, 0.95), (1, 0.4), (1, 0.3), (1, 0.1), (0, 0.45), (0, 0.41), (0, 0.39), (0, 0.2)]
    table = wide(triage.triage(one_fold(HAND, test), [0.75], draws=10)).loc[0.75]  # threshold 0.4
    expected = {"sensitivity": 0.5, "specificity": 0.5, "npv": 0.5, "ppv": 0.5, "saved": 0.5, "missed": 4}
    assert table.to_dict() == expected  # two folds: 4 of 8 positives missed


def test_the_threshold_never_looks_at_test_rows():
    frame = predictions()
    other = frame.copy()
    other.loc[other["split"] == "test", "score"] = 0.5
    pd.testing.assert_frame_equal(triage.thresholds(frame), triage.thresholds(other))


def test_a_fold_without_a_validation_positive_stains_everybody():
    frame = one_fold([(0, 0.3), (0, 0.2)], [(1, 0.1), (0, 0.9)])
    assert (triage.thresholds(frame)["threshold"] == -np.inf).all()
    assert (wide(triage.triage(frame, draws=5))["saved"] == 0).all()


def test_expected_sensitivity_is_what_new_cases_give():
    assert set(triage.thresholds(predictions(50), [0.9])["expected"]) == {3 / 4}
    found = [triage.triage(predictions(50, seed=s), [0.9], draws=1).iloc[0]["value"] for s in range(80)]
    assert np.mean(found) == pytest.approx(3 / 4, abs=0.04), "with 3 positives a fold, 90 % is out of reach"


def test_seeds_are_averaged_not_ensembled():
    frame = predictions(seeds=3)
    all_seeds = wide(triage.triage(frame, [0.9], draws=2)).loc[0.9]
    single = [wide(triage.triage(rows, [0.9], draws=2)).loc[0.9] for _, rows in frame.groupby("seed")]
    for measure in ("sensitivity", "specificity", "saved", "missed"):
        assert all_seeds[measure] == pytest.approx(np.mean([table[measure] for table in single]))
    plain = frame[frame["seed"] == 0].drop(columns="seed")
    pd.testing.assert_frame_equal(triage.triage(plain), triage.triage(frame[frame["seed"] == 0]))


def test_intervals_hold_the_truth_though_thresholds_move():
    tables = [triage.triage(predictions(80, gap=0.8, seed=s), [0.8], draws=200, seed=1) for s in range(50)]
    for measure in ("sensitivity", "saved", "npv"):
        rows = pd.concat(table[table["measure"] == measure] for table in tables)
        truth = rows["value"].mean()
        covered = ((rows["low"] <= truth) & (truth <= rows["high"])).mean()
        assert covered > 0.9, f"{measure}: {covered:.2f}"


def test_patients_are_drawn_not_cases():
    alone, twins = predictions(100), predictions(100)
    twins["patient_id"] = twins["case_id"].str[:4]  # ten cases a patient
    width = [
        float((t["high"] - t["low"])[t["measure"] == "specificity"].iloc[0])
        for t in (triage.triage(frame, [0.8]) for frame in (alone, twins))
    ]
    assert width[0] != width[1]


def test_bayes_gives_back_the_cohort_at_its_own_prevalence():
    frame = predictions(200)
    table = triage.triage(frame, draws=2)
    there = triage.at_prevalence(table, [0.3]).set_index("target")
    for measure in ("ppv", "npv", "saved"):
        np.testing.assert_allclose(there[measure], wide(table)[measure])
    np.testing.assert_allclose(there[["found", "needless", "spared", "missed"]].sum(axis=1), 1)
    hand = pd.DataFrame({"target": 0.9, "measure": ["sensitivity", "specificity"], "value": [0.9, 0.6]})
    row = triage.at_prevalence(hand, [0.1]).iloc[0]
    assert row["ppv"] == pytest.approx(0.09 / 0.45) and row["npv"] == pytest.approx(0.54 / 0.55)
    assert row["saved"] == pytest.approx(0.55) and row["missed"] == pytest.approx(0.01)


def test_the_worklist_curve_is_that_of_counting_down_the_list():
    frame = predictions(100)
    curve = triage.worklist_curve(frame, draws=50)
    ranked = frame[frame["split"] == "test"].sort_values("score", ascending=False)["label"].to_numpy()
    np.testing.assert_allclose(curve["found"], np.r_[0, ranked.cumsum() / ranked.sum()])
    np.testing.assert_allclose(curve["perfect"], np.minimum(1, curve["done"] / 0.3))
    assert (curve["low"] <= curve["found"] + 1e-9).mean() > 0.95 and (
        curve["found"] <= curve["high"] + 1e-9
    ).mean() > 0.95
    needed = triage.stains_needed(frame, [0.8, 1.0], draws=50)
    place = int(np.flatnonzero(ranked.cumsum() == 24)[0]) + 1
    last = int(np.flatnonzero(ranked)[-1]) + 1
    assert needed["value"].tolist() == pytest.approx([place / 100, last / 100])
    assert needed["perfect"].tolist() == pytest.approx([0.24, 0.3])


def test_equal_scores_are_worth_random_order():
    frame = predictions(100).assign(score=0.5)
    curve = triage.worklist_curve(frame, draws=10)
    np.testing.assert_allclose(curve["found"], curve["done"])
    assert triage.stains_needed(frame, [0.8], draws=10)["value"].iloc[0] == pytest.approx(0.8)


def test_recalibration_learns_on_validation_and_brings_the_mean_to_the_prevalence():
    frame = predictions(1000, prevalence=0.15, gap=1.0)
    after = decision.recalibrated(frame)
    test = frame[frame["split"] == "test"]
    assert abs(test["score"].mean() - 0.15) > 0.08
    assert after["score"].mean() == pytest.approx(0.15, abs=0.02)
    gap = [calibration_error(rows, 8) for rows in (test, after)]
    assert gap[1] < gap[0] / 2
    for fold, rows in after.groupby("fold"):
        before = test[test["fold"] == fold].set_index("case_id")["score"][rows["case_id"]]
        assert (before.rank().to_numpy() == rows["score"].rank().to_numpy()).all(), "order within a fold is kept"
    relabelled = frame.copy()
    where = relabelled["split"] == "test"
    relabelled.loc[where, "label"] = 1 - relabelled.loc[where, "label"]
    np.testing.assert_array_equal(decision.recalibrated(relabelled)["score"], after["score"])


def test_platt_stands_separable_and_reversed_scores():
    label = np.array([0, 0, 0, 1, 1])
    slope, intercept = decision.platt(label, np.array([0.1, 0.2, 0.3, 0.8, 0.9]))
    assert 0 < slope < 10 and np.isfinite(intercept)
    slope, intercept = decision.platt(label, np.array([0.9, 0.8, 0.7, 0.2, 0.1]))
    assert slope == 0 and 1 / (1 + np.exp(-intercept)) == pytest.approx((2 * 3 / 4 + 3 / 5) / 5)


def test_net_benefit_by_hand():
    frame = pd.DataFrame({"label": [1, 1, 0, 0, 0], "score": [0.9, 0.3, 0.6, 0.2, 0.1]})
    frame["case_id"] = frame["patient_id"] = list("abcde")
    curve = decision.decision_curve(frame, [0.05, 0.25, 0.5, 0.95], draws=10).set_index("chance")
    assert curve["value"].tolist() == pytest.approx([0.4 - 0.6 / 19, 0.4 - 0.2 / 3, 0.2 - 0.2, 0])
    assert curve["all"].tolist() == pytest.approx([0.4 - 0.6 / 19, 0.4 - 0.6 / 3, 0.4 - 0.6, 0.4 - 0.6 * 19])


def test_a_useless_score_earns_no_more_than_the_better_of_all_and_nobody():
    after = decision.recalibrated(predictions(600, gap=0.0))
    curve = decision.decision_curve(after, draws=20)
    assert (curve["value"] <= np.maximum(curve["all"], 0) + 0.02).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.drop(columns="split"), "column ['split']"),
        (lambda f: pd.concat([f, f[:1]]), "is there twice"),
        (lambda f: f.assign(score=np.nan), "finite"),
        (lambda f: f[f["split"] == "test"], "lacks val"),
        (lambda f: f[(f["split"] == "val") | (f["label"] == 0)], "both classes"),
        (lambda f: f.drop(f.index[(f["seed"] == 1) & (f["split"] == "test")][:1]), "different cases"),
    ],
)
def test_frames_that_are_no_predictions_are_refused(change, told):
    with pytest.raises(InputError, match=told.replace("[", r"\[")):
        triage.triage(change(predictions(seeds=2)), draws=2)


def test_figures_show_the_numbers_they_are_given():
    methods = {"mean_pool": predictions(gap=0.5), "full": predictions(gap=1.0)}
    titles = {"mean_pool": "Mean", "full": "Full method"}
    figures.use_style()
    curves = {m: triage.worklist_curve(f, draws=20) for m, f in methods.items()}
    tables = {m: triage.triage(f, draws=20) for m, f in methods.items()}
    fig, axes = figures.panels(2, 2, height=6)
    figures.triage.worklist(axes[0, 0], curves, titles)
    np.testing.assert_array_equal(axes[0, 0].lines[2].get_ydata(), curves["full"]["found"])
    figures.triage.saved_missed(axes[0, 1], curves, tables, titles)
    points = {tuple(line.get_xydata()[0]) for line in axes[0, 1].lines if len(line.get_xydata()) == 1}
    found = wide(tables["full"])
    assert {(s, 1 - r) for s, r in zip(found["saved"], found["sensitivity"], strict=True)} <= points
    after = {m: decision.recalibrated(f) for m, f in methods.items()}
    figures.triage.decision(axes[1, 0], {m: decision.decision_curve(r, draws=20) for m, r in after.items()}, titles)
    assert [t.get_text() for t in axes[1, 0].get_legend().get_texts()] == [
        "Full method", "Mean", "stain everybody", "stain nobody"
    ]  # fmt: skip
    test = methods["full"][methods["full"]["split"] == "test"]
    figures.triage.calibration(axes[1, 1], reliability_bins(test, 8), reliability_bins(after["full"], 8), "full", "3+")
    assert "recalibrated" in axes[1, 1].get_legend().get_texts()[2].get_text()
    assert axes[1, 1].get_xlabel() == "predicted probability of 3+"
    plt.close(fig)


def test_the_prevalence_bars_add_up_to_all_cases():
    table = triage.at_prevalence(triage.triage(predictions(), draws=2), [0.1, 0.4])
    figures.use_style()
    fig, axes = figures.panels(1, 2, height=3)
    figures.triage.prevalence(axes, table, cases=100, positive="3+")
    for ax in axes:
        widths = np.array([bar.get_width() for bar in ax.patches[:12]]).reshape(4, 3)
        np.testing.assert_allclose(widths.sum(axis=0), 100)
    assert axes[0].get_title(loc="left") == "10% are 3+"
    plt.close(fig)


def test_triage_agrees_with_scikit_learn():
    frame = predictions(200, seed=5)
    cut = triage.thresholds(frame, [0.9]).set_index("fold")["threshold"]
    test = frame[frame["split"] == "test"]
    tn, fp, fn, tp = confusion_matrix(test["label"], test["score"] >= test["fold"].map(cut)).ravel()
    table = wide(triage.triage(frame, [0.9], draws=2)).loc[0.9]
    assert table["npv"] == pytest.approx(tn / (tn + fn)) and table["ppv"] == pytest.approx(tp / (tp + fp))
    assert table["missed"] == fn and table["saved"] == pytest.approx((tn + fn) / 200)
