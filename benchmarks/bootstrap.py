"""Time the bootstrap against a loop over scikit-learn, and count how often its intervals hold the truth.

Run: python benchmarks/bootstrap.py [--replicates 1000]
"""

import argparse
import time

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from hsa.metrics import METRICS, bootstrap, point


def cohort(cases: int, seed: int, per_patient: int = 1) -> pd.DataFrame:
    """Draw predictions of two overlapping classes; cases of one patient share their label and half their noise."""
    rng = np.random.default_rng(seed)
    patient = np.arange(cases) // per_patient
    label = rng.integers(0, 2, patient[-1] + 1)[patient]
    shared = rng.standard_normal(patient[-1] + 1)[patient]
    noise = np.sqrt(0.5) * (shared + rng.standard_normal(cases)) if per_patient > 1 else shared
    score = 1 / (1 + np.exp(-(1.5 * (label - 0.5) + noise)))
    frame = pd.DataFrame({"case_id": np.arange(cases), "patient_id": patient, "fold": 0, "label": label})
    return frame.assign(score=score, pred=(score > 0.5).astype(int))


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


def coverage(cases: int, per_patient: int, replicates: int) -> pd.Series:
    """Give the share of replicates whose 95 % interval holds the value of a very large cohort."""
    truth = point(cohort(400_000, 0, per_patient))
    held = pd.DataFrame(
        {name: r["low"] <= truth[name] <= r["high"] for name, r in bootstrap(cohort(cases, seed, per_patient)).items()}
        for seed in range(1, replicates + 1)
    )
    return held.mean()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1000, help="simulated cohorts a row")
    replicates = parser.parse_args().replicates
    frame = cohort(200, 0)
    bootstrap(frame, 100)
    for cases in (200, 1000):
        start = time.process_time()
        bootstrap(cohort(cases, 0), 10_000)
        print(
            f"hsa: 10,000 draws of {cases} cases, all {len(METRICS)} metrics: {time.process_time() - start:.2f} CPU s"
        )
    start = time.process_time()
    naive(frame, 100)
    print(f"loop over scikit-learn, 200 cases: {100 * (time.process_time() - start):.0f} CPU s (100 draws, scaled)")
    print(f"\ncoverage of nominal 95 % intervals, {replicates} cohorts a row")
    rows = {}
    for cases, per_patient in ((60, 1), (120, 1), (180, 1), (500, 1), (240, 2)):
        rows[f"{cases} cases, {per_patient} a patient"] = coverage(cases, per_patient, replicates)
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == "__main__":
    main()
