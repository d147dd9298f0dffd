"""From scores to decisions: recalibrated probabilities, and what acting on them is worth.

Predictions are as `hsa.screening.triage` describes them: validation and test rows of one method, one or more seeds.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from hsa.evaluation.metrics import patient_draws
from hsa.screening.triage import folds_of, spread

CHANCES = tuple(np.arange(1, 61) / 100)


def recalibrated(predictions: pd.DataFrame) -> pd.DataFrame:
    """Turn scores into probabilities of this cohort, by a logistic recalibration on each fold's validation cases.

    The probe weighs all classes equally, so its scores are probabilities where each is as common.
    Platt (1999): p = sigmoid(a logit(score) + b), fitted to targets (P + 1) / (P + 2) and 1 / (N + 2), so that it
    exists for separable and for one-sided cases too. A negative slope, which would turn the ranking
    round, is replaced by zero: the share of positives for everybody.

    Args:
        predictions: as this module says.

    Returns:
        The test rows with the new score, and pred 1 where it is above 0.5.

    Raises:
        InputError: predictions that are not as this module says.
    """
    cases, parts = folds_of(predictions)
    rows = []
    for part in parts:
        slope, intercept = platt(part.val_label, part.val_score)
        score = expit(slope * _logit(part.test_score) + intercept)
        rows.append(cases.iloc[part.test].assign(fold=part.fold, seed=part.seed, split="test", score=score))
    frame = pd.concat(rows).sort_values(["seed", "case_id"], ignore_index=True)
    frame["pred"] = (frame["score"] > 0.5).astype(int)
    return frame


def platt(label: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Fit slope and intercept of `recalibrated` to labels (n,) and scores (n,) in [0, 1]."""
    label = label.astype(bool)
    positives, negatives = label.sum(), (~label).sum()
    target = np.where(label, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x, y = np.tile(_logit(score), 2)[:, None], np.repeat([1, 0], len(label))
    fitted = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(x, y, np.r_[target, 1 - target])
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return (slope, intercept) if slope > 0 else (0.0, float(_logit(target.mean())))


def decision_curve(
    probabilities: pd.DataFrame,
    chances: Sequence[float] = CHANCES,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute net benefit over threshold probabilities (Vickers & Elkin 2006).

    Whoever stains from probability t upwards holds one found positive worth (1 - t) / t needless stains:
    net benefit = TP / n - FP / n * t / (1 - t), in found positives a case.

    Args:
        probabilities: from `recalibrated`: the scores must be probabilities of this cohort.
        chances: threshold probabilities t, in (0, 1).
        draws: number of bootstrap samples. The recalibration is kept as it is.
        seed: seed of the draws.

    Returns:
        A row a threshold: chance, value, low, high (95 %), all (net benefit of staining everybody); that of
        staining nobody is 0.
    """
    frame = probabilities.assign(seed=probabilities.get("seed", 0))
    frame = frame.sort_values(["seed", "case_id"])
    first = frame[frame["seed"] == frame["seed"].iloc[0]]
    t = np.asarray(chances, float)
    gain = np.where(first["label"].to_numpy()[:, None] == 1, 1.0, -t / (1 - t))  # (n, T), if stained
    scores = [rows["score"].to_numpy()[:, None] for _, rows in frame.groupby("seed")]
    earned = gain * np.mean([score >= t for score in scores], axis=0)

    samples = [w @ earned / w.sum(1, keepdims=True) for w in patient_draws(first["patient_id"], draws, seed)]
    low, high = spread(np.concatenate(samples))
    return pd.DataFrame({"chance": t, "value": earned.mean(0), "low": low, "high": high, "all": gain.mean(0)})


def _logit(score: np.ndarray) -> np.ndarray:
    """Log odds; a score of 0 or 1 counts as 1e-6 away from it."""
    return logit(np.clip(score, 1e-6, 1 - 1e-6))
