import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from hsa.errors import InputError
from hsa.evaluation.comparison import confidence_gain, delong, holm, paired_bootstrap, signed_rank, with_seeds
from hsa.evaluation.metrics import METRICS, patient_draws, point


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


def degrees_of_freedom(up, down):
    """Satterthwaite's, for the placement values (or their differences) of independent cases."""
    parts = [np.var(up, ddof=1) / len(up), np.var(down, ddof=1) / len(down)]
    return sum(parts) ** 2 / (parts[0] ** 2 / (len(up) - 1) + parts[1] ** 2 / (len(down) - 1))


@pytest.mark.parametrize(("patients", "seed"), [(None, 0), (None, 1), (17, 2), (25, 3)])
def test_delong_is_the_sum_over_every_pair_of_cases(patients, seed):
    first, second = two_methods(patients=patients, seed=seed)
    auc, covariance = auc_covariance_pair_by_pair(first, second)
    result = delong(first, second)
    se = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert (result["first"], result["second"]) == pytest.approx(auc, abs=1e-12)
    assert result["se"] == pytest.approx(se, abs=1e-12)
    z = (auc[1] - auc[0]) / se
    assert result["z"] == pytest.approx(z, abs=1e-9)
    # Between the quantile of endless samples and that of the smaller class alone.
    assert 1.96 < (result["high"] - result["value"]) / se < stats.t.ppf(0.975, 10)
    assert 2 * stats.norm.sf(abs(z)) < result["p"] < 2 * stats.t.sf(abs(z), 10)


def test_delongs_small_samples_by_hand():
    first, second = two_methods(cases=30)
    label, result = first["label"].to_numpy(), delong(first, second)
    placed = []
    for score in (first["score"].to_numpy(), second["score"].to_numpy()):
        wins = np.array([[win(p, n) for n in score[label == 0]] for p in score[label == 1]])
        placed.append((wins.mean(axis=1), wins.mean(axis=0)))
    free = degrees_of_freedom(placed[1][0] - placed[0][0], placed[1][1] - placed[0][1])
    assert result["p"] == pytest.approx(2 * stats.t.sf(abs(result["z"]), free))
    assert result["high"] - result["value"] == pytest.approx(stats.t.ppf(0.975, free) * result["se"])
    auc, (up, down) = placed[0][0].mean(), placed[0]
    error = np.sqrt(np.var(up, ddof=1) / len(up) + np.var(down, ddof=1) / len(down))
    half = stats.t.ppf(0.975, degrees_of_freedom(up, down)) * error / (auc * (1 - auc))  # on the logit scale
    expected = expit(logit(auc) + half * np.array([-1, 1]))
    assert [result["first_low"], result["first_high"]] == pytest.approx(expected, abs=1e-9)


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
    n = first["patient_id"].nunique()
    wide = stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1))
    for name in METRICS:
        error = np.std([s[name] for s in samples], ddof=1)
        middle = point(second)[name] - point(first)[name]
        expected = [middle - wide * error, middle + wide * error]
        assert [result[name]["low"], result[name]["high"]] == pytest.approx(expected, abs=1e-12)
        assert result[name]["value"] == pytest.approx(point(second)[name] - point(first)[name])


def seeds(frame, count, spread, seed=8):
    rng = np.random.default_rng(seed)
    scores = (frame["score"] + spread * rng.standard_normal(len(frame)) for _ in range(count))
    return pd.concat([frame.assign(seed=s, score=x, pred=(x > 0.5).astype(int)) for s, x in enumerate(scores)])


def test_seeds_are_paired_and_share_the_draws():
    first, second = two_methods(cases=40, digits=6)
    many = [seeds(frame, 3, 0.1, seed) for seed, frame in enumerate((first, second))]
    result = paired_bootstrap(*(frame.sample(frac=1, random_state=1) for frame in many), draws=200)
    gains = [[point(f[f["seed"] == s]) for f in many] for s in range(3)]
    for name in METRICS:
        values = [after[name] - before[name] for before, after in gains]
        assert result[name]["value"] == pytest.approx(np.mean(values))
        assert result[name]["seed_sd"] == pytest.approx(np.std(values, ddof=1))
        assert (result[name]["seeds"], result[name]["n"]) == (3, 40)
    once, copies = paired_bootstrap(first, second, 200), paired_bootstrap(seeds(first, 3, 0), seeds(second, 3, 0), 200)
    assert copies["roc_auc"] == pytest.approx({**once["roc_auc"], "seeds": 3, "seed_sd": 0}, abs=1e-9)
    assert once["roc_auc"]["seed_sd"] is None


