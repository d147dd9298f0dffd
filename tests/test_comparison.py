import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from hsa.comparison import confidence_gain, delong, holm, paired_bootstrap, signed_rank
from hsa.errors import InputError
from hsa.metrics import METRICS, patient_draws, point


def two_methods(cases=40, patients=None, seed=0, digits=1, gain=0.5):
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(cases) % 2)
    shared = rng.standard_normal(cases)
    patient = np.arange(cases) if patients is None else rng.integers(0, patients, cases)
    frames = []
    for gap in (1.0, 1.0 + gain):
        logit = gap * (label - 0.5) + 0.7 * shared + 0.7 * rng.standard_normal(cases)
        score = (1 / (1 + np.exp(-logit))).round(digits)
        frame = pd.DataFrame({"case_id": [f"c{i}" for i in range(cases)], "patient_id": [f"p{i}" for i in patient]})
        frames.append(frame.assign(fold=0, label=label, score=score, pred=(score > 0.5).astype(int)))
    return frames


def win(positive, negative):
    return 1.0 if positive > negative else 0.5 if positive == negative else 0.0


def auc_covariance_pair_by_pair(first, second):
    """DeLong 1988 with Obuchowski's sums by patient, written out as loops over every pair of cases."""
    label, patient = first["label"].to_numpy(), first["patient_id"].to_numpy()
    up, down = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    methods = []
    for score in (first["score"].to_numpy(), second["score"].to_numpy()):
        v10 = {i: np.mean([win(score[i], score[j]) for j in down]) for i in up}
        v01 = {j: np.mean([win(score[i], score[j]) for i in up]) for j in down}
        auc = np.mean(list(v10.values()))
        x = {p: sum(v10[i] - auc for i in up if patient[i] == p) for p in set(patient)}
        y = {p: sum(v01[j] - auc for j in down if patient[j] == p) for p in set(patient)}
        methods.append((auc, x, y))
    everyone = sorted(set(patient))
    n_up, n_down, n_all = len(set(patient[up])), len(set(patient[down])), len(everyone)
    covariance = np.empty((2, 2))
    for r, (_, xr, yr) in enumerate(methods):
        for s, (_, xs, ys) in enumerate(methods):
            s10 = n_up / ((n_up - 1) * len(up)) * sum(xr[p] * xs[p] for p in everyone)
            s01 = n_down / ((n_down - 1) * len(down)) * sum(yr[p] * ys[p] for p in everyone)
            s11 = n_all / (n_all - 1) * sum(xr[p] * ys[p] + yr[p] * xs[p] for p in everyone)
            covariance[r, s] = s10 / len(up) + s01 / len(down) + s11 / (len(up) * len(down))
    return [m[0] for m in methods], covariance


@pytest.mark.parametrize(("patients", "seed"), [(None, 0), (None, 1), (17, 2), (25, 3)])
def test_delong_is_the_sum_over_every_pair_of_cases(patients, seed):
    first, second = two_methods(patients=patients, seed=seed)
    auc, covariance = auc_covariance_pair_by_pair(first, second)
    result = delong(first, second)
    se = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert (result["first"], result["second"]) == pytest.approx(auc, abs=1e-12)
    assert result["se"] == pytest.approx(se, abs=1e-12)
    z = (auc[1] - auc[0]) / se
    assert result["p"] == pytest.approx(2 * (1 - stats.norm.cdf(abs(z))), abs=1e-12)
    assert result["high"] - result["value"] == pytest.approx(1.959964 * se, abs=1e-6)
    expected = [auc[0] - 1.959964 * np.sqrt(covariance[0, 0]), auc[0] + 1.959964 * np.sqrt(covariance[0, 0])]
    assert [result["first_low"], result["first_high"]] == pytest.approx(np.clip(expected, 0, 1), abs=1e-6)


def test_delong_aucs_are_scikit_learns_and_the_order_of_rows_is_free():
    first, second = two_methods()
    result = delong(first, second.sample(frac=1, random_state=0))
    assert result["first"] == pytest.approx(roc_auc_score(first["label"], first["score"]))
    assert result["second"] == pytest.approx(roc_auc_score(second["label"], second["score"]))
    assert result == pytest.approx(delong(first, second))


