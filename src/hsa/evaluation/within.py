"""AUC within folds: each fold's test cases ranked among themselves, then the mean over folds.

Every fold has its own encoder, its own embedding space and its own probe, so scores of different folds share no scale.
To pool them before ranking mixes what a method knows with how its folds happen to be scaled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hsa.errors import InputError
from hsa.evaluation.comparison import auc_covariance, matched, with_seeds
from hsa.evaluation.metrics import by_seed
from hsa.evaluation.ranking import roc_auc


def within_folds(predictions: pd.DataFrame) -> pd.DataFrame:
    """Compute the AUC of each fold and seed on its own test cases.

    Args:
        predictions: case_id, patient_id, fold, label, score; `seed` where there are several. Test cases alone.

    Returns:
        seed (0 where none is named), fold, auc, positives, negatives: a row a seed and fold.

    Raises:
        InputError: a fold without one of the classes.
    """
    frame = predictions if "seed" in predictions else predictions.assign(seed=0)
    rows = []
    for (seed, fold), cases in frame.groupby(["seed", "fold"]):
        positive = int((cases["label"] == 1).sum())
        if not 0 < positive < len(cases):
            raise InputError(f"fold {fold}: its test cases are of one class, so none can be ranked; use fewer folds.")
        auc = roc_auc(cases["label"].to_numpy(), cases["score"].to_numpy())
        rows.append({"seed": seed, "fold": fold, "auc": auc, "positives": positive, "negatives": len(cases) - positive})
    return pd.DataFrame(rows)


def mean_auc(predictions: pd.DataFrame, level: float = 0.95) -> dict[str, Any]:
    """Compute a method's mean over folds and seeds of the AUC within folds, as `contrast` computes a difference.

    Returns:
        value, low, high, se, over cases and seeds; n (cases), folds, seeds, seed_sd.

    Raises:
        InputError: as `contrast`.
    """
    found = _estimate([by_seed(predictions.sort_values("case_id", ignore_index=True))], np.array([1.0]), level)
    return {key: found[key] for key in ("value", "low", "high", "se", "n", "folds", "seeds", "seed_sd")}


def contrast(first: pd.DataFrame, second: pd.DataFrame, level: float = 0.95) -> dict[str, Any]:
    """Compare two methods by the mean over folds of the AUC within folds, other cases and other seeds allowed for.

    In each fold the difference of the two AUCs, a mean over seeds, has DeLong's variance (1988; by patient, Obuchowski
    1997). Folds share no test case, so the variance of their mean is the sum of theirs over the square of their number.
    The variance of the mean over seeds, of differences paired by seed, is added (`comparison.with_seeds`). What other
    deals of the folds and other training cases would change is in neither.

    Args:
        first: predictions of one method on the test cases of every fold, as for `within_folds`, and pred (0 or 1).
        second: predictions of the other, for the same cases and seeds.
        level: coverage of the intervals.

    Returns:
        first, second: the two AUCs; value: second - first; low, high, se and the two-sided p of no difference, over
        cases and seeds; cases_low, cases_high: over cases alone; n (cases), folds, seeds, seed_sd (of the differences,
        None for one seed).

    Raises:
        InputError: the two hold different cases or seeds, or a fold has fewer than two patients of a class.
    """
    found = _estimate(list(matched(first, second)), np.array([-1.0, 1.0]), level)
    return {"first": found["means"][0], "second": found["means"][1], **{k: v for k, v in found.items() if k != "means"}}


def verdict(found: Mapping[str, float], adjusted: float, level: float = 0.05) -> str:
    """Say what a contrast shows: "higher" or "lower" where the corrected p value is below the level, else "open"."""
    if adjusted >= level:
        return "open"
    return "higher" if found["value"] > 0 else "lower"


def _estimate(methods: Sequence[Sequence[pd.DataFrame]], turn: np.ndarray, level: float) -> dict[str, Any]:
    """Estimate a weighted sum of the methods' AUCs within folds; each method is a table a seed, of the same cases."""
    first = methods[0][0]
    folds = first["fold"].to_numpy()
    if any((table["fold"].to_numpy() != folds).any() for tables in methods for table in tables):
        raise InputError("predictions: a case is tested in different folds; compare methods on one deal of the folds.")
    label, patient = first["label"].to_numpy() == 1, first["patient_id"].to_numpy()
    scores = np.stack([[table["score"] for table in tables] for tables in methods])  # (methods, seeds, n)
    numbers = np.unique(folds)
    means, variance, shares = np.zeros(len(methods)), 0.0, []
    for fold in numbers:
        here = folds == fold
        groups, positive = pd.factorize(patient[here])[0], label[here]
        if min(len(set(groups[positive])), len(set(groups[~positive]))) < 2:
            raise InputError(f"fold {fold}: fewer than two patients of a class among its test cases; use fewer folds.")
        auc, up, down, cross, counts = auc_covariance(scores[:, :, here], positive, groups)
        means += auc / len(numbers)
        parts = np.array([turn @ up @ turn, turn @ down @ turn]) / len(numbers) ** 2
        variance += parts.sum() + turn @ cross @ turn / len(numbers) ** 2
        shares += list(zip(parts, counts - 1, strict=True))
    error = float(np.sqrt(max(variance, 0.0)))
    spread = sum(part**2 / free for part, free in shares)
    free = max(1.0, float(sum(part for part, _ in shares) ** 2 / spread)) if spread > 0 else 1.0
    by_run = np.sum([weight * _each_seed(tables) for weight, tables in zip(turn, methods, strict=True)], axis=0)
    seeds, value = len(by_run), float(turn @ means)
    seed_sd = float(by_run.std(ddof=1)) if seeds > 1 else None
    half = float(stats.t.ppf(0.5 + level / 2, free)) * error
    cases = {"value": value, "low": value - half, "high": value + half}
    return {
        "means": means.tolist(),
        **with_seeds({**cases, "n": free + 1, "seeds": seeds, "seed_sd": seed_sd}, level),
        "cases_low": cases["low"],
        "cases_high": cases["high"],
        "n": len(label),
        "folds": len(numbers),
        "seeds": seeds,
        "seed_sd": seed_sd,
    }


def _each_seed(tables: Sequence[pd.DataFrame]) -> np.ndarray:
    """Mean over folds of the AUC within folds, of each seed in order (seeds,)."""
    return np.array([within_folds(table.assign(seed=0))["auc"].mean() for table in tables])