def test_other_seeds_widen_a_difference():
    gain = {"value": 0.03, "low": 0.01, "high": 0.05, "n": 10_000, "seeds": 5, "seed_sd": 0.0}
    error = 0.02 / stats.t.ppf(0.975, 9999)
    alone = with_seeds({**gain, "seeds": 1, "seed_sd": None})
    p = 2 * stats.t.sf(0.03 / error, 9999)
    assert alone == pytest.approx({"value": 0.03, "low": 0.01, "high": 0.05, "se": error, "p": p})
    assert with_seeds(gain) == pytest.approx(alone)
    # Almost all of the variance is that of the seeds: a one-sample t test of their five differences.
    differences = np.array([0.1, -0.2, 0.4, 0.3, 0.0])
    mean, sd = differences.mean(), differences.std(ddof=1)
    wide = with_seeds({"value": mean, "low": mean - 1e-4, "high": mean + 1e-4, "n": 500, "seeds": 5, "seed_sd": sd})
    test = stats.ttest_1samp(differences, 0)
    low, high = test.confidence_interval()
    assert [wide[key] for key in ("low", "high", "p")] == pytest.approx([low, high, test.pvalue], abs=1e-4)


def test_intervals_with_seeds_hold_the_truth_as_often_as_they_say():
    rng, studies, cases, seeds = np.random.default_rng(0), 4000, 0.01, 0.02
    found = []
    for _ in range(studies):
        trained = cases * rng.standard_normal() + seeds * rng.standard_normal(5)  # the true difference is 0
        value, half = trained.mean(), stats.t.ppf(0.975, 499) * cases
        gain = {"value": value, "low": value - half, "high": value + half, "n": 500, "seeds": 5}
        wide = with_seeds({**gain, "seed_sd": trained.std(ddof=1)})
        found.append((gain["low"] <= 0 <= gain["high"], wide["low"] <= 0 <= wide["high"], wide["p"] < 0.05))
    alone, wide, rejected = np.mean(found, axis=0)
    assert alone < 0.9
    assert 0.93 < wide < 0.97
    assert rejected == pytest.approx(1 - wide)


def test_delong_averages_placement_values_over_seeds():
    first, second = two_methods(cases=40, patients=25, digits=6)
    many = [seeds(frame, 4, 0.2, seed) for seed, frame in enumerate((first, second))]
    result = delong(*many)
    gains = [[roc_auc_score(f["label"], f["score"]) for _, f in method.groupby("seed")] for method in many]
    assert [result["first"], result["second"]] == pytest.approx(np.mean(gains, axis=1))
    assert (result["seeds"], result["n"]) == (4, 40)
    # Averaging is linear: the covariance of the means is the mean of all covariances between the seeds.
    tables = [table for method in many for _, table in method.groupby("seed")]
    cells = [auc_covariance_pair_by_pair(a, b)[1] for a in tables for b in tables]
    covariance = np.array([cell[0, 1] for cell in cells]).reshape(2, 4, 2, 4).mean(axis=(1, 3))
    assert result["se"] == pytest.approx(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    copies = delong(seeds(first, 3, 0), seeds(second, 3, 0))
    assert copies == pytest.approx({**delong(first, second), "seeds": 3})


def test_confidence_gain_takes_the_mean_score_over_seeds():
    first, second = two_methods(cases=40, digits=6)
    many = [seeds(frame, 4, 0.2, seed) for seed, frame in enumerate((first, second))]
    mean = [
        frame.assign(score=m.groupby("case_id")["score"].mean()[frame["case_id"]].to_numpy())
        for frame, m in zip((first, second), many, strict=True)
    ]
    result = confidence_gain(*many)
    assert result["positives"] == pytest.approx(confidence_gain(*mean)["positives"])
    assert result["positives"]["n"] == 20


def test_methods_with_different_seeds_are_refused():
    first, second = (seeds(frame, 2, 0.1) for frame in two_methods())
    for other in (second[second["seed"] == 0], second.assign(seed=second["seed"] + 1)):
        with pytest.raises(InputError, match="different seeds"):
            paired_bootstrap(first, other)


def test_delong_of_a_perfect_method_has_an_interval():
    first, second = two_methods()
    result = delong(first, second.assign(score=second["label"]))
    assert (result["second"], result["second_low"], result["second_high"]) == (1, 1, 1)
    assert np.isfinite(list(result.values())).all()


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
