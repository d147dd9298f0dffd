import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn import metrics as sk

from hsa.errors import InputError
from hsa.evaluation.comparison import delong
from hsa.evaluation.metrics import (
    METRICS,
    bootstrap,
    bootstrap_values,
    by_seed,
    intervals,
    patient_draws,
    point,
    seed_values,
    within_folds,
)


def predictions(cases=60, patients=None, seed=0, digits=1, gap=1.0):
    """Scores of two overlapping classes, rounded so that some are equal."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(cases) % 2)
    score = (1 / (1 + np.exp(-(gap * (label - 0.5) + rng.standard_normal(cases))))).round(digits)
    patient = np.arange(cases) if patients is None else rng.integers(0, patients, cases)
    frame = pd.DataFrame({"case_id": [f"c{i}" for i in range(cases)], "patient_id": [f"p{i}" for i in patient]})
    return frame.assign(fold=0, label=label, score=score, pred=(score > 0.5).astype(int))


def seeds(frame, count=3, spread=0.1):
    """The same cases scored by several seeds, each seed with its rows in its own order."""
    rng = np.random.default_rng(8)
    tables = []
    for seed in range(count):
        score = np.clip(frame["score"] + spread * rng.standard_normal(len(frame)), 0, 1)
        table = frame.assign(seed=seed, score=score, pred=(score > 0.5).astype(int))
        tables.append(table.sample(frac=1, random_state=seed) if seed else table)
    return pd.concat(tables, ignore_index=True)


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
    drawn = bootstrap_values([frame], draws, seed)
    for name in METRICS:
        np.testing.assert_allclose(drawn[name], samples[name], atol=1e-12)
        assert result[name]["skipped"] == samples[name].isna().sum()
    assert result["roc_auc"]["low"] < result["roc_auc"]["value"] < result["roc_auc"]["high"]
    assert result["roc_auc"]["skipped"] > 0  # so few patients: some draws hold one class
    assert result["weighted_f1"]["n"] == 9


def test_intervals_by_hand():
    frame = predictions(cases=60, patients=40, seed=1)
    samples = bootstrap_values([frame], 500, 0)
    everyone, rarer = frame["patient_id"].nunique(), frame.groupby("label")["patient_id"].nunique().min()
    result = bootstrap(frame, 500)

    def tails(n):
        wide = stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1))
        return [stats.norm.sf(wide), stats.norm.cdf(wide)]

    for name, n in (("weighted_f1", everyone), ("macro_precision", everyone), ("roc_auc", rarer)):
        expected = np.quantile(samples[name], tails(n))
        assert [result[name]["low"], result[name]["high"]] == pytest.approx(expected, abs=1e-12)
        assert result[name]["low"] < np.percentile(samples[name], 2.5)
    half = (60 * samples["average_precision"] + 0.5) / 61
    bias = logit(half).mean() - logit((60 * point(frame)["average_precision"] + 0.5) / 61)
    expected = (61 * expit(np.quantile(logit(half), tails(rarer)) - bias) - 0.5) / 60
    found = result["average_precision"]
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=1e-9)
    assert bias > 0


def test_bootstrap_is_scipys():
    frame = predictions(cases=150, digits=6, seed=4)
    label, score = frame["label"].to_numpy(), frame["score"].to_numpy()
    theirs = stats.bootstrap(
        (label, score), sk.roc_auc_score, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=0
    )
    ours = bootstrap_values([frame], 20_000, 0)["roc_auc"]
    assert ours.std(ddof=1) == pytest.approx(theirs.standard_error, rel=3 / np.sqrt(2 * 1000))
    error = ours.std() * 2.67 / np.sqrt(1000)  # of the 2.5 % quantile of 1000 normal draws, in standard deviations
    limits = [theirs.confidence_interval.low, theirs.confidence_interval.high]
    assert np.quantile(ours, [0.025, 0.975]) == pytest.approx(limits, abs=3 * error)


def test_perfect_and_constant_predictions_have_intervals():
    frame = predictions(cases=40)
    perfect = bootstrap(frame.assign(score=frame["label"], pred=frame["label"]), 200)
    assert all((r["value"], r["low"], r["high"]) == (1, 1, 1) for r in perfect.values())
    constant = bootstrap(frame.assign(score=0.5, pred=0), 200)
    assert (constant["roc_auc"]["low"], constant["roc_auc"]["high"]) == (0.5, 0.5)
    assert constant["average_precision"]["low"] < 0.5 < constant["average_precision"]["high"]


def test_the_value_over_seeds_is_the_mean_and_its_draws_are_shared():
    many = seeds(predictions(cases=40, patients=25, digits=6))
    alone = [table.set_index("case_id").sort_index().reset_index() for _, table in many.groupby("seed")]
    result = bootstrap(many.sort_values(["seed", "case_id"]), 300, seed=2)
    weights = np.concatenate(list(patient_draws(alone[0]["patient_id"], 300, 2)))
    samples = []
    for w in weights[:12]:
        rows = np.repeat(np.arange(40), w.astype(int))
        samples.append(pd.DataFrame(by_scikit_learn(table.iloc[rows]) for table in alone).mean())
    drawn = bootstrap_values(by_seed(many.sort_values(["seed", "case_id"])), 300, 2)
    for name in METRICS:
        values = [point(table.drop(columns="seed"))[name] for table in alone]
        assert result[name]["value"] == point(many)[name] == pytest.approx(np.mean(values))
        assert result[name]["seed_sd"] == pytest.approx(np.std(values, ddof=1))
        assert (result[name]["seeds"], result[name]["n"]) == (3, 40)
        np.testing.assert_allclose(drawn[name][:12], [s[name] for s in samples], atol=1e-12)


def by_pairs(frame):
    """Every pair of a positive and a negative case of one seed and fold, looked at one by one; the mean over seeds."""
    values = []
    for _, table in frame.groupby("seed"):
        won = [
            (a.score > b.score) + (a.score == b.score) / 2
            for a in table[table["label"] == 1].itertuples()
            for b in table[table["label"] == 0].itertuples()
            if a.fold == b.fold
        ]
        values.append(np.mean(won))
    return np.mean(values)


@pytest.mark.parametrize("digits", [1, 6])
def test_within_folds_is_the_mean_over_all_pairs_of_one_fold(digits):
    frame = predictions(cases=41, digits=digits)
    rng = np.random.default_rng(1)
    fold = np.sort(rng.choice(4, 41, p=[0.1, 0.2, 0.3, 0.4]))
    fold[frame["label"].to_numpy().argmax()] = 9  # a fold of one case holds no pair
    many = seeds(frame.assign(fold=fold))
    assert within_folds(many) == pytest.approx(by_pairs(many))
    assert abs(within_folds(many) - point(many)["roc_auc"]) > 1e-3


def test_within_folds_does_not_see_the_scale_of_a_fold():
    frame = predictions(cases=60, digits=6).assign(fold=np.arange(60) % 3)
    shifted = frame.assign(score=frame["score"] * 0.3 + 0.3 * frame["fold"])
    assert within_folds(shifted) == pytest.approx(within_folds(frame))
    assert point(shifted)["roc_auc"] < point(frame)["roc_auc"] - 0.02
    assert within_folds(frame.assign(fold=0)) == pytest.approx(point(frame)["roc_auc"])
    assert np.isnan(within_folds(frame.assign(fold=frame["label"])))
    with pytest.raises(InputError, match="'fold' is missing"):
        within_folds(frame.drop(columns="fold"))


def test_seeds_are_no_more_patients():
    frame = predictions(cases=60, digits=6)
    copies = bootstrap(seeds(frame, 5, spread=0.0), 300)
    once = bootstrap(frame, 300)
    for name in METRICS:
        expected = {**once[name], "seeds": 5, "seed_sd": 0}
        assert copies[name] == pytest.approx(expected, abs=1e-9)
    assert once["roc_auc"]["seed_sd"] is None
    json.dumps(once, allow_nan=False)


def test_seeds_that_hold_different_cases_are_refused():
    many = seeds(predictions())
    for change, message in (
        (many.iloc[:-1], "seeds hold different cases"),
        (pd.concat([many, many.iloc[:1]]), "there twice"),
        (many.drop(columns="seed"), "there twice"),
        (many.assign(label=np.where(many.index == 70, 1 - many["label"], many["label"])), "changes patient or label"),
        (many.assign(patient_id=np.where(many.index == 70, "q", many["patient_id"])), "changes patient or label"),
        (many.assign(seed=np.where(many.index < 60, np.nan, many["seed"])), "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            point(change)


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


def two_methods(rng, cases, prevalence, aucs, correlation=0.6):
    """Normal scores of two methods; the threshold lies half-way between the classes."""
    label = (rng.random(cases) < prevalence).astype(int)
    shared = np.sqrt(correlation) * rng.standard_normal(cases)
    for auc in aucs:
        noise = shared + np.sqrt(1 - correlation) * rng.standard_normal(cases)
        score = np.sqrt(2) * stats.norm.ppf(auc) * (label - 0.5) + noise
        frame = pd.DataFrame({"case_id": np.arange(cases), "patient_id": np.arange(cases), "label": label})
        yield frame.assign(score=score, pred=(score > 0).astype(int))


def truth(auc, prevalence):
    """The metrics of an endless cohort of `two_methods`."""
    gap = np.sqrt(2) * stats.norm.ppf(auc)
    right = stats.norm.cdf(gap / 2)  # of each class
    share = np.array([prevalence, 1 - prevalence])
    called = share * right + share[::-1] * (1 - right)
    cut = np.linspace(-8, 10, 40_001)
    true, false = prevalence * stats.norm.sf(cut - gap), (1 - prevalence) * stats.norm.sf(cut)
    precision = np.trapezoid(true / (true + false) * stats.norm.pdf(cut - gap), cut)
    f1 = (share * 2 * share * right / (share + called)).sum()
    values = f1, auc, (share * right / called).mean(), right, right, precision
    return dict(zip(METRICS, values, strict=True))


def test_intervals_cover_the_truth_as_often_as_they_say():
    cohorts, cases, prevalence, aucs = 600, 60, 0.4, (0.75, 0.8)
    first, second = (truth(auc, prevalence) for auc in aucs)
    rng, rows = np.random.default_rng(0), []
    for _ in range(cohorts):
        methods = list(two_methods(rng, cases, prevalence, aucs))
        values = [seed_values([method]) for method in methods]
        drawn = [bootstrap_values([method], 400, 0) for method in methods]
        gains = [{name: pair[1][name] - pair[0][name] for name in METRICS} for pair in (values, drawn)]
        row = {}
        for name, found in intervals(values[0], drawn[0], methods[0], 0.95).items():
            row[name] = found["low"] <= first[name] <= found["high"]
        for name, found in intervals(*gains, methods[0], 0.95, difference=True).items():
            row[f"difference of {name}"] = found["low"] <= second[name] - first[name] <= found["high"]
        test = delong(*methods)
        row["DeLong"] = test["first_low"] <= aucs[0] <= test["first_high"]
        row["difference of DeLong"] = test["low"] <= aucs[1] - aucs[0] <= test["high"]
        row["narrow"] = abs(test["value"] - (aucs[1] - aucs[0])) <= 1.644854 * test["se"]
        low, high = np.quantile(drawn[0]["average_precision"], [0.025, 0.975])
        row["plain"] = low <= first["average_precision"] <= high
        rows.append(row)
    covered = pd.DataFrame(rows).mean()
    # 93 to 97 %, each end moved by the one-sided 95 % error of a share seen in so many cohorts.
    low, high = stats.binom.ppf([0.05, 0.95], cohorts, [0.93, 0.97]) / cohorts
    wanted = covered.drop(["narrow", "plain"])
    assert wanted.between(low, high).all(), wanted[~wanted.between(low, high)]
    assert covered["narrow"] < low  # so a 90 % interval would be found out,
    assert covered["plain"] < low  # and so would plain percentiles of average precision


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
