"""Time the bootstrap against a loop over scikit-learn, and count how often the 95 % intervals hold the truth.

Run: python benchmarks/bootstrap.py [--timed 10000] [--replicates 1000] [--draws 1000] [--cases 60 120 250 500]
"""

import argparse
import time

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn import metrics as sk

from hsa.evaluation.comparison import delong, paired_bootstrap
from hsa.evaluation.metrics import METRICS, bootstrap, point

GAIN = 0.05  # AUC of the second method less that of the first
SHORT = dict(zip(METRICS, ("F1", "AUC", "precision", "recall", "balanced", "AP"), strict=True))


def cohort(
    rng: np.random.Generator, cases: int, prevalence: float, auc: float, seeds: int = 1, per_patient: int = 1
) -> list[pd.DataFrame]:
    """Draw predictions of two methods with normal scores, correlated 0.6 within a class.

    Cases of one patient share their label and 0.4 of their noise; the seeds of one method differ in 0.2 of it.
    """
    patient = np.arange(cases) // per_patient
    label = (rng.random(patient[-1] + 1) < prevalence)[patient].astype(int)
    shared = np.sqrt(0.4) * rng.standard_normal(patient[-1] + 1)[patient] + np.sqrt(0.2) * rng.standard_normal(cases)
    frame = pd.DataFrame({"case_id": np.arange(cases), "patient_id": patient, "label": label})
    methods = []
    for value in (auc, auc + GAIN):
        base = np.sqrt(2) * norm.ppf(value) * (label - 0.5) + shared + np.sqrt(0.2) * rng.standard_normal(cases)
        tables = []
        for seed in range(seeds):
            score = base + np.sqrt(0.2) * rng.standard_normal(cases)
            tables.append(frame.assign(seed=seed, score=score, pred=(score > 0).astype(int)))
        methods.append(pd.concat(tables, ignore_index=True))
    return methods


def truth(auc: float, prevalence: float) -> dict[str, float]:
    """Give the metrics of an endless `cohort`, threshold half-way between the classes."""
    gap = np.sqrt(2) * norm.ppf(auc)
    hit, share = norm.cdf(gap / 2), np.array([prevalence, 1 - prevalence])  # sensitivity, which is specificity too
    called = share * hit + share[::-1] * (1 - hit)
    cuts, step = np.linspace(-8, 8 + gap, 100_001, retstep=True)
    true, false = prevalence * norm.sf(cuts - gap), (1 - prevalence) * norm.sf(cuts)
    return {
        "weighted_f1": float((share * 2 * share * hit / (share + called)).sum()),
        "roc_auc": auc,
        "macro_precision": float((share * hit / called).mean()),
        "macro_recall": float(hit),
        "balanced_accuracy": float(hit),
        "average_precision": float((true / (true + false) * norm.pdf(cuts - gap)).sum() * step),
    }


def coverage(replicates: int, draws: int, cases: int, prevalence: float, auc: float, **more: int) -> pd.Series:
    """Give the share of cohorts whose 95 % interval holds the truth: metrics, their differences (d), DeLong's."""
    first, second = truth(auc, prevalence), truth(auc + GAIN, prevalence)
    rng = np.random.default_rng([cases, round(100 * prevalence), round(100 * auc), *more.values()])
    rows = []
    while len(rows) < replicates:
        one, other = cohort(rng, cases, prevalence, auc, **more)
        if one.groupby("label")["patient_id"].nunique().reindex([0, 1]).fillna(0).min() < 3:
            continue  # nobody would estimate anything from two positives
        alone, paired, tested = bootstrap(one, draws), paired_bootstrap(one, other, draws), delong(one, other)
        row = {}
        for name in METRICS:
            row[SHORT[name]] = alone[name]["low"] <= first[name] <= alone[name]["high"]
            gain = second[name] - first[name]
            row[f"d {SHORT[name]}"] = paired[name]["low"] <= gain <= paired[name]["high"]
        row["DeLong"] = tested["first_low"] <= auc <= tested["first_high"]
        row["d DeLong"] = tested["low"] <= GAIN <= tested["high"]
        rows.append(row)
    held = pd.DataFrame(rows).mean()
    return held[sorted(held.index, key=lambda name: name.startswith("d "))].drop(["balanced", "d balanced"])


def naive(frame: pd.DataFrame, draws: int) -> None:
    """Score resampled cases one sample at a time."""
    rng = np.random.default_rng(0)
    label, score, pred = (frame[name].to_numpy() for name in ("label", "score", "pred"))
    for _ in range(draws):
        rows = rng.integers(0, len(frame), len(frame))
        sk.f1_score(label[rows], pred[rows], average="weighted")
        sk.roc_auc_score(label[rows], score[rows])
        sk.precision_score(label[rows], pred[rows], average="macro", zero_division=0)
        sk.recall_score(label[rows], pred[rows], average="macro")
        sk.balanced_accuracy_score(label[rows], pred[rows])
        sk.average_precision_score(label[rows], score[rows])


def main() -> None:
    """Print the times and the table of coverages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timed", type=int, default=10_000, help="bootstrap samples that are timed")
    parser.add_argument("--replicates", type=int, default=1000, help="simulated cohorts a row")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap samples a cohort")
    parser.add_argument("--cases", type=int, nargs="*", default=[60, 120, 250, 500], help="sizes of the cohorts")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    point(cohort(rng, 500, 0.5, 0.75)[0])
    for cases, seeds in ((500, 1), (500, 5), (2000, 1)):
        frame = cohort(rng, cases, 0.5, 0.75, seeds)[0]
        start = time.process_time()
        bootstrap(frame, asked.timed)
        spent = time.process_time() - start
        print(f"hsa: {asked.timed:,} draws, {cases} cases, {seeds} seed(s), all metrics: {spent:.2f} CPU s")
    frame = cohort(rng, 500, 0.5, 0.75)[0]
    start = time.process_time()
    naive(frame, max(1, asked.timed // 100))
    print(f"loop over scikit-learn, 500 cases, a hundredth of these draws: {time.process_time() - start:.2f} CPU s")

    error = np.sqrt(0.95 * 0.05 / asked.replicates)
    print(f"\ncoverage of 95 % intervals in %; {asked.replicates} cohorts a row, Monte-Carlo error {100 * error:.1f}")
    settings = [(n, p, auc, {}) for n in asked.cases for p in (0.17, 0.5) for auc in (0.65, 0.75, 0.85)]
    settings += [(n, 0.17, 0.75, more) for n in asked.cases for more in ({"seeds": 5}, {"per_patient": 2})]
    rows = {}
    for cases, prevalence, auc, more in settings:
        extra = "".join(f", {name} {value}" for name, value in more.items())
        held = coverage(asked.replicates, asked.draws, cases, prevalence, auc, **more)
        rows[f"{cases} cases, {prevalence}, AUC {auc}{extra}"] = 100 * held
    print(pd.DataFrame(rows).T.round(1).to_string())


if __name__ == "__main__":
    main()