def test_delong_of_a_method_against_itself_is_no_difference():
    first, _ = two_methods()
    result = delong(first, first)
    assert (result["value"], result["z"], result["p"]) == (0.0, 0.0, 1.0)


def test_delong_rejects_as_often_as_it_says_when_methods_are_equal():
    p = [delong(*two_methods(cases=100, seed=seed, digits=6, gain=0.0))["p"] for seed in range(300)]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.085


def test_paired_bootstrap_is_a_naive_loop_over_the_same_patients():
    first, second = (f.sort_values("case_id", ignore_index=True) for f in two_methods(cases=30, patients=20))
    weights = np.concatenate(list(patient_draws(first["patient_id"], 100, 3)))
    samples = []
    for weight in weights:
        rows = np.repeat(np.arange(30), weight.astype(int))
        drawn = [f.iloc[rows].assign(case_id=np.arange(len(rows))) for f in (first, second)]
        samples.append({m: point(drawn[1])[m] - point(drawn[0])[m] for m in METRICS})
    result = paired_bootstrap(first, second, 100, seed=3)
    for name in METRICS:
        low, high = np.percentile([s[name] for s in samples], [2.5, 97.5])
        assert (result[name]["low"], result[name]["high"]) == pytest.approx((low, high), abs=1e-12)
        assert result[name]["value"] == pytest.approx(point(second)[name] - point(first)[name])


def test_pairing_gives_a_narrower_interval_than_the_two_alone():
    first, second = two_methods(cases=200, digits=6)
    paired = paired_bootstrap(first, second)["roc_auc"]
    other = second.assign(score=np.random.default_rng(0).permutation(second["score"]))
    unrelated = paired_bootstrap(first, other)["roc_auc"]
    assert paired["high"] - paired["low"] < 0.85 * (unrelated["high"] - unrelated["low"])


def test_methods_on_different_cases_are_refused():
    first, second = two_methods()
    with pytest.raises(InputError, match="different cases"):
        delong(first, second.iloc[1:])
    with pytest.raises(InputError, match="different cases"):
        paired_bootstrap(first, second.assign(label=1 - second["label"]))


def test_signed_rank_by_hand():
    # differences 1, -2, 3, 4: ranks 1, 2, 3, 4; positive ranks sum to 8. Of the 16 signs, the sum is at
    # least 8 for {2,3,4} {1,3,4} {1,2,3,4} {1,4,3}... : sums 10, 9, 8, 8 (1+3+4), 7 and below: P = 3/16.
    result = signed_rank(np.zeros(4), np.array([1.0, -2.0, 3.0, 4.0]))
    assert result["statistic"] == 8
    assert result["p"] == pytest.approx(3 / 16)
    assert result["median"] == 2


def test_signed_rank_without_any_difference_has_p_one():
    assert signed_rank(np.ones(5), np.ones(5)) == {"statistic": 0.0, "p": 1.0, "n": 5, "median": 0.0}
    assert signed_rank(np.array([]), np.array([]))["p"] == 1.0


def test_confidence_gain_tests_each_class_in_its_own_direction():
    baseline, _ = two_methods(cases=60, digits=6)
    label = baseline["label"]
    surer = baseline.assign(score=np.where(label == 1, baseline["score"] + 0.01, baseline["score"] - 0.01))
    result = confidence_gain(baseline, surer)
    assert result["positives"]["p"] < 1e-4 and result["negatives"]["p"] < 1e-4
    assert (result["positives"]["n"], result["negatives"]["n"]) == (30, 30)
    shifted = baseline.assign(score=baseline["score"] + 0.01)
    result = confidence_gain(baseline, shifted)
    assert result["positives"]["p"] < 1e-4 and result["negatives"]["p"] > 0.99
    expected = stats.wilcoxon(baseline["score"][label == 1], surer["score"][label == 1], alternative="less")
    assert confidence_gain(baseline, surer)["positives"]["p"] == pytest.approx(expected.pvalue)


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(adjusted) == ["a", "b", "c", "d"]
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
